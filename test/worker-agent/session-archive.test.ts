/**
 * Goal: a session arrives in another folder as if it had been made there, holds no key, and an
 * agent that forges its files gets nothing out of it: no other file is read, none written.
 */
import assert from "node:assert/strict";
import {
  linkSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { DatabaseSync } from "node:sqlite";
import { test } from "node:test";
import { gzipSync } from "node:zlib";
import { packSession, unpackSession } from "../../worker-agent/session-archive.ts";
import { rewriteDatabase } from "../../worker-agent/session-databases.ts";

const SECRET = "vk-secret-of-this-trial";
const PATHS = [".cli/sessions", "history.md", "state.db", "state.db-wal"];
const OPTIONS = { paths: PATHS, secret: SECRET, bytesMax: 1_000_000, uid: null };

function openFolders() {
  const folder = mkdtempSync(join(tmpdir(), "autocode-session-"));
  const roomsOf = (name: string) => {
    const rooms = { home: join(folder, name, "home"), workspace: join(folder, name, "workspace") };
    for (const room of Object.values(rooms)) mkdirSync(room, { recursive: true });
    return rooms;
  };
  return {
    folder,
    old: roomsOf("allocation_old"),
    next: roomsOf("allocation_another"),
    [Symbol.dispose]: () => rmSync(folder, { recursive: true }),
  };
}

function write(file: string, content: string | Buffer): void {
  mkdirSync(dirname(file), { recursive: true });
  writeFileSync(file, content);
}

const dashed = (path: string) => path.replaceAll(/[^A-Za-z0-9]/g, "-");

test("paths follow it, in names and in texts, and the key does not", async () => {
  using folders = openFolders();
  const { old, next } = folders;
  const name = dashed(old.workspace);
  const line = JSON.stringify({ cwd: old.workspace, project: name, key: SECRET, text: "é" });
  write(join(old.home, `.cli/sessions/${name}/one.jsonl`), line);
  write(join(old.home, "history.md"), `Read ${old.workspace}/src/a.js\n`);
  write(join(old.home, ".cli/config.json"), SECRET);
  const packed = await packSession(old, OPTIONS);
  assert.ok(packed.outcome === "packed");
  assert.equal(packed.fileCount, 2);

  assert.deepEqual(await unpackSession(next, packed.archive, OPTIONS), {
    databases: [],
    moves: [[dirname(old.workspace), dirname(next.workspace)]],
  });
  assert.deepEqual(readdirSync(next.home).sort(), [".cli", "history.md"]);
  const restored = `.cli/sessions/${dashed(next.workspace)}/one.jsonl`;
  assert.deepEqual(JSON.parse(readFileSync(join(next.home, restored), "utf8")), {
    cwd: next.workspace,
    project: dashed(next.workspace),
    key: "x".repeat(SECRET.length),
    text: "é",
  });
  assert.equal(
    readFileSync(join(next.home, "history.md"), "utf8"),
    `Read ${next.workspace}/src/a.js\n`,
  );
});

test("a database keeps its pages, and is moved by its own program", async () => {
  using folders = openFolders();
  const { old, next } = folders;
  const database = new DatabaseSync(join(old.home, "state.db"));
  database.exec("pragma journal_mode = wal");
  database.exec('create table session (id integer, "a ""b" text, raw blob)');
  const insert = database.prepare("insert into session values (1, ?, ?)");
  insert.run(`${old.workspace} and ${SECRET.slice(3)}`, Buffer.from(old.workspace));
  const packed = await packSession(old, OPTIONS);
  database.close();
  assert.ok(packed.outcome === "packed");
  assert.equal(packed.fileCount, 2, "the write-ahead log goes with its database");

  const { databases, moves } = await unpackSession(next, packed.archive, OPTIONS);
  assert.deepEqual(databases, [join(next.home, "state.db")]);
  for (const [from, to] of moves) rewriteDatabase(databases[0] ?? "", from, to);
  const moved = new DatabaseSync(databases[0] ?? "");
  const [row] = moved.prepare("select * from session").all();
  moved.close();
  assert.equal(row?.['a "b'], `${next.workspace} and ${SECRET.slice(3)}`);
  assert.deepEqual(Buffer.from(row?.["raw"] as Uint8Array).toString(), old.workspace);
});

test("links and other people's files are no part of it", async () => {
  using folders = openFolders();
  const { folder, old } = folders;
  const foreign = join(folder, "foreign");
  write(join(foreign, "secret.txt"), "theirs");
  mkdirSync(join(old.home, ".cli"));
  symlinkSync(foreign, join(old.home, ".cli/sessions"));
  symlinkSync(join(foreign, "secret.txt"), join(old.home, "history.md"));
  linkSync(join(foreign, "secret.txt"), join(old.home, "state.db"));
  assert.deepEqual(await packSession(old, OPTIONS), { outcome: "empty" });

  rmSync(join(old.home, ".cli/sessions"));
  write(join(old.home, ".cli/sessions/a"), "ours");
  symlinkSync(foreign, join(old.home, ".cli/sessions/folder"));
  const packed = await packSession(old, OPTIONS);
  assert.ok(packed.outcome === "packed" && packed.fileCount === 1);
  const uid = (process.getuid?.() ?? 0) + 1;
  assert.deepEqual(await packSession(old, { ...OPTIONS, uid }), { outcome: "empty" });
});

test("a session past its bounds is none", async () => {
  using folders = openFolders();
  const { old } = folders;
  write(join(old.home, ".cli/sessions/a"), Buffer.alloc(600_000));
  write(join(old.home, ".cli/sessions/b"), Buffer.alloc(600_000));
  assert.deepEqual(await packSession(old, OPTIONS), { outcome: "too_large" });
  rmSync(join(old.home, ".cli"), { recursive: true });
  for (let index = 0; index <= 1_000; index++) write(join(old.home, `.cli/sessions/${index}`), "");
  assert.deepEqual(await packSession(old, OPTIONS), { outcome: "too_large" });
});

test("a forged archive writes nothing outside of where sessions are", async () => {
  using folders = openFolders();
  const { next } = folders;
  const folder = dirname(next.workspace);
  for (const path of [
    "../workspace/evil",
    ".cli/sessions/../../.gitconfig",
    ".cli/other",
    "/etc/evil",
    "",
    ".cli/sessionsX",
  ]) {
    const files = [{ path, content: "" }];
    const archive = gzipSync(JSON.stringify({ version: 1, folders: [folder, folder], files }));
    await assert.rejects(unpackSession(next, archive, OPTIONS), /archive holds/);
  }
  assert.deepEqual(readdirSync(next.home), []);
  assert.deepEqual(readdirSync(next.workspace), []);
  for (const broken of [
    Buffer.from("no gzip"),
    gzipSync("{}"),
    gzipSync(Buffer.alloc(9_000_000)),
  ]) {
    await assert.rejects(unpackSession(next, broken, OPTIONS));
  }
});

/**
 * Goal: a session arrives in another folder as if it had been made there, holds no key, and an
 * agent that forges its files gets nothing out of it: no other file is read, none written.
 */
import assert from "node:assert/strict";
import {
  appendFileSync,
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
import { rewriteDatabase } from "../../worker-agent/session-databases.ts";
import { readSession, writeSession } from "../../worker-agent/session-files.ts";

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
  const packed = await readSession(old, OPTIONS);
  assert.ok(packed.outcome === "read");
  assert.equal(packed.files.length, 2);

  assert.deepEqual(await writeSession(next, packed, PATHS), {
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
  const packed = await readSession(old, OPTIONS);
  database.close();
  assert.ok(packed.outcome === "read");
  assert.equal(packed.files.length, 2, "the write-ahead log goes with its database");

  const { databases, moves } = await writeSession(next, packed, PATHS);
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
  assert.deepEqual(await readSession(old, OPTIONS), { outcome: "empty" });

  rmSync(join(old.home, ".cli/sessions"));
  write(join(old.home, ".cli/sessions/a"), "ours");
  symlinkSync(foreign, join(old.home, ".cli/sessions/folder"));
  const packed = await readSession(old, OPTIONS);
  assert.ok(packed.outcome === "read" && packed.files.length === 1);
  const uid = (process.getuid?.() ?? 0) + 1;
  assert.deepEqual(await readSession(old, { ...OPTIONS, uid }), { outcome: "empty" });
});

test("a session past its bounds is none", async () => {
  using folders = openFolders();
  const { old } = folders;
  write(join(old.home, ".cli/sessions/a"), Buffer.alloc(600_000));
  write(join(old.home, ".cli/sessions/b"), Buffer.alloc(600_000));
  assert.deepEqual(await readSession(old, OPTIONS), { outcome: "too_large" });
  rmSync(join(old.home, ".cli"), { recursive: true });
  for (let index = 0; index <= 1_000; index++) write(join(old.home, `.cli/sessions/${index}`), "");
  assert.deepEqual(await readSession(old, OPTIONS), { outcome: "too_large" });
});

test("a forged session writes nothing outside of where sessions are", async () => {
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
    const forged = { folders: [folder, folder] as const, files: [{ path, content: Buffer.of() }] };
    await assert.rejects(writeSession(next, forged, PATHS), /the session holds/);
  }
  assert.deepEqual(readdirSync(next.home), []);
  assert.deepEqual(readdirSync(next.workspace), []);
});

test("a text that is being written is read all the same, a database is not", async () => {
  using folders = openFolders();
  const { old } = folders;
  const log = join(old.home, ".cli/sessions/a.jsonl");
  write(log, "first\n");
  const writing = setInterval(() => appendFileSync(log, "more\n"), 1);
  try {
    const text = await readSession(old, OPTIONS);
    assert.ok(text.outcome === "read" && text.files[0]?.content.toString().startsWith("first\n"));
    write(join(old.home, "state.db"), "SQLite format 3\0");
    assert.deepEqual(await readSession(old, OPTIONS), { outcome: "unsettled" });
  } finally {
    clearInterval(writing);
  }
});

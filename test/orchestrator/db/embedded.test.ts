/**
 * The embedded server: first and second start, one orchestrator a folder, and what an orchestrator
 * killed with SIGKILL leaves behind. Each test has a server of its own, as an installation has.
 */
import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { once } from "node:events";
import { chmod, mkdir, readdir, readFile, stat, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { test } from "node:test";
import { fileURLToPath } from "node:url";
import { sql } from "drizzle-orm";
import { openEmbeddedDatabase } from "../../../orchestrator/db/embedded.ts";
import { openPostgresDatabase } from "../../../orchestrator/db/postgres.ts";
import { rows } from "../../../orchestrator/db/rows.ts";
import { createLog } from "../../../orchestrator/runtime/log.ts";
import { openTestEmbedded, openTestFolder } from "../../support/embedded.ts";

const HOLDER = fileURLToPath(new URL("../../support/embedded-holder.ts", import.meta.url));
const log = createLog("silent");

test("a second start finds what the first one kept, and no process is left", async () => {
  await using folder = await openTestFolder();
  const dir = join(folder.path, "home", "shared", "postgres");
  const pids: number[] = [];
  for (const expected of [[], [{ id: 1 }]]) {
    await using database = await openTestEmbedded(dir);
    pids.push(database.serverPid());
    await database.sql.execute(sql`create table if not exists kept (id integer)`);
    assert.deepEqual(await rows(database.sql, sql`select id from kept`), expected);
    const settings = await rows(
      database.sql,
      sql`select current_setting('fsync') as fsync, current_setting('data_checksums') as checksums,
        current_setting('listen_addresses') as listens`,
    );
    assert.deepEqual(settings, [{ fsync: "on", checksums: "on", listens: "127.0.0.1" }]);
    if (expected.length === 0) await database.sql.execute(sql`insert into kept values (1)`);
  }
  for (const pid of pids) assert.throws(() => process.kill(pid, 0), { code: "ESRCH" });
  assert.equal((await stat(join(dir, "password"))).mode & 0o777, 0o600);
  assert.ok(!(await readdir(dir)).includes("password.new"));
});

test("two orchestrators cannot share a folder", async () => {
  await using folder = await openTestFolder();
  await using first = await openTestEmbedded(folder.path);
  await assert.rejects(openEmbeddedDatabase({ dir: folder.path, log }), {
    code: "conflict",
    message: new RegExp(`process ${process.pid}\\) uses ${folder.path}: stop it, or set`),
  });
  assert.equal((await rows(first.sql, sql`select 1 as one`)).length, 1);
});

test("a killed orchestrator's server is taken over, its commits with it", async () => {
  await using folder = await openTestFolder();
  const holder = spawn(process.execPath, [HOLDER, folder.path], {
    stdio: ["ignore", "pipe", "inherit"],
  });
  const [line] = await once(createInterface({ input: holder.stdout }), "line");
  const { pid } = JSON.parse(String(line)) as { pid: number };
  holder.kill("SIGKILL");
  await once(holder, "exit");
  process.kill(pid, 0);

  await using database = await openTestEmbedded(folder.path);
  assert.throws(() => process.kill(pid, 0), { code: "ESRCH" });
  assert.deepEqual(await rows(database.sql, sql`select id from kept`), [{ id: 1 }]);
});

test("a process id that now belongs to somebody else does not keep it from starting", async () => {
  await using folder = await openTestFolder();
  let started: number;
  {
    await using database = await openTestEmbedded(folder.path);
    started = database.serverPid();
  }
  assert.throws(() => process.kill(started, 0), { code: "ESRCH" });
  // As a restarted container finds it: our own process has the id that the file names.
  const pidFile = join(folder.path, "data", "postmaster.pid");
  const data = join(folder.path, "data");
  await writeFile(pidFile, `${process.pid}\n${data}\n1\n5432\n\n127.0.0.1\n  1 1\nready   \n`);
  await using database = await openTestEmbedded(folder.path);
  assert.equal((await rows(database.sql, sql`select 1 as one`)).length, 1);
});

test("what cannot work is said in one line that names the folder and the fix", async (t) => {
  await using folder = await openTestFolder();
  const file = join(folder.path, "file");
  await writeFile(file, "");
  await assert.rejects(openEmbeddedDatabase({ dir: join(file, "postgres"), log }), {
    code: "invalid_request",
    message: `The data folder ${file}/postgres cannot be written: make it writable, or set AUTOCODE_HOME`,
  });

  const closed = join(folder.path, "closed");
  await mkdir(join(closed, "postgres"), { recursive: true });
  await chmod(closed, 0o700);
  await t.test(
    "root's own folder",
    { skip: process.getuid?.() === 0 ? false : "only root runs the server as another user" },
    () =>
      assert.rejects(openEmbeddedDatabase({ dir: join(closed, "postgres"), log }), {
        code: "invalid_request",
        message: /may not enter .*closed: set AUTOCODE_HOME/,
      }),
  );

  const data = join(folder.path, "broken", "data");
  await mkdir(data, { recursive: true });
  await writeFile(join(data, "PG_VERSION"), "9\n");
  await assert.rejects(openEmbeddedDatabase({ dir: join(folder.path, "broken"), log }), {
    code: "unavailable",
    message: /^PostgreSQL did not start: .+server\.log\)$/,
  });
  assert.match(await readFile(join(folder.path, "broken", "server.log"), "utf8"), /FATAL|data/);
  await assert.rejects(openPostgresDatabase({ url: "postgresql://a@127.0.0.1:1/b", log }), {
    code: "unavailable",
    message: /check DATABASE_URL/,
  });
});

test("a listener is told when it may have missed something", async () => {
  await using folder = await openTestFolder();
  await using database = await openTestEmbedded(folder.path);
  const received: string[] = [];
  const reconnected = Promise.withResolvers<void>();
  let heard = Promise.withResolvers<void>();
  await using _listening = await database.listen(
    "news",
    (payload) => {
      received.push(payload);
      heard.resolve();
    },
    reconnected.resolve,
  );
  await database.sql.execute(sql`select pg_notify('news', 'one')`);
  await heard.promise;
  heard = Promise.withResolvers<void>();
  process.kill(database.serverPid(), "SIGKILL");
  await reconnected.promise;
  await database.sql.execute(sql`select pg_notify('news', 'two')`);
  await heard.promise;
  assert.deepEqual(received, ["one", "two"]);
});

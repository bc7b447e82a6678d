/**
 * Goal (R6, R7): whatever becomes of PostgreSQL (killed, full, read-only, out of connections, a
 * disk that fails), the gateway refuses with 503 and says when to come back, what runs finishes
 * and is settled when the server is back, calls are served within ten seconds of that, and no
 * transfer that was acknowledged is lost.
 *
 * Method: a server with disk flushes on, and a fault each. A full disk is a small tmpfs under the
 * write-ahead log (root alone can mount one), a failing one a library that answers EIO to flushes
 * (`gcc` makes it): where they cannot be had, those tests are skipped by name. The full form kills
 * the server SERVER_KILLS=20 times.
 */
import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { cp, mkdir, rename, rm, stat, statfs, symlink, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { sql } from "drizzle-orm";
import pg from "pg";
import { openTestFolder } from "../support/embedded.ts";
import { eventually } from "../support/eventually.ts";
import { type ChaosServer, openChaosServer } from "./postgres.ts";
import { type ChaosWorld, openChaosWorld } from "./world.ts";

const SERVER_KILLS = Number(process.env["SERVER_KILLS"] ?? 3);
const PACE_MS = 10;
/** A stream of about a second and a half. */
const LONG_TOKENS = 600;
const SHORT_TOKENS = 8;

/** Runs `break_` while a stream runs, then `mend`: what every fault has in common. */
async function endure(
  world: ChaosWorld,
  { damage, mend }: { damage: () => Promise<void>; mend: () => Promise<void> },
): Promise<number> {
  assert.equal((await world.chat(SHORT_TOKENS)).status, 200);
  const stream = world.chat(LONG_TOKENS, true);
  await eventually(world.isAnswering, Boolean);
  await damage();
  const refused = await eventually(
    () => world.chat(SHORT_TOKENS),
    ({ status }) => status !== 200,
  );
  assert.equal(refused.status, 503, refused.text);
  assert.match(refused.retryAfter ?? "none", /^[1-9]\d*$/, "it says when to come back");
  const { status, text } = await stream;
  assert.equal(status, 200);
  assert.match(text, /\[DONE\]\s*(:.*\s*)?$/, "what ran has finished");
  await mend();
  const recoveredMs = await world.recover();
  await world.settled();
  return recoveredMs;
}

test(`R6: SIGKILL, ${SERVER_KILLS} times: nothing acknowledged is lost`, async (t) => {
  await using folder = await openTestFolder();
  await using server = await openChaosServer(folder.path);
  await using world = await openChaosWorld(server, PACE_MS);
  const tookMs: number[] = [];
  for (let kill = 0; kill < SERVER_KILLS; kill++) {
    tookMs.push(await endure(world, { damage: server.kill, mend: () => server.start() }));
  }
  await world.check();
  t.diagnostic(`served again after ${tookMs.join(", ")} ms; ${world.acknowledged()} acknowledged`);
});

test("R6: read-only, as a standby that was not promoted", async () => {
  await using folder = await openTestFolder();
  await using server = await openChaosServer(folder.path);
  await using world = await openChaosWorld(server, PACE_MS);
  const set = async (value: "on" | "off") => {
    const client = await connect(server);
    await client.query("set default_transaction_read_only = off");
    await client.query(`alter system set default_transaction_read_only = ${value}`);
    await client.query("select pg_reload_conf()");
    await client.end();
  };
  await endure(world, { damage: () => set("on"), mend: () => set("off") });
  await world.check();
});

test("R6: no connection left for it", async () => {
  await using folder = await openTestFolder();
  await using server = await openChaosServer(folder.path, { settings: { max_connections: "24" } });
  await using world = await openChaosWorld(server, PACE_MS);
  const taken: pg.Client[] = [];
  const damage = async () => {
    const first = await connect(server);
    taken.push(first);
    // Ours are cut off, and others are there first when they want to come back.
    for (let full = 0; full < 3; ) {
      await first.query(
        "select pg_terminate_backend(pid) from pg_stat_activity where application_name = 'autocode'",
      );
      const client = await connect(server).catch(() => null);
      if (client === null) full += 1;
      else taken.push(client);
    }
  };
  const mend = async () => {
    await Promise.all(taken.map((client) => client.end()));
  };
  await endure(world, { damage, mend });
  await world.check();
});

test("R6, R7: a full disk under the write-ahead log", async (t) => {
  await using folder = await openTestFolder();
  const disk = join(folder.path, "small");
  await mkdir(disk);
  if (!tried("mount", ["-t", "tmpfs", "-o", "size=96m", "tmpfs", disk])) {
    t.skip("no tmpfs can be mounted here: that takes root");
    return;
  }
  await using mounted = new AsyncDisposableStack();
  mounted.defer(() => void tried("umount", ["-l", disk]));
  await using server = await openChaosServer(folder.path);
  await server.stop();
  await moveLog(server, disk);
  await server.start({ settings: { max_wal_size: "64MB", min_wal_size: "32MB" } });
  await using world = await openChaosWorld(server, PACE_MS);
  const ballast = join(disk, "ballast");
  const damage = async () => {
    const { bavail, bsize } = await statfs(disk);
    await writeFile(ballast, Buffer.alloc(bavail * bsize)).catch(() => undefined);
    // The next segment cannot be made.
    for (let segment = 0; segment < 8; segment++) await switchLog(world);
  };
  const mend = async () => {
    await rm(ballast);
    // The server that could not write has ended, or is about to.
    await sleep(500);
    if (!server.isRunning()) await server.start();
  };
  await endure(world, { damage, mend });
  await world.check();
});

test("R7: a disk that fails to flush", async (t) => {
  await using folder = await openTestFolder();
  const library = join(folder.path, "failing-disk.so");
  const source = join(folder.path, "failing-disk.c");
  await writeFile(source, FAILING_DISK);
  if (!tried("gcc", ["-shared", "-fPIC", "-O1", "-o", library, source, "-ldl"])) {
    t.skip("there is no gcc to make a failing disk with");
    return;
  }
  const flag = join(folder.path, "fail");
  const env = { LD_PRELOAD: library, FAIL_WHEN: flag };
  await using server = await openChaosServer(folder.path, { env });
  await using world = await openChaosWorld(server, PACE_MS);
  const damage = () => writeFile(flag, "");
  const mend = async () => {
    // It has stopped granting, and its recovery does not get past what it cannot flush.
    await rm(flag);
    await server.kill();
    await server.start({ env });
  };
  await endure(world, { damage, mend });
  await world.check();
});

/** Flushes of the write-ahead log fail with EIO as long as a file says so. */
const FAILING_DISK = `
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <stdlib.h>
#include <unistd.h>
static int fails(void) {
  const char *flag = getenv("FAIL_WHEN");
  return flag != NULL && access(flag, F_OK) == 0;
}
int fsync(int fd) {
  static int (*real)(int);
  if (fails()) { errno = EIO; return -1; }
  if (real == NULL) real = (int (*)(int))dlsym(RTLD_NEXT, "fsync");
  return real(fd);
}
int fdatasync(int fd) {
  static int (*real)(int);
  if (fails()) { errno = EIO; return -1; }
  if (real == NULL) real = (int (*)(int))dlsym(RTLD_NEXT, "fdatasync");
  return real(fd);
}
`;

async function connect(server: ChaosServer): Promise<pg.Client> {
  const client = new pg.Client({ connectionString: server.url, connectionTimeoutMillis: 5_000 });
  client.on("error", () => {});
  await client.connect();
  return client;
}

/** Puts the write-ahead log of a server that stands still on another disk. */
async function moveLog({ dataDir, user }: ChaosServer, disk: string): Promise<void> {
  const from = join(dataDir, "pg_wal");
  const to = join(disk, "pg_wal");
  await cp(from, to, { recursive: true });
  await rename(from, `${from}.before`);
  await symlink(to, from);
  if (user !== null) tried("chown", ["-R", `${user.uid}:${user.gid}`, to]);
  tried("chmod", ["700", to]);
  assert.ok((await stat(from)).isDirectory());
}

async function switchLog({ database }: ChaosWorld): Promise<void> {
  await database.sql.execute(sql`select pg_switch_wal()`).then(
    () => undefined,
    () => undefined,
  );
}

function tried(file: string, args: readonly string[]): boolean {
  try {
    execFileSync(file, args, { stdio: "ignore" });
    return true;
  } catch {
    return false;
  }
}

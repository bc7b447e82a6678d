/**
 * Goal: the hook is called when a pool is short or idle for long enough, never too often, and what
 * it is sent can be proved to be ours.
 *
 * Method: the decision by examples on a clock of the test's; the call to a real HTTP server and a
 * real program.
 */
import assert from "node:assert/strict";
import { createHmac } from "node:crypto";
import { once } from "node:events";
import { chmod, mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { systemClock } from "../../../orchestrator/runtime/clock.ts";
import { createLog } from "../../../orchestrator/runtime/log.ts";
import type { Host } from "../../../orchestrator/scheduler/scheduler.ts";
import {
  type AutoscaleCall,
  decide,
  NOTHING_REMEMBERED,
  type PoolLoad,
} from "../../../orchestrator/workers/autoscale.ts";
import { createAutoscaleTask } from "../../../orchestrator/workers/autoscale-task.ts";
import { openTestDatabase } from "../../support/database.ts";

const RULES = { backlogMs: 60, idleMs: 600, cooldownMs: 300 };

test("a pool is asked about after its queue was too long for a while, then after a rest", () => {
  const short = { pending: 5, free: 2, used: 3 };
  const calls = run([
    [0, short],
    [59, short],
    // A moment without a queue begins the wait anew.
    [60, { pending: 1, free: 2, used: 3 }],
    [61, short],
    [120, short],
    [121, short],
    [300, short],
    [420, short],
    [421, short],
  ]);
  assert.deepEqual(calls, [
    [121, { pool: "p", pending: 5, free: 2, desired: 8, reason: "backlog" }],
    [421, { pool: "p", pending: 5, free: 2, desired: 8, reason: "backlog" }],
  ]);
});

test("an idle pool may shrink to what it keeps warm, and one below that grows to it", () => {
  const idle = { pending: 0, free: 4, used: 0, warm: 2 };
  assert.deepEqual(
    run([
      [0, idle],
      [599, idle],
      [600, idle],
    ]),
    [[600, { pool: "p", pending: 0, free: 4, desired: 2, reason: "idle" }]],
  );
  const cold = { pending: 0, free: 1, used: 1, warm: 2 };
  assert.deepEqual(
    run([
      [0, cold],
      [60, cold],
    ]),
    [[60, { pool: "p", pending: 0, free: 1, desired: 3, reason: "backlog" }]],
  );
  assert.deepEqual(
    run([
      [0, { ...idle, free: 2 }],
      [9_999, { ...idle, free: 2 }],
    ]),
    [],
  );
});

test("a URL is sent the signed call; one that fails is tried again after the cooldown", async () => {
  await using db = await openTestDatabase();
  const secret = "a secret of the test";
  const got: { body: string; signature: string }[] = [];
  const server = createServer((request, response) => {
    let body = "";
    request.on("data", (bytes) => {
      body += bytes;
    });
    request.on("end", () => {
      got.push({ body, signature: String(request.headers["autocode-signature"]) });
      response.writeHead(got.length === 1 ? 500 : 204).end();
    });
  });
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  const monotonic = { ms: 0 };
  const { port } = server.address() as AddressInfo;
  const options = { url: `http://127.0.0.1:${port}/scale`, command: null, secret };
  const task = open(db, { ...options, ms: () => monotonic.ms });
  try {
    await task.activate();
    monotonic.ms = 60;
    await task.activate();
    monotonic.ms = 200;
    await task.activate();
    assert.equal(got.length, 1, "the failed one counts for the cooldown");
    monotonic.ms = 360;
    await task.activate();
    const [, second] = got;
    assert.deepEqual(JSON.parse(second?.body ?? ""), {
      ...{ pool: "gpu", pending: 0, free: 1, desired: 6, reason: "backlog" },
    });
    const [, at = "", hex] = /^t=(\d+),v1=([0-9a-f]{64})$/.exec(second?.signature ?? "") ?? [];
    const expected = createHmac("sha256", secret).update(`${at}.${second?.body}`).digest("hex");
    assert.equal(hex, expected);
    assert.ok(Math.abs(Number(at) * 1000 - systemClock.now()) < 60_000);
  } finally {
    server.close();
  }
});

test("a command reads the call, and has nothing of our environment", async () => {
  await using db = await openTestDatabase();
  const folder = await mkdtemp(join(tmpdir(), "autocode-hook-"));
  try {
    const command = join(folder, "hook");
    await writeFile(command, `#!/bin/sh\ncat > ${folder}/call\nenv > ${folder}/env\n`);
    await chmod(command, 0o755);
    const monotonic = { ms: 0 };
    const task = open(db, { url: null, command, secret: null, ms: () => monotonic.ms });
    await task.activate();
    monotonic.ms = 60;
    assert.deepEqual(await task.activate(), { calls: 1 });
    assert.equal(JSON.parse(await readFile(join(folder, "call"), "utf8")).reason, "backlog");
    assert.doesNotMatch(await readFile(join(folder, "env"), "utf8"), /HOME|AUTOCODE|DATABASE/);
  } finally {
    await rm(folder, { recursive: true });
  }
});

/** The calls over a pool's loads at these times. */
function run(loads: readonly [number, Partial<PoolLoad>][]): [number, AutoscaleCall][] {
  let memory = NOTHING_REMEMBERED;
  return loads.flatMap(([atMs, load]) => {
    const whole = { pool: "p", pending: 0, free: 0, used: 0, warm: 0, ...load };
    const decided = decide(whole, memory, RULES, atMs);
    memory = decided.memory;
    return decided.call === null ? [] : [[atMs, decided.call]];
  });
}

/** A pool that keeps five slots warm and has one free. */
function open(
  db: Parameters<typeof createAutoscaleTask>[0]["db"],
  given: { url: string | null; command: string | null; secret: string | null; ms: () => number },
) {
  const host: Host = {
    ...{ id: "1", name: "one", pool: "gpu", status: "ready", slots: 2, used: 1 },
    capabilities: null,
  };
  const { ms: monotonicMs, ...hook } = given;
  return createAutoscaleTask(
    { db, scheduler: { hosts: async () => [host] }, clock: systemClock, log: createLog("silent") },
    { ...RULES, ...hook, pools: { gpu: { warm_slots: 5 } }, periodMs: 1_000, monotonicMs },
  );
}

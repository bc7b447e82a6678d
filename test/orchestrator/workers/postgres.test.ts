/**
 * Goal: only hosts with a good token join, a name is one worker's, and silence is measured by the
 * database alone: no clock that is set gives a worker up, or keeps a dead one.
 *
 * Method: the registry over a real database; the orchestrator's clocks are set by an hour.
 */
import assert from "node:assert/strict";
import { test } from "node:test";
import { sql } from "drizzle-orm";
import { rows } from "../../../orchestrator/db/rows.ts";
import { Problem } from "../../../orchestrator/problem.ts";
import { createIds, type WorkerId } from "../../../orchestrator/runtime/ids.ts";
import { createLog } from "../../../orchestrator/runtime/log.ts";
import { systemRandom } from "../../../orchestrator/runtime/random.ts";
import { createOutagesTask } from "../../../orchestrator/workers/outages.ts";
import { createRegistry } from "../../../orchestrator/workers/postgres.ts";
import { openTestDatabase } from "../../support/database.ts";

const HOUR_MS = 3_600_000;
const LEASE_MS = 30_000;
const MACHINE = {
  ...{ cpus: 4, memory_bytes: 2 ** 33, gpus: [], arch: "x64", vm_template: null, agents: [] },
};
const SAID = { is_leaving: false, slots: 2, capabilities: MACHINE, run_id: "r", number: 1 };
const NOW = { isFirst: true };
const log = createLog("silent");

test("a token lets as many hosts join as it says, for as long, and is kept hashed", async () => {
  await using fixture = await openRegistry();
  const { registry, db } = fixture;
  const made = await registry.issueJoinToken({ pool: "gpu", uses: 2, ttl_ms: 60_000 });
  assert.deepEqual(await registry.plan(made.token), { pool: "gpu", agents: ["codex"] });
  const one = await join("one", made.token);
  await join("two", made.token);
  await refused(join("three", made.token), "unauthenticated", /unknown, used up or expired/);
  await refused(registry.plan(made.token), "unauthenticated", /worker token/);
  assert.equal(await registry.authenticate(one.worker_token), one.worker_id);
  assert.equal((await registry.plan(one.worker_token)).pool, "gpu");
  for (const wrong of ["", made.token, `${one.worker_token}x`, "' or 1=1 --"]) {
    await refused(registry.authenticate(wrong), "unauthenticated", /join again/);
  }
  const stored = JSON.stringify(
    await rows(
      db.sql,
      sql`select encode(token_sha256, 'escape') as t, worker::text as row from worker
        union all select encode(token_sha256, 'escape'), join_token::text from join_token`,
    ),
  );
  assert.ok(!stored.includes(one.worker_token) && !stored.includes(made.token));

  const brief = await registry.issueJoinToken({ pool: "gpu", uses: 1, ttl_ms: 1_000 });
  await db.sql.execute(sql`update join_token set expires_at = clock_timestamp()
    where id = ${brief.id}`);
  await refused(join("late", brief.token), "unauthenticated", /expired/);

  function join(name: string, token: string) {
    return registry.join({ join_token: token, name, slots: 1, capabilities: MACHINE });
  }
});

test("a name is one living worker's; one that comes back is the same with a new token", async () => {
  await using fixture = await openRegistry();
  const { registry, db } = fixture;
  const { token } = await registry.issueJoinToken({ pool: "default", uses: 9, ttl_ms: 60_000 });
  const request = { join_token: token, name: "one", slots: 1, capabilities: MACHINE };
  const first = await registry.join(request);
  await refused(
    registry.join(request),
    "conflict",
    /a worker "one" is alive.*AUTOCODE_WORKER_NAME/,
  );
  const [left] = await rows<{ uses_left: number }>(db.sql, sql`select uses_left from join_token`);
  assert.equal(left?.uses_left, 8, "a refused host uses nothing up");

  await silence(fixture, first.worker_id, 2 * LEASE_MS);
  const again = await registry.join(request);
  assert.equal(again.worker_id, first.worker_id);
  await refused(registry.authenticate(first.worker_token), "unauthenticated", /join again/);
  assert.equal(await registry.authenticate(again.worker_token), first.worker_id);
});

test("silence is an outage that ends with the next heartbeat", async () => {
  await using fixture = await openRegistry();
  const { registry, task } = fixture;
  const workerId = await joined(fixture, "one");
  await listenOn(fixture);
  await silence(fixture, workerId, LEASE_MS + 5_000);
  assert.deepEqual(await task.activate(), { outages: 1 });
  assert.deepEqual(await task.activate(), { outages: 0 });
  assert.deepEqual(await outages(fixture), [{ is_over: false, long_ms: LEASE_MS + 5_000 }]);
  await registry.heartbeat(workerId, SAID, NOW);
  assert.equal((await outages(fixture))[0]?.is_over, true);
});

test("what a host said before something later is refused, and so is what waited too long", async () => {
  await using fixture = await openRegistry();
  const { registry } = fixture;
  const workerId = await joined(fixture, "one");
  const say = (number: number, run_id = "r", isFirst = true) =>
    registry.heartbeat(workerId, { ...SAID, run_id, number }, { isFirst });
  await say(7);
  await say(7, "r", false);
  await refused(say(7), "conflict", /something later/);
  await refused(say(6), "conflict", /something later/);
  await say(8);
  await refused(say(7, "r", false), "conflict", /something later/);
  // The host program was started again, and counts from 1.
  await say(1, "s");
  await refused(say(8, "r", false), "conflict", /something later/);
});

test("a worker that was thrown out, and a token that was revoked, are good for nothing", async () => {
  await using fixture = await openRegistry();
  const { registry } = fixture;
  const made = await registry.issueJoinToken({ pool: "p", uses: 3, ttl_ms: 60_000 });
  const request = { join_token: made.token, name: "one", slots: 1, capabilities: MACHINE };
  const one = await registry.join(request);
  const [listed, ...rest] = await registry.listJoinTokens();
  assert.deepEqual([listed?.id, listed?.uses_left, rest], [made.id, 2, []]);
  assert.ok(!JSON.stringify(listed).includes(made.token));

  await registry.remove(one.worker_id as WorkerId);
  await refused(registry.authenticate(one.worker_token), "unauthenticated", /join again/);
  const again = await registry.join(request);
  assert.equal(again.worker_id, one.worker_id);

  await registry.revokeJoinToken(made.id);
  await refused(registry.join({ ...request, name: "two" }), "unauthenticated", /used up/);
  await refused(registry.revokeJoinToken(made.id), "not_found", /no join token/);
  assert.equal(await registry.authenticate(again.worker_token), again.worker_id);
});

test("R14: a clock that is set gives nobody up early, and keeps no dead worker", async (t) => {
  for (const jumpMs of [HOUR_MS, -HOUR_MS]) {
    await t.test(`the orchestrator's, by ${jumpMs / HOUR_MS} h`, async () => {
      await using fixture = await openRegistry();
      const { registry, task, clock } = fixture;
      const workerId = await joined(fixture, "one");
      await listenOn(fixture);
      clock.ms += jumpMs;
      assert.deepEqual(await task.activate(), { outages: 0 });
      const { token } = await registry.issueJoinToken({ pool: "p", uses: 1, ttl_ms: 60_000 });
      await registry.plan(token);
      await registry.heartbeat(workerId, SAID, NOW);
      await silence(fixture, workerId, LEASE_MS + 1_000);
      assert.deepEqual(await task.activate(), { outages: 1 }, "a dead one is found as before");
    });

    await t.test(`the database's, by ${jumpMs / HOUR_MS} h`, async () => {
      await using fixture = await openRegistry();
      const { registry, task, monotonic } = fixture;
      const workerId = await joined(fixture, "one");
      await listenOn(fixture);
      // The database cannot be set: its heartbeats are as if it had been, and so is what it says.
      fixture.databaseJumpMs.ms = jumpMs;
      await silence(fixture, workerId, jumpMs);
      assert.deepEqual(await task.activate(), { outages: 0 }, "not by the jump");
      monotonic.ms += LEASE_MS / 3;
      await registry.heartbeat(workerId, SAID, NOW);
      await listenOn(fixture);
      assert.deepEqual(await task.activate(), { outages: 0 }, "it lives");
      await silence(fixture, workerId, LEASE_MS + 1_000);
      assert.deepEqual(await task.activate(), { outages: 1 }, "a dead one is found all the same");
    });
  }

  await t.test("nor does an orchestrator that was away", async () => {
    await using fixture = await openRegistry();
    const { task, monotonic } = fixture;
    const workerId = await joined(fixture, "one");
    await listenOn(fixture);
    monotonic.ms += HOUR_MS;
    await silence(fixture, workerId, HOUR_MS);
    assert.deepEqual(await task.activate(), { outages: 0 }, "it may not have been heard");
    await listenOn(fixture);
    assert.equal((await outages(fixture)).length, 1, "a lease later it is given up");
  });
});

async function openRegistry() {
  const db = await openTestDatabase();
  const clock = { ms: 1_800_000_000_000, now: () => clock.ms };
  const monotonic = { ms: 0 };
  const databaseJumpMs = { ms: 0 };
  const ids = createIds(clock, systemRandom);
  const options = {
    leaseMs: LEASE_MS,
    agentsOf: (pool: string) => (pool === "gpu" ? ["codex"] : []),
  };
  const registry = createRegistry(db, { ids, random: systemRandom }, options);
  // What the two clocks say of each other is all that the task sees of a jump.
  const startMs = performance.now();
  const task = createOutagesTask(db, log, {
    leaseMs: LEASE_MS,
    monotonicMs: () => performance.now() - startMs + monotonic.ms - databaseJumpMs.ms,
  });
  return {
    ...{ db, registry, task, clock, monotonic, databaseJumpMs },
    [Symbol.asyncDispose]: () => db[Symbol.asyncDispose](),
  };
}

type Fixture = Awaited<ReturnType<typeof openRegistry>>;

async function joined({ registry }: Fixture, name: string): Promise<`worker_${string}`> {
  const { token } = await registry.issueJoinToken({ pool: "default", uses: 1, ttl_ms: 60_000 });
  const request = { join_token: token, name, slots: 1, capabilities: MACHINE };
  return registry.authenticate((await registry.join(request)).worker_token);
}

/** The task looks for a whole lease without a gap, as far as it can tell. */
async function listenOn({ task, monotonic }: Fixture): Promise<void> {
  await task.activate();
  for (let step = 0; step < 4; step++) {
    monotonic.ms += LEASE_MS / 3;
    await task.activate();
  }
}

async function silence({ db }: Fixture, id: string, ms: number): Promise<void> {
  await db.sql.execute(sql`update worker
    set heartbeat_at = clock_timestamp() - ${`${ms} ms`}::interval where id = ${id}`);
}

async function outages({ db }: Fixture) {
  const found = await rows<{ is_over: boolean; ms: string }>(
    db.sql,
    sql`select ended_at is not null as is_over,
      (extract(epoch from clock_timestamp() - started_at) * 1000)::bigint as ms
      from worker_outage order by started_at`,
  );
  return found.map(({ is_over, ms }) => ({
    is_over,
    long_ms: Math.floor(Number(ms) / 5_000) * 5_000,
  }));
}

async function refused(asked: Promise<unknown>, code: string, detail: RegExp): Promise<void> {
  await assert.rejects(asked, (error) => {
    assert.ok(error instanceof Problem, String(error));
    assert.equal(error.code, code);
    assert.match(error.message, detail);
    return true;
  });
}

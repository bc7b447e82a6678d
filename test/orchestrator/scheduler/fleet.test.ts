/**
 * Goal: allocations run on hosts that joined, each once, through the death of any process.
 *
 * Method: real host programs in processes of their own, behind the real API and database; their
 * workers do what their enrolment token says.
 */
import assert from "node:assert/strict";
import { test } from "node:test";
import { sql } from "drizzle-orm";
import { rows } from "../../../orchestrator/db/rows.ts";
import type { AllocationId } from "../../../orchestrator/runtime/ids.ts";
import { eventually } from "../../support/eventually.ts";
import { openTestFleet, type TestFleet } from "../../support/fleet.ts";
import { placement, settled, testScheduler } from "./conformance.ts";

testScheduler("fleet", async () => {
  const fleet = await openTestFleet();
  await fleet.startHost("one");
  return {
    scheduler: fleet.scheduler,
    starts: (id: AllocationId) => fleet.starts(id),
    [Symbol.asyncDispose]: () => fleet[Symbol.asyncDispose](),
  };
});

test("what waits starts on the host that joins, and a drain keeps it off", async () => {
  await using fleet = await openTestFleet();
  const { scheduler } = fleet;
  const early = placement("wait");
  await scheduler.place(early);
  assert.equal(await scheduler.capacity(), 0);
  assert.equal(await scheduler.status(early.allocationId), "pending");
  await fleet.startHost("one");
  await running(fleet, early.allocationId);
  const [host] = await scheduler.hosts();
  assert.ok(host !== undefined);
  assert.deepEqual(
    { ...host, id: "", capabilities: null },
    {
      id: "",
      name: "one",
      pool: "default",
      status: "ready",
      slots: 2,
      used: 1,
      capabilities: null,
    },
  );

  await scheduler.drain(host.id, true);
  const late = placement("complete");
  await scheduler.place(late);
  assert.equal(await scheduler.capacity(), 0);
  assert.equal((await scheduler.hosts())[0]?.status, "draining");
  assert.equal(await scheduler.status(late.allocationId), "pending");
  assert.equal(await scheduler.status(early.allocationId), "running");
  await scheduler.drain(host.id, false);
  assert.equal(await settled(scheduler, late.allocationId), "complete");
  await assert.rejects(scheduler.drain("worker_of_nobody", true), /There is no worker/);
});

test("requirements choose the host, and what no host has is never placed", async () => {
  await using fleet = await openTestFleet();
  const { scheduler } = fleet;
  await fleet.startHost("plain");
  await fleet.startHost("other", { token: await fleet.joinToken("gpu") });
  const picky = { ...placement("wait"), requirements: { pool: "gpu" } };
  const greedy = { ...placement("wait"), requirements: { cpus: 65_000 } };
  await scheduler.place(greedy);
  await scheduler.place(picky);
  await running(fleet, picky.allocationId);
  const used = (await scheduler.hosts()).map(({ pool, used: count }) => ({ pool, count }));
  assert.deepEqual(
    used.toSorted((a, b) => a.pool.localeCompare(b.pool)),
    [
      { pool: "default", count: 0 },
      { pool: "gpu", count: 1 },
    ],
  );
  assert.equal(await scheduler.capacity({ cpus: 65_000 }), 0);
  assert.equal(await scheduler.status(greedy.allocationId), "pending");
  await scheduler.stop(greedy.allocationId);
  assert.equal(await scheduler.status(greedy.allocationId), "failed");
});

test("work goes on while the orchestrator is away, and while the host is restarted", async () => {
  await using fleet = await openTestFleet();
  const { scheduler } = fleet;
  const host = await fleet.startHost("one");
  const long = placement("wait");
  await scheduler.place(long);
  await running(fleet, long.allocationId);
  await fleet.restartApi(700);
  await eventually(() => host.output().includes("work goes on"), Boolean);
  const after = placement("complete");
  await scheduler.place(after);
  assert.equal(await settled(scheduler, after.allocationId), "complete");

  // Killed, and started again without a join token: it has its own, and finds its worker.
  host.process.kill("SIGKILL");
  await fleet.startHost("one", { token: null });
  const last = placement("complete");
  await scheduler.place(last);
  assert.equal(await settled(scheduler, last.allocationId), "complete");
  assert.equal(await scheduler.status(long.allocationId), "running");
  assert.equal(fleet.starts(long.allocationId), 1);
  await scheduler.stop(long.allocationId);
  assert.equal(await settled(scheduler, long.allocationId), "lost");
});

test("a host that is told to go ends what it has first, and comes back by its own token", async () => {
  await using fleet = await openTestFleet();
  const { scheduler } = fleet;
  const host = await fleet.startHost("one");
  const last = placement("wait");
  await scheduler.place(last);
  await running(fleet, last.allocationId);
  const left = host.leave();
  await eventually(
    () => scheduler.hosts(),
    ([found]) => found?.status === "draining",
  );
  assert.equal(await scheduler.capacity(), 0);
  await scheduler.stop(last.allocationId);
  assert.equal(await left, 0, host.output());
  assert.equal(await settled(scheduler, last.allocationId), "failed");
  assert.deepEqual(await scheduler.hosts(), []);

  await fleet.startHost("one", { token: null });
  await eventually(
    () => scheduler.capacity(),
    (free) => free === 2,
  );
  assert.equal((await scheduler.hosts()).length, 1);
});

test("a drain that takes too long ends what is left", async () => {
  await using fleet = await openTestFleet();
  const host = await fleet.startHost("one", { env: { AUTOCODE_DRAIN_MS: "50" } });
  const last = placement("wait");
  await fleet.scheduler.place(last);
  await running(fleet, last.allocationId);
  assert.equal(await host.leave(), 0, host.output());
  assert.equal(await fleet.scheduler.status(last.allocationId), "failed");
});

test("R10: a worker that vanishes is given up, and what it says late counts for nothing", async () => {
  await using fleet = await openTestFleet({ leaseMs: 4_000 });
  const { scheduler, outages } = fleet;
  await outages.activate();
  const first = await fleet.startHost("first");
  const lost = placement("wait");
  await scheduler.place(lost);
  await running(fleet, lost.allocationId);
  first.process.kill("SIGSTOP");
  await untilStatus(fleet, lost.allocationId, "lost");
  const given = (await scheduler.hosts()).find(({ name }) => name === "first");
  assert.equal(given?.status, "down");
  // Another try of its trial goes to another host meanwhile.
  await fleet.startHost("second");
  const retry = placement("wait");
  await scheduler.place(retry);
  await running(fleet, retry.allocationId);

  first.process.kill("SIGCONT");
  await eventually(() => first.output().includes("is being stopped"), Boolean, 20_000);
  await eventually(
    () => scheduler.hosts(),
    (hosts) => hosts.every(({ status }) => status === "ready"),
  );
  assert.equal(await scheduler.status(lost.allocationId), "lost");
  assert.equal(await scheduler.status(retry.allocationId), "running");
  const found = await rows<{ is_over: boolean }>(
    fleet.db.sql,
    sql`select ended_at is not null as is_over from worker_outage
      join worker on worker.id = worker_id and name = 'first'`,
  );
  assert.deepEqual(found, [{ is_over: true }]);
  const detail = await fleet.workers.get("first");
  assert.equal(detail.outages.length, 1);
  assert.ok((detail.worker.availability ?? 1) < 1);
});

test("an answer that was lost is given again, with a new token", async () => {
  await using fleet = await openTestFleet();
  const { registry, scheduler } = fleet;
  const capabilities = machine();
  const joined = await registry.join({
    ...{ join_token: await fleet.joinToken(), name: "by-hand", slots: 1, capabilities },
  });
  const workerId = await registry.authenticate(joined.worker_token);
  const placed = placement("wait");
  await scheduler.place(placed);
  let number = 0;
  const say = () => ({ ...said, number: ++number });
  const said = {
    ...{
      run_id: "by-hand",
      number: 0,
      wait_ms: 0,
      is_leaving: false,
      slots: 1,
      capabilities,
      logs: [],
    },
    allocations: [],
  };
  const never = new AbortController().signal;
  const once = await scheduler.sync(workerId, say(), never);
  assert.deepEqual(once.start, [
    { allocation_id: placed.allocationId, enrolment_token: placed.enrolmentToken },
  ]);
  const again = await scheduler.sync(workerId, say(), never);
  assert.deepEqual(again.start, once.start);
  const has = { allocation_id: placed.allocationId, status: "running" as const };
  const third = await scheduler.sync(workerId, { ...say(), allocations: [has] }, never);
  assert.deepEqual(third.start, []);
  // A stranger's allocation is to be stopped, a strangers' end is nobody's.
  const foreign = { ...has, allocation_id: placement("wait").allocationId };
  const told = await scheduler.sync(workerId, { ...say(), allocations: [has, foreign] }, never);
  assert.deepEqual(told.stop, [foreign.allocation_id]);
});

test("a worker's log is read through whichever orchestrator, to its end and after it", async () => {
  await using fleet = await openTestFleet();
  const { scheduler } = fleet;
  await fleet.startHost("one");
  const placed = placement("wait");
  await scheduler.place(placed);
  await running(fleet, placed.allocationId);
  const { signal } = new AbortController();
  const pieces = await scheduler.logs(placed.allocationId, { isFollowed: true, signal });
  assert.ok(pieces !== null);
  const read = Array.fromAsync(pieces);
  await new Promise((resolve) => setTimeout(resolve, 500));
  await scheduler.stop(placed.allocationId);
  assert.match(Buffer.concat(await read).toString(), /ready/);
  const kept = { isFollowed: false, signal, output: "stdout" } as const;
  const after = await scheduler.logs(placed.allocationId, kept);
  assert.ok(after !== null);
  assert.equal(Buffer.concat(await Array.fromAsync(after)).toString(), "out:ready\n");
});

function machine() {
  return {
    ...{ cpus: 4, memory_bytes: 2 ** 33, gpus: [], arch: "x64", vm_template: null, agents: [] },
  };
}

async function running(fleet: TestFleet, id: AllocationId): Promise<void> {
  await eventually(
    () => fleet.scheduler.status(id),
    (status) => status === "running",
    20_000,
  );
  await eventually(
    () => fleet.starts(id),
    (count) => count > 0,
    20_000,
  );
}

/** Looks as the background task would, since nobody else does here. */
async function untilStatus(fleet: TestFleet, id: AllocationId, wanted: string): Promise<void> {
  await eventually(
    async () => {
      await fleet.outages.activate();
      await new Promise((resolve) => setTimeout(resolve, 100));
      return fleet.scheduler.status(id);
    },
    (status) => status === wanted,
    40_000,
  );
}

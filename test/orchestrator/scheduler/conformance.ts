/** What every scheduler must do, whatever engine is behind it. Each adapter's test calls this. */
import assert from "node:assert/strict";
import { test } from "node:test";
import type { Requirements } from "../../../orchestrator/contract/workers.ts";
import { Problem } from "../../../orchestrator/problem.ts";
import { systemClock } from "../../../orchestrator/runtime/clock.ts";
import { type AllocationId, createIds } from "../../../orchestrator/runtime/ids.ts";
import { systemRandom } from "../../../orchestrator/runtime/random.ts";
import type {
  AllocationStatus,
  Placement,
  Scheduler,
} from "../../../orchestrator/scheduler/scheduler.ts";
import { eventually } from "../../support/eventually.ts";

const ids = createIds(systemClock, systemRandom);

/** What a test's worker does, told by its enrolment token. */
export type Behaviour = "complete" | "fail" | "wait" | "deaf" | "leave";

/** Each worker prints these, one on each of its outputs. */
export const PRINTED = ["out:ready", "err:ready"];

export function placement(behaviour: Behaviour, more: Partial<Placement> = {}): Placement {
  return {
    allocationId: ids.next("allocation"),
    trialId: ids.next("trial"),
    enrolmentToken: `${behaviour}:${ids.next("token")}`,
    requirements: {},
    priority: 0,
    ...more,
  };
}

/** Its status once it runs no more. */
export async function settled(scheduler: Scheduler, id: AllocationId): Promise<AllocationStatus> {
  const isOver = (status: AllocationStatus | null) =>
    status !== null && status !== "pending" && status !== "running";
  const status = await eventually(() => scheduler.status(id), isOver);
  assert.ok(status !== null);
  return status;
}

/**
 * `open`: a scheduler whose workers behave as their placement says, and how often each was
 * started. `isDriven`: its workers live by a simulation, which ends them and tells of it.
 * `isStrictOrder`: false where several that wait may be looked at at a time, as Nomad's workers do.
 */
export function testScheduler(
  name: string,
  open: () => Promise<{ scheduler: Scheduler; starts(id: AllocationId): number } & AsyncDisposable>,
  { isDriven = false, isStrictOrder = true } = {},
): void {
  test(`${name}: knows nothing of an allocation it never placed`, async () => {
    await using opened = await open();
    assert.equal(await opened.scheduler.status(ids.next("allocation")), null);
    await opened.scheduler.stop(ids.next("allocation"));
  });

  test(`${name}: one allocation id is placed once`, async () => {
    await using opened = await open();
    const { scheduler } = opened;
    const once = placement("wait");
    await Promise.all([scheduler.place(once), scheduler.place(once)]);
    await eventually(
      () => scheduler.status(once.allocationId),
      (status) => status === "running",
    );
    await scheduler.place(once);
    await eventually(
      () => opened.starts(once.allocationId),
      (count) => count > 0,
    );
    await scheduler.stop(once.allocationId);
    await settled(scheduler, once.allocationId);
    await scheduler.place(once);
    assert.equal(await settled(scheduler, once.allocationId), "failed");
    assert.equal(opened.starts(once.allocationId), 1);
  });

  test(`${name}: stopping what has ended is no error`, async () => {
    await using opened = await open();
    const { scheduler } = opened;
    const stopped = placement("wait");
    await scheduler.place(stopped);
    await scheduler.stop(stopped.allocationId);
    assert.equal(await settled(scheduler, stopped.allocationId), "failed");
    await scheduler.stop(stopped.allocationId);
    assert.equal(await scheduler.status(stopped.allocationId), "failed");
  });

  test(`${name}: has room to begin with`, async () => {
    await using opened = await open();
    assert.ok((await opened.scheduler.capacity()) > 0);
  });

  if (isDriven) return;

  test(`${name}: reports how an allocation ended, and says so at once`, async () => {
    await using opened = await open();
    const { scheduler } = opened;
    const [good, bad] = [placement("complete"), placement("fail")];
    const told: AllocationId[] = [];
    using _ = scheduler.onEnd((id) => void told.push(id));
    await Promise.all([scheduler.place(good), scheduler.place(bad)]);
    assert.deepEqual(
      await Promise.all([good, bad].map(({ allocationId }) => settled(scheduler, allocationId))),
      ["complete", "failed"],
    );
    await eventually(
      async () => told.length,
      (count) => count === 2,
    );
    assert.deepEqual(told.toSorted(), [good.allocationId, bad.allocationId].toSorted());
  });

  test(`${name}: capacity counts what runs and what waits`, async () => {
    await using opened = await open();
    const { scheduler } = opened;
    const free = await scheduler.capacity();
    const one = placement("wait");
    await scheduler.place(one);
    assert.equal(await scheduler.capacity(), free - 1);
    await scheduler.stop(one.allocationId);
    await settled(scheduler, one.allocationId);
    assert.equal(await scheduler.capacity(), free);
  });

  test(`${name}: capacity is for what is asked for, and none where no host has it`, async () => {
    await using opened = await open();
    const { scheduler } = opened;
    assert.equal(await scheduler.capacity({ cpus: 1 }), await scheduler.capacity());
    for (const impossible of [{ memory_bytes: 2 ** 50 }, { vm_template: "no-such-template" }]) {
      assert.equal(await roomFor(scheduler, impossible), 0);
    }
  });

  test(`${name}: tells its hosts, and what they have`, async () => {
    await using opened = await open();
    const { scheduler } = opened;
    const used = async () => (await scheduler.hosts()).reduce((sum, host) => sum + host.used, 0);
    const before = await used();
    const one = placement("wait");
    await scheduler.place(one);
    await untilRuns(scheduler, one);
    assert.equal(await used(), before + 1);
    const ready = (await scheduler.hosts()).filter(({ status }) => status === "ready");
    assert.ok(ready.some(({ id, slots, capabilities }) => id !== "" && slots > 0 && capabilities));
    await scheduler.stop(one.allocationId);
    await settled(scheduler, one.allocationId);
    assert.equal(await used(), before);
  });

  test(`${name}: a draining host ends what it has and takes nothing new`, async () => {
    await using opened = await open();
    const { scheduler } = opened;
    const free = await scheduler.capacity();
    const ids = (await scheduler.hosts())
      .filter(({ status }) => status === "ready")
      .map(({ id }) => id);
    const early = placement("wait");
    await scheduler.place(early);
    await untilRuns(scheduler, early);
    try {
      for (const id of ids) await scheduler.drain(id, true);
      const drained = (await scheduler.hosts()).filter(({ id }) => ids.includes(id));
      assert.deepEqual(new Set(drained.map(({ status }) => status)), new Set(["draining"]));
      assert.equal(await scheduler.capacity(), 0);
      assert.equal(await scheduler.status(early.allocationId), "running");
    } finally {
      for (const id of ids) await scheduler.drain(id, false);
    }
    await scheduler.stop(early.allocationId);
    await settled(scheduler, early.allocationId);
    await eventually(
      () => scheduler.capacity(),
      (now) => now === free,
    );
    const unknown = "00000000-0000-4000-8000-000000000000";
    await assert.rejects(scheduler.drain(unknown, true), { name: "Problem", code: "not_found" });
  });

  test(`${name}: the most urgent of those that wait is next`, async (t) => {
    await using opened = await open();
    const { scheduler } = opened;
    const free = await scheduler.capacity();
    if (!isStrictOrder) return t.skip("several that wait are looked at at a time");
    if (free > FILLED_MAX) return t.skip(`it has room for ${free}: not filled`);
    const fillers = Array.from({ length: free }, () => placement("wait"));
    for (const filler of fillers) await scheduler.place(filler);
    for (const filler of fillers) await untilRuns(scheduler, filler);
    const [low, high] = [placement("wait"), placement("wait", { priority: 20 })];
    await scheduler.place(low);
    await scheduler.place(high);
    assert.ok(fillers[0] !== undefined);
    await scheduler.stop(fillers[0].allocationId);
    await untilRuns(scheduler, high);
    assert.equal(await scheduler.status(low.allocationId), "pending");
    for (const each of [...fillers.slice(1), low, high]) await scheduler.stop(each.allocationId);
    for (const each of [...fillers, low, high]) await settled(scheduler, each.allocationId);
  });

  test(`${name}: what a worker prints is followed to its end`, async () => {
    await using opened = await open();
    const { scheduler } = opened;
    const { signal } = new AbortController();
    const never = ids.next("allocation");
    assert.equal(await scheduler.logs(never, { isFollowed: true, signal }), null);
    const talker = placement("wait");
    await scheduler.place(talker);
    await untilRuns(scheduler, talker);
    const printed = await scheduler.logs(talker.allocationId, { isFollowed: true, signal });
    assert.ok(printed !== null);
    let text = "";
    for await (const bytes of printed) {
      const before = text;
      text += Buffer.from(bytes).toString("utf8");
      const isAll = (all: string) => PRINTED.every((line) => all.includes(line));
      if (isAll(text) && !isAll(before)) await scheduler.stop(talker.allocationId);
    }
    for (const line of PRINTED) assert.equal(text.split(`${line}\n`).length, 2, text);
    await settled(scheduler, talker.allocationId);
  });
}

/** More than this is not filled up: each is a process. */
const FILLED_MAX = 8;

/** A scheduler says no to what none of its hosts will ever have, or that there is none now. */
async function roomFor(scheduler: Scheduler, requirements: Requirements): Promise<number> {
  try {
    return await scheduler.capacity(requirements);
  } catch (error) {
    if (error instanceof Problem && error.code === "invalid_request") return 0;
    throw error;
  }
}

async function untilRuns(scheduler: Scheduler, { allocationId }: Placement): Promise<void> {
  const look = () => scheduler.status(allocationId);
  await eventually(look, (status) => status === "running");
}

/** What every scheduler must do, whatever engine is behind it. Each adapter's test calls this. */
import assert from "node:assert/strict";
import { test } from "node:test";
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

export function placement(behaviour: Behaviour): Placement {
  return {
    allocationId: ids.next("allocation"),
    trialId: ids.next("trial"),
    enrolmentToken: `${behaviour}:${ids.next("token")}`,
    requirements: {},
    priority: 0,
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
 */
export function testScheduler(
  name: string,
  open: () => Promise<{ scheduler: Scheduler; starts(id: AllocationId): number } & AsyncDisposable>,
  { isDriven = false } = {},
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
}

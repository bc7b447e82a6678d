/** A scheduler that runs what it is given at once; a test says how each allocation goes on. */
import type { AllocationId, TrialId } from "../../orchestrator/runtime/ids.ts";
import type {
  AllocationStatus,
  Placement,
  Scheduler,
} from "../../orchestrator/scheduler/scheduler.ts";

export interface TestScheduler extends Scheduler {
  placements: Placement[];
  statuses: Map<AllocationId, AllocationStatus>;
  /** Its slots: what runs takes one each. */
  slots: number;
  /** The trial's last placement, whose status may be set. */
  newest(trialId: TrialId): { placement: Placement; status: AllocationStatus };
}

export function createTestScheduler(slots: number): TestScheduler {
  const placements: Placement[] = [];
  const statuses = new Map<AllocationId, AllocationStatus>();
  const scheduler: TestScheduler = {
    name: "test",
    placements,
    statuses,
    slots,
    newest,
    place: async (placement) => {
      placements.push(placement);
      statuses.set(placement.allocationId, "running");
    },
    status: async (id) => statuses.get(id) ?? null,
    stop: async (id) => void statuses.set(id, "failed"),
    capacity: async () => {
      const running = [...statuses.values()].filter((status) => status === "running");
      return Math.max(0, scheduler.slots - running.length);
    },
    hosts: async () => [],
    drain: async () => {},
    logs: async () => null,
    onEnd: () => ({ [Symbol.dispose]: () => {} }),
    [Symbol.asyncDispose]: async () => {},
  };
  return scheduler;

  function newest(trialId: TrialId): ReturnType<TestScheduler["newest"]> {
    const placement = placements.findLast((one) => one.trialId === trialId);
    if (placement === undefined) throw new Error("the trial was not placed");
    return {
      placement,
      get status() {
        return statuses.get(placement.allocationId) ?? "pending";
      },
      set status(status) {
        statuses.set(placement.allocationId, status);
      },
    };
  }
}

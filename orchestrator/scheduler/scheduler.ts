/**
 * The scheduler port: where allocations run. `local.ts` runs them as processes of this machine;
 * a Nomad adapter registers jobs. All pass `test/orchestrator/scheduler/conformance.ts`.
 */
import type { AllocationId, TrialId } from "../runtime/ids.ts";

export interface Placement {
  /** Made by the caller: placing one allocation id twice places it once. */
  allocationId: AllocationId;
  trialId: TrialId;
  /** Good for one enrolment; never logged. */
  enrolmentToken: string;
}

/** Nomad's client statuses, which every adapter reports in. `lost`: its machine is gone. */
export type AllocationStatus = "pending" | "running" | "complete" | "failed" | "lost";

export interface Scheduler extends AsyncDisposable {
  readonly name: string;
  /** @throws Problem `unavailable`: the engine did not answer; retry with the same id. */
  place(placement: Placement): Promise<void>;
  /** The status, or null when the engine has never heard of this allocation. */
  status(allocationId: AllocationId): Promise<AllocationStatus | null>;
  /** Asks the engine to stop it, with grace. Stopping what has already ended is not an error. */
  stop(allocationId: AllocationId): Promise<void>;
  /** How many more allocations could run now. */
  capacity(): Promise<number>;
  /** Calls back when an allocation ended, as soon as the engine knows; a hint, not a promise. */
  onEnd(listener: (allocationId: AllocationId) => void): Disposable;
}

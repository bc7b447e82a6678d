/**
 * The scheduler port: where allocations run. `local.ts` runs them as processes of this machine;
 * `fleet.ts` on hosts that joined; `nomad.ts` as Nomad jobs. All pass
 * `test/orchestrator/scheduler/conformance.ts`.
 */
import type { Capabilities, HostStatus, Requirements, WorkerOutput } from "../contract/workers.ts";
import type { AllocationId, TrialId } from "../runtime/ids.ts";

export interface Placement {
  /** Made by the caller: placing one allocation id twice places it once. */
  allocationId: AllocationId;
  trialId: TrialId;
  /** Good for one enrolment; never logged. */
  enrolmentToken: string;
  requirements: Requirements;
  /** Higher ones first. */
  priority: number;
}

/** A machine that allocations are placed on. */
export interface Host {
  /** As its engine names it: a Nomad node's id, a worker's. */
  id: string;
  name: string;
  pool: string;
  status: HostStatus;
  slots: number;
  /** Allocations it has now. */
  used: number;
  /** Null where its engine does not tell. */
  capabilities: Capabilities | null;
}

/** Nomad's client statuses, which every adapter reports in. `lost`: its machine is gone. */
export type AllocationStatus = "pending" | "running" | "complete" | "failed" | "lost";

export interface LogOptions {
  /** Until the worker ends or `signal` aborts. */
  isFollowed: boolean;
  signal: AbortSignal;
  /** Absent or null: both, as they come. */
  output?: WorkerOutput | null;
}

export interface Scheduler extends AsyncDisposable {
  readonly name: string;
  /**
   * @throws Problem `unavailable`: the engine did not answer; retry with the same id. `forbidden`:
   * it does not let us, until an operator mends that. `invalid_request`: it will never run this.
   */
  place(placement: Placement): Promise<void>;
  /** The status, or null when the engine has never heard of this allocation. */
  status(allocationId: AllocationId): Promise<AllocationStatus | null>;
  /** Asks the engine to stop it, with grace. Stopping what has already ended is not an error. */
  stop(allocationId: AllocationId): Promise<void>;
  /**
   * How many more allocations that ask for `requirements` (nothing: any) could run now.
   *
   * @throws Problem as `place` does.
   */
  capacity(requirements?: Requirements): Promise<number>;
  hosts(): Promise<Host[]>;
  /**
   * A draining host ends what it has and takes nothing new; undone with `isDraining` false.
   *
   * @throws Problem `not_found`: the engine has no such host.
   */
  drain(hostId: string, isDraining: boolean): Promise<void>;
  /**
   * What the worker printed (its agent's own output is among the trial's events), also for a while
   * after it ended; null when the engine has nothing of it.
   */
  logs(allocationId: AllocationId, options: LogOptions): Promise<AsyncIterable<Uint8Array> | null>;
  /** Calls back when an allocation ended, as soon as the engine knows; a hint, not a promise. */
  onEnd(listener: (allocationId: AllocationId) => void): Disposable;
}

/** The worker sessions port: the orchestrator's side of `contract/worker.ts`. */
import type { Readable } from "node:stream";
import type { WorkerEvent } from "../contract/events.ts";
import type { Directive, Enrolment, Report } from "../contract/worker.ts";
import type { AllocationId, TrialId } from "../runtime/ids.ts";

/** An authenticated allocation that is still the trial's current one. */
export interface Session {
  allocationId: AllocationId;
  trialId: TrialId;
  purpose: "agent" | "verify";
}

export interface WorkerSessions {
  /** @throws Problem `unauthenticated`: an unknown, used or expired enrolment token. */
  enrol(enrolmentToken: string): Promise<Enrolment>;
  /** @throws Problem `unauthenticated`, or `fenced` once another allocation took over. */
  authenticate(allocationToken: string): Promise<Session>;
  /** The files behind GET source, tests and patch: null when there is none. */
  sourcePath(session: Session): Promise<string>;
  testsPath(session: Session): Promise<string | null>;
  patchPath(session: Session): Promise<string | null>;
  /** Stores what is new; the highest cursor that is durable. */
  appendEvents(session: Session, events: readonly WorkerEvent[]): Promise<number>;
  /**
   * Resolves at once with a `stop`; else with `continue` and the allowance, after `waitMs` or when
   * something of the trial changed.
   */
  heartbeat(session: Session, waitMs: number): Promise<Directive>;
  /**
   * Appends at `offset`. Returns the file's size after it.
   *
   * @throws Problem `conflict` when `offset` leaves a gap, `too_large` past the limit.
   */
  appendArtefact(session: Session, name: string, offset: number, bytes: Readable): Promise<number>;
  report(session: Session, report: Report): Promise<void>;
}

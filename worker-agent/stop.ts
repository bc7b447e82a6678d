/**
 * The one reason why this allocation must end before its work is done. The first reason stands;
 * whoever waits for work listens to `signal`.
 */

/** `budget` to `shutdown` are the orchestrator's directives; the last three are our own. */
export type StopReason =
  | "budget"
  | "quota"
  | "cancelled"
  | "fenced"
  | "shutdown"
  | "signal"
  | "orphaned"
  | "isolation_lost";

export interface Stop {
  readonly signal: AbortSignal;
  reason(): StopReason | null;
  /** Why, for people: what was said with the reason, or the reason itself. */
  detail(): string | null;
  request(reason: StopReason, detail?: string): void;
}

/** A stop that nobody has asked for yet. */
export function createStop(): Stop {
  const controller = new AbortController();
  let first: StopReason | null = null;
  let said: string | null = null;
  return { signal: controller.signal, reason: () => first, detail: () => said, request };

  function request(reason: StopReason, detail = `stopped: ${reason}`): void {
    // Being fenced outranks: what was to be reported is no longer ours to report.
    if (first !== null && reason !== "fenced") return;
    first = reason;
    said = detail;
    controller.abort(new Error(detail));
  }
}

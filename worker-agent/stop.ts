/**
 * The one reason why this allocation must end before its work is done. The first reason stands;
 * whoever waits for work listens to `signal`.
 */

/** `budget` to `shutdown` are the orchestrator's directives; the last two are our own. */
export type StopReason =
  | "budget"
  | "quota"
  | "cancelled"
  | "fenced"
  | "shutdown"
  | "signal"
  | "orphaned";

export interface Stop {
  readonly signal: AbortSignal;
  reason(): StopReason | null;
  request(reason: StopReason): void;
}

/** A stop that nobody has asked for yet. */
export function createStop(): Stop {
  const controller = new AbortController();
  let first: StopReason | null = null;
  return { signal: controller.signal, reason: () => first, request };

  function request(reason: StopReason): void {
    // Being fenced outranks: what was to be reported is no longer ours to report.
    if (first !== null && reason !== "fenced") return;
    first = reason;
    controller.abort(new Error(`stopped: ${reason}`));
  }
}

/** The faults that decide how a worker-agent ends; everything else is a defect. */

/** Another allocation has taken the trial over: nothing of ours counts any more. */
export class Fenced extends Error {
  override readonly name = "Fenced";
}

/** The orchestrator did not answer for longer than a restart takes. */
export class OrchestratorAway extends Error {
  override readonly name = "OrchestratorAway";
}

/** The orchestrator answered that a request is wrong; repeating it would not help. */
export class RequestRefused extends Error {
  override readonly name = "RequestRefused";
  readonly status: number;

  constructor(status: number, message: string) {
    super(message);
    this.status = status;
  }
}

/** The checkout could not be made, or what the agent left cannot be handed back. */
export class WorkspaceFault extends Error {
  override readonly name = "WorkspaceFault";
}

/** The error's own words, for a report or an event. */
export function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}

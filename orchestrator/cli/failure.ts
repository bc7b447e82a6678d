/** How a command ends: its exit status, and the one line that says why. */
import type { ProblemBody } from "../contract/system.ts";

export const EXIT = {
  done: 0,
  failed: 1,
  usage: 2,
  budgetExhausted: 3,
  refused: 4,
  unavailable: 5,
} as const;
export type Exit = (typeof EXIT)[keyof typeof EXIT];

/** Ends the command with `exit` and `message` on standard error. */
export class Failure extends Error {
  override readonly name = "Failure";
  readonly exit: Exit;

  constructor(exit: Exit, message: string, cause?: unknown) {
    super(message, cause === undefined ? undefined : { cause });
    this.exit = exit;
  }
}

export function usage(message: string): Failure {
  return new Failure(EXIT.usage, message);
}

/** What the server's problem means for us. A problem of the request is a fault of its arguments. */
export function failureOf(problem: ProblemBody): Failure {
  return new Failure(exitOf(problem), problem.detail, problem);
}

function exitOf({ type, status }: ProblemBody): Exit {
  switch (type.replace("/problems/", "")) {
    case "invalid_request":
    case "idempotency_mismatch":
    case "too_large":
    case "unpriced_model":
      return EXIT.usage;
    case "budget_exceeded":
      return EXIT.budgetExhausted;
    case "forbidden":
    case "unauthenticated":
      return EXIT.refused;
    default:
      return status >= 502 ? EXIT.unavailable : EXIT.failed;
  }
}

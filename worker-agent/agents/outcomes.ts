/** What the end of a phase means, from what every CLI has in common: an exit and a last error. */
import type { PhaseEnd, PhaseOutcome } from "./agent.ts";

/** Endings by which someone else ended the process: SIGHUP, SIGINT, SIGKILL, SIGTERM. */
const KILL_SIGNALS = new Set(["SIGHUP", "SIGINT", "SIGKILL", "SIGTERM"]);
const KILL_EXIT_CODES = new Set([129, 130, 137, 143]);

/** The code that the gateway's budget refusals have in their message, in every dialect. */
const BUDGET_CODE = "budget_exceeded";

/**
 * Errors come before exit codes, since some CLIs end with 0 whatever happened; a refused budget
 * comes first of all, since the worker also kills a CLI that does not stop at it.
 */
export function phaseOutcome({ exitCode, signal, output }: PhaseEnd): PhaseOutcome {
  const { lastError } = output;
  if (lastError?.message.includes(BUDGET_CODE)) return said("budget", lastError.message);
  if (signal !== null) {
    return said(KILL_SIGNALS.has(signal) ? "killed" : "crash", `ended by ${signal}`);
  }
  if (exitCode !== null && KILL_EXIT_CODES.has(exitCode)) {
    return said("killed", `ended with exit code ${exitCode}`);
  }
  if (output.isLimitReached) return said("limit", lastError?.message ?? "its own limit");
  if (lastError !== null) {
    const { status, message } = lastError;
    return said(status === 401 || status === 403 ? "auth" : "model_error", message);
  }
  if (exitCode !== 0) return said("crash", `ended with exit code ${exitCode}`);
  if (!output.isComplete) return said("crash", "ended with exit code 0, but without a result");
  return said("finished", "");
}

function said(outcome: PhaseOutcome["outcome"], detail: string): PhaseOutcome {
  return { outcome, detail: detail.slice(0, 2000) };
}

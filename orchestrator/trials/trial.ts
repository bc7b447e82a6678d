/**
 * The state machine of a trial; pure.
 *
 * - `queued`     wants a place; also after a retry or a resume.
 * - `admitted`   has its budget; waits for the scheduler.
 * - `placed`     an allocation was asked for; its worker-agent has not enrolled yet.
 * - `running`    the worker-agent enrolled; the agent works.
 * - `verifying`  the agent is done; the hidden tests run elsewhere.
 * - `paused`     a budget is gone, or a provider's quota until a stated time; what was done is
 *                kept. A person queues it again with more money, the engine once the quota is back.
 * - `succeeded`, `failed`, `errored`, `cancelled`: the end, reached once.
 */
import type { TrialState, Verdict } from "../contract/trials.ts";
import type { AgentOutcome } from "../contract/worker.ts";

export const TERMINAL_STATES = ["succeeded", "failed", "errored", "cancelled"] as const;
export const ACTIVE_STATES = ["queued", "admitted", "placed", "running", "verifying"] as const;

/** How an allocation of the agent ended, as far as the engine can tell. */
export type AgentEnd =
  | { kind: "reported"; outcome: AgentOutcome; detail: string }
  /** It vanished without a report: a crashed worker, a lost machine, a restart. */
  | { kind: "lost"; detail: string };

export type NextStep =
  | { to: "verifying"; flags: string[] }
  | { to: "paused"; for: "budget" | "quota"; reason: string }
  | { to: "queued"; failureClass: string; delayMs: number; isFromCheckpoint: boolean }
  | { to: "errored"; reason: string };

/** What a project and the installation say of trying again. */
export interface RetryRules {
  /** How many more tries a failure of the agent gets after the first. */
  retries: number;
  /** The wait before the second try; it doubles with each, up to a minute. */
  delayMs: number;
}

/** Why the gateway refuses everything to a trial that still runs. */
export interface Marks {
  isBudgetExhausted: boolean;
  /** A provider's quota is used up; the trial is resumed when that is over. */
  isQuotaExhausted: boolean;
}

/** A lost worker is the platform's fault, so it is retried more often than an agent's own. */
const LOST_TRIES_MAX = 10;
const RETRY_DELAY_MAX_MS = 60_000;

/**
 * The gateway's word goes before the CLI's: after a refusal its exit is no failure. A lost worker
 * said nothing; it is tried again while there is money, but not where its provider answers nobody.
 */
export function asRefused(end: AgentEnd, marks: Marks): AgentEnd {
  const { isBudgetExhausted, isQuotaExhausted } = marks;
  if (end.kind === "reported" && end.outcome === "finished") return end;
  if (isBudgetExhausted && end.kind === "reported") return { ...end, outcome: "budget" };
  if (isBudgetExhausted || !isQuotaExhausted) return end;
  return { kind: "reported", outcome: "quota", detail: end.detail };
}

/**
 * What follows when the agent's allocation ended.
 *
 * An agent that stopped by itself or was stopped by a limit of time is judged by the tests: its
 * exit code says nothing (Aider exits 0 after every kind of failure).
 *
 * @param tries allocations of the agent so far, this one included.
 */
export function afterAgent(end: AgentEnd, tries: number, rules: RetryRules): NextStep {
  const retry = (failureClass: string, detail: string, triesMax: number): NextStep => {
    if (tries < triesMax) {
      // A worker that is gone took no work with it; an agent that failed may fail of its own.
      const isFromCheckpoint = failureClass.startsWith("worker_");
      return { to: "queued", failureClass, delayMs: delay(tries, rules), isFromCheckpoint };
    }
    return { to: "errored", reason: `${failureClass}, ${tries} tries: ${detail}` };
  };
  if (end.kind === "lost") return retry("worker_lost", end.detail, LOST_TRIES_MAX);
  const { outcome, detail } = end;
  switch (outcome) {
    case "finished":
      return { to: "verifying", flags: [] };
    case "limit":
    case "wall_clock":
    case "idle":
      return { to: "verifying", flags: [`agent_${outcome}`] };
    case "budget":
    case "quota":
      return { to: "paused", for: outcome, reason: detail };
    case "killed":
      return retry("worker_stopped", detail, LOST_TRIES_MAX);
    case "model_error":
    case "crash":
    case "workspace_failed":
      return retry(outcome, detail, rules.retries + 1);
    case "install_failed":
    case "auth":
      return { to: "errored", reason: `${outcome}: ${detail}` };
  }
}

/** What follows when the verifier's allocation ended; a lost one is tried again. */
export function afterVerifier(
  end: { kind: "reported"; verdict: Verdict; detail: string } | { kind: "lost"; detail: string },
  verifyTries: number,
  retries: number,
):
  | { to: "succeeded" | "failed"; reason: string }
  | { to: "errored"; reason: string }
  | { to: "verifying" } {
  if (end.kind === "lost") {
    if (verifyTries <= retries) return { to: "verifying" };
    return { to: "errored", reason: `verifier lost ${verifyTries} times: ${end.detail}` };
  }
  if (end.verdict === "error") return { to: "errored", reason: `tests did not run: ${end.detail}` };
  return { to: end.verdict === "passed" ? "succeeded" : "failed", reason: end.detail };
}

export function isTerminal(state: TrialState): boolean {
  return (TERMINAL_STATES as readonly string[]).includes(state);
}

function delay(tries: number, { delayMs }: RetryRules): number {
  return Math.min(delayMs * 2 ** Math.max(0, tries - 1), RETRY_DELAY_MAX_MS);
}

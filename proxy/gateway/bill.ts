/** What a call that was forwarded costs, whatever became of it. Pure. */
import { type PriceRates, usageCost } from "../../models/rates.ts";
import type { Wire } from "../../orchestrator/contract/agents.ts";
import type { Nanos } from "../../orchestrator/money.ts";
import type { Estimate } from "./estimate.ts";
import { NO_USAGE, type Usage } from "./usage.ts";
import type { SeenUsage } from "./usage-scan.ts";

/** How an exchange ended: `broken` by the server or the way to it, the rest by us. */
export type Ending =
  | "completed"
  | "broken"
  | "client_gone"
  | "deadline"
  /** What was reserved for its output is used up, and there is no more. */
  | "cut_short";

export interface ExchangeFacts {
  wire: Wire;
  /** Null when no head came. */
  status: number | null;
  ending: Ending;
  isSent: boolean;
  seen: SeenUsage;
  /** What went wrong, for the record. */
  error: string | null;
}

export interface Ceiling {
  rates: PriceRates;
  amountNanos: Nanos;
  inputTokens: number;
  /** Of all answers together. */
  outputTokens: number;
}

export interface Bill {
  resolution: "settle" | "release";
  usage: Usage;
  costNanos: Nanos;
  isEstimated: boolean;
  error: string | null;
}

/** Whether the server has said what it used, or owes nothing, so that nothing is to be counted. */
export function isCounted({ isSent, status, ending, seen }: ExchangeFacts): boolean {
  if (!isSent || (status === null ? !isEndedByUs(ending) : status >= 300)) return true;
  return seen.usage !== null && seen.isComplete && !seen.isInvalid;
}

/**
 * The server's own count when it is one; else ours, from what passed. Never more than what was
 * reserved: a server that reports more has not kept its ceiling, and the record says so.
 */
export function billCall(facts: ExchangeFacts, ceiling: Ceiling, estimate: () => Estimate): Bill {
  const { status, ending, seen, error } = facts;
  if (!facts.isSent) return released(error);
  if (status === null && !isEndedByUs(ending)) return released(error);
  if (status !== null && status >= 300) return released(error ?? `upstream status ${status}`);
  if (seen.usage !== null && seen.isComplete && !seen.isInvalid) {
    return settled(seen.usage, false, error, ceiling);
  }
  const counted = estimate();
  const told = error ?? counted.error;
  const hasFailed = ending === "broken" || counted.error !== null;
  if (!counted.hasOutput && seen.usage === null && hasFailed) return released(told);
  const output = Math.min(
    Math.max(counted.outputTokens, seen.usage?.outputTokens ?? 0),
    ceiling.outputTokens,
  );
  // Anthropic states the input first, so a cut stream lacks only its output's count.
  const usage = seen.usage ?? { ...NO_USAGE, inputTokens: ceiling.inputTokens };
  return settled({ ...usage, outputTokens: output }, true, told, ceiling);
}

/** The server may have worked, and bill for it, though nobody waited for its answer. */
function isEndedByUs(ending: Ending): boolean {
  return ending === "client_gone" || ending === "deadline";
}

function released(error: string | null): Bill {
  return { resolution: "release", usage: NO_USAGE, costNanos: 0n, isEstimated: false, error };
}

function settled(
  usage: Usage,
  isEstimated: boolean,
  error: string | null,
  { rates, amountNanos }: Ceiling,
): Bill {
  const costNanos = usageCost(usage, rates);
  if (costNanos <= amountNanos) {
    return { resolution: "settle", usage, costNanos, isEstimated, error };
  }
  const overrun = `overrun: ${costNanos} nanos by its usage, ${amountNanos} reserved`;
  return {
    resolution: "settle",
    usage,
    costNanos: amountNanos,
    isEstimated,
    error: error === null || isEstimated ? (error ?? overrun) : `${error}; ${overrun}`,
  };
}

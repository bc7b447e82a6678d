/** What the gateway answers when it does not forward, in the envelope of each dialect. Pure. */
import { type EpochMs, rfc3339 } from "../../orchestrator/runtime/clock.ts";
import type { Exhaustion } from "./key-state.ts";

export type RefusalCode =
  | "invalid_request"
  | "unpriced_model"
  | "unauthenticated"
  | "budget_exceeded"
  | "not_found"
  | "model_not_found"
  | "too_large"
  | "unsupported_encoding"
  | "too_many_calls"
  | "budget_busy"
  | "quota_exceeded"
  | "rate_limited"
  | "internal"
  | "upstream_failed"
  | "unavailable"
  | "unrecorded"
  | "replay_diverged";

export interface Refusal {
  status: number;
  code: RefusalCode;
  message: string;
  retryAfterS?: number;
  /** Said to clients that ask: the same request will be refused again. */
  isFinal?: boolean;
  facts?: Readonly<Record<string, string>>;
  /** A provider that will take calls soon, by itself: worth to wait for. */
  coming?: string;
}

/** How errors look on a path: OpenAI's way, or Anthropic's. */
export type Envelope = "openai" | "anthropic";

const OPENAI_TYPES: Readonly<Record<number, string>> = {
  401: "authentication_error",
  403: "permission_error",
  404: "not_found_error",
  429: "rate_limit_error",
};
const ANTHROPIC_TYPES: Readonly<Record<number, string>> = {
  ...OPENAI_TYPES,
  413: "request_too_large",
  503: "overloaded_error",
};

export function refusalBody(refusal: Refusal, envelope: Envelope, requestId: string): string {
  const { status, code, message, facts } = refusal;
  if (envelope === "anthropic") {
    const type = ANTHROPIC_TYPES[status] ?? fallbackType(status);
    const error = { type, message, code, ...facts };
    return JSON.stringify({ type: "error", error, request_id: requestId });
  }
  const type = OPENAI_TYPES[status] ?? fallbackType(status);
  return JSON.stringify({ error: { message, type, param: null, code, ...facts } });
}

export function refusalHeaders(refusal: Refusal, requestId: string): Record<string, string> {
  const headers: Record<string, string> = {
    "content-type": "application/json",
    "x-request-id": requestId,
    "request-id": requestId,
  };
  if (refusal.retryAfterS !== undefined) headers["retry-after"] = String(refusal.retryAfterS);
  if (refusal.isFinal === true) headers["x-should-retry"] = "false";
  return headers;
}

/** The budget cannot cover the call: the status is the one that the key's agent stops at. */
export function budgetGone(
  status: number,
  { unit, requiredNanos, availableNanos }: Omit<Exhaustion, "budget">,
  currency: string,
): Refusal {
  const isMoney = unit === "money";
  const [required, available] = [String(requiredNanos), String(availableNanos)];
  // The code is in the text too: most CLIs print nothing else of an error.
  const message =
    "budget_exceeded: The budget of this trial cannot cover this call: " +
    `it needs ${required} ${isMoney ? `nanos ${currency}` : "tokens"} ` +
    `and ${available} are available. Stop here; the trial is paused.`;
  const facts = isMoney
    ? { unit: "nanos", required_nanos: required, available_nanos: available, currency }
    : { unit: "tokens", required_tokens: required, available_tokens: available };
  return { status, code: "budget_exceeded", message, isFinal: true, facts };
}

export const LEDGER_UNAVAILABLE: Refusal = {
  status: 503,
  code: "unavailable",
  message: "The ledger does not answer, so nothing is forwarded. Try again.",
  retryAfterS: 2,
};

/** The project asks that nothing passes without a record, and none can be written now. */
export function unrecorded(fault: string): Refusal {
  const message =
    "The project's egress.require_record lets nothing pass that is not recorded, and nothing can " +
    `be recorded now: ${fault}. Try again.`;
  return { status: 503, code: "unrecorded", message, retryAfterS: 2 };
}

export const BUDGET_BUSY: Refusal = {
  status: 429,
  code: "budget_busy",
  message: "Other calls hold what is left of the budget. Try again when one has ended.",
  retryAfterS: 1,
};

/** The provider's own quota is used up, until a time that it names. */
export function quotaUsedUp(provider: string, untilMs: EpochMs, nowMs: EpochMs): Refusal {
  const message =
    `quota_exceeded: The provider "${provider}" serves nothing until ${rfc3339(untilMs)}. ` +
    "Stop here; the trial goes on then.";
  const facts = { provider, until: rfc3339(untilMs) };
  const retryAfterS = secondsUntil(untilMs, nowMs);
  return { status: 429, code: "quota_exceeded", message, retryAfterS, isFinal: true, facts };
}

/** The provider takes no more calls for a moment, which clients sit out. */
export function providerBusy(provider: string, untilMs: EpochMs, nowMs: EpochMs): Refusal {
  const message = `The provider "${provider}" takes no more calls now. Wait as retry-after says.`;
  const retryAfterS = secondsUntil(untilMs, nowMs);
  return { status: 429, code: "rate_limited", message, retryAfterS };
}

/** The key has been used faster than it may be. */
export function rateLimited(waitMs: number): Refusal {
  const message = "This key is used faster than it may be. Wait as retry-after says.";
  const retryAfterS = secondsUntil(waitMs, 0);
  return { status: 429, code: "rate_limited", message, retryAfterS };
}

/** The model server has failed several times in a row, and is left alone for a while. */
export function serverFailing(untilMs: EpochMs, nowMs: EpochMs): Refusal {
  const message = "The model server fails, and is tried again in a while. Try again then.";
  const retryAfterS = secondsUntil(untilMs, nowMs);
  return { status: 503, code: "upstream_failed", message, retryAfterS };
}

/** Nobody who serves the model takes calls now: our own engine is asleep, loading or gone. */
export function providerAway(
  provider: string,
  { detail, retryAfterMs, isComing }: { detail: string; retryAfterMs: number; isComing: boolean },
): Refusal {
  const refusal = { status: 503, code: "unavailable", message: detail } as const;
  const retryAfterS = secondsUntil(retryAfterMs, 0);
  return { ...refusal, retryAfterS, ...(isComing ? { coming: provider } : {}) };
}

function secondsUntil(untilMs: EpochMs, nowMs: EpochMs): number {
  return Math.max(1, Math.ceil((untilMs - nowMs) / 1_000));
}

function fallbackType(status: number): string {
  return status >= 500 ? "api_error" : "invalid_request_error";
}

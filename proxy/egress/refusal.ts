/**
 * How a worker is told that something was refused: one form, whichever engine tells it and whoever
 * decided, so that a client, a person and a test read the same bytes.
 */
import type { Decision, DecisionReason } from "../../orchestrator/contract/egress.ts";
import type { Refusal } from "./guard.ts";

const STATUS: Partial<Record<DecisionReason, number>> = {
  bad_request: 400,
  no_session: 407,
  too_large: 413,
  too_fast: 429,
  too_many: 429,
  unresolved: 502,
  credential_failed: 503,
  unrecorded: 503,
  session_ended: 403,
};

/** What the worker is told of this decision: 403 unless its reason has a status of its own. */
export function refusalOf({ reason, detail }: Pick<Decision, "reason" | "detail">): Refusal {
  const further: (readonly [string, string])[] = [];
  if (reason === "no_session") {
    further.push(["Proxy-Authenticate", 'Basic realm="autocode egress"']);
  }
  if (reason === "too_fast") further.push(["Retry-After", "60"]);
  if (reason === "too_many") further.push(["Retry-After", "1"]);
  return told(STATUS[reason] ?? 403, "egress_refused", reason, detail, further);
}

/** It was allowed, and the server could not be reached or broke off: `code` says how, 502. */
export function failureOf(code: "upstream_failed", message: string): Refusal {
  return told(502, "egress_failed", code, message, []);
}

/** A decision that an engine makes by itself: of bytes that no question can be made of. */
export function denied(
  reason: DecisionReason,
  detail: string,
): { decision: Decision; refusal: Refusal } {
  const decision: Decision = { action: "deny", reason, rule: null, detail };
  return { decision, refusal: refusalOf(decision) };
}

function told(
  status: number,
  type: string,
  code: string,
  message: string,
  further: readonly (readonly [string, string])[],
): Refusal {
  const body = `${JSON.stringify({ error: { type, code, message } })}\n`;
  const headers: (readonly [string, string])[] = [
    ["Content-Type", "application/json"],
    ["Content-Length", String(Buffer.byteLength(body))],
    ["X-Autocode-Egress", code],
    ["X-Should-Retry", "false"],
    ...further,
  ];
  return { status, headers, body };
}

/** What a flow is in few words, and how flows spread over time. Pure. */
import { visible } from "./format.js";

/** @typedef {import("../../../orchestrator/contract/flows.ts").FlowSummary} FlowSummary */
/** @typedef {import("../../../orchestrator/contract/flows.ts").FlowRecord} FlowRecord */

export const ACTIONS = ["allow", "inject", "passthrough", "deny"];
export const FILTERS = [
  "project",
  "trial_id",
  "host",
  "status",
  "action",
  "text",
  "since",
  "until",
];

/** "200", "refused", "warned", "error", or what it was where nothing was answered. */
export function outcomeOf(/** @type {FlowSummary} */ { decision, status, error, kind }) {
  if (decision.action === "deny") return "refused";
  if (error !== null) return "error";
  if (decision.reason === "warned") return "warned";
  return status === null ? kind : String(status);
}

/** @param {FlowSummary} flow @returns {"good" | "bad" | "warn" | "idle"} */
export function flowTone(flow) {
  const outcome = outcomeOf(flow);
  if (outcome === "refused") return "bad";
  if (outcome === "error" || outcome === "warned") return "warn";
  if (flow.status === null) return "idle";
  return flow.status >= 400 ? "warn" : "good";
}

/** "api.example.org:8443", but for its scheme's own port. @param {FlowSummary} flow */
export function placeOf({ host, port, scheme }) {
  const usual = scheme === "http" || scheme === "ws" ? 80 : 443;
  return visible(`${host}${port === usual || port === 0 ? "" : `:${port}`}`);
}

/** @param {Pick<FlowSummary, "path" | "query">} flow */
export function pathOf({ path, query }) {
  return visible(`${path ?? ""}${query === null ? "" : `?${query}`}`);
}

/**
 * A record as the list shows it, so that both read alike.
 *
 * @param {FlowRecord} flow
 * @returns {FlowSummary}
 */
export function summaryOf(flow) {
  const { request, response, server } = flow;
  return {
    ...flow,
    method: request?.method ?? null,
    scheme: request?.scheme ?? null,
    host: server.host,
    port: server.port,
    path: request?.path ?? null,
    query: request?.query ?? null,
    status: response?.status ?? null,
    sent_bytes: request?.byte_count ?? 0,
    received_bytes: response?.byte_count ?? 0,
  };
}

/** Whether something was refused, or would have been. @param {FlowSummary} flow */
export function isViolation({ decision }) {
  return decision.action === "deny" || decision.reason === "warned";
}

const RULES_ANSWER = ["no_rule", "warned", "private_address", "foreign_credential"];

/** Whether a rule would let it through, so that one can be asked for. @param {FlowSummary} flow */
export function isAskable({ decision, trial_id: trialId, project_id: projectId }) {
  return RULES_ANSWER.includes(decision.reason) && trialId !== null && projectId !== null;
}

/**
 * How many flows began in each of `count` equal spans between the first and the last, by tone.
 *
 * @param {readonly FlowSummary[]} flows
 * @param {number} count
 */
export function spansOf(flows, count) {
  const times = flows.map(({ started_at: at }) => Date.parse(at));
  const firstMs = Math.min(...times);
  const lengthMs = Math.max(1, (Math.max(...times) - firstMs) / count);
  const spans = Array.from({ length: count }, (_, index) => ({
    startMs: firstMs + index * lengthMs,
    good: 0,
    warn: 0,
    bad: 0,
    idle: 0,
  }));
  for (const [index, flow] of flows.entries()) {
    const at = Math.min(count - 1, Math.floor(((times[index] ?? 0) - firstMs) / lengthMs));
    const span = spans[at];
    if (span !== undefined) span[flowTone(flow)] += 1;
  }
  return spans;
}

/**
 * The parts of a flow's duration in the order they passed.
 *
 * @param {FlowRecord} flow
 */
export function phasesOf({ timings, duration_ms: durationMs }) {
  const { dns_ms: dns, connect_ms: connect, tls_ms: tls, first_byte_ms: firstByte } = timings;
  const named = [
    { name: "dns", ms: dns ?? 0 },
    { name: "connect", ms: connect ?? 0 },
    { name: "tls", ms: tls ?? 0 },
    { name: "wait", ms: firstByte ?? 0 },
  ];
  const known = named.reduce((sum, { ms }) => sum + ms, 0);
  const rest = { name: "transfer", ms: Math.max(0, durationMs - known) };
  return [...named, rest].filter(({ ms }) => ms > 0);
}

/** What an event of a trial says to a reader. Pure; an event's data is anyone's, so all is text. */
import { asText, asWords, formatCount, formatDuration } from "./format.js";
import { formatMoney } from "./money.js";

/** @typedef {import("./live.js").TrialEvent} TrialEvent */
/**
 * @typedef {object} EventText
 * @property {"agent" | "money" | "system"} kind what the timeline can be narrowed to
 * @property {"good" | "bad" | "warn" | "busy" | "idle"} tone
 * @property {string} title
 * @property {string} [detail] one line beside the title
 * @property {string} [body] longer text below it
 * @property {boolean} [isCode] the body is set in a fixed width
 * @property {boolean} [isFolded] the body is shown when asked for
 * @property {string} [aside] the figure at the right: tokens
 * @property {string} [cost] nano-units
 */

const STATE_TONES = {
  succeeded: "good",
  failed: "bad",
  errored: "warn",
  paused: "warn",
  cancelled: "idle",
  queued: "idle",
};
const VERDICT_TONES = { passed: "good", failed: "bad" };

/** @type {Record<string, (data: Record<string, unknown>, currency: string) => EventText>} */
const TEXTS = {
  "trial.state": ({ to, reason }) => ({
    kind: "system",
    tone: STATE_TONES[asText(to)] ?? "busy",
    title: capitalised(asText(to)),
    detail: asText(reason),
  }),
  "trial.retry": ({ failure_class, tries, checkpoint_id }) => ({
    kind: "system",
    tone: "warn",
    title: "Tried again",
    detail: joined([
      asWords(asText(failure_class)),
      tries !== undefined && `${asText(tries)} so far`,
      checkpoint_id !== undefined && "goes on from what was kept",
    ]),
  }),
  "trial.note": ({ level, message }) => ({
    kind: "system",
    tone: level === "warn" ? "warn" : "idle",
    title: "Note",
    detail: asText(message),
  }),
  "budget.threshold": ({ percent, spent_nanos, limit_nanos }, currency) => ({
    kind: "money",
    tone: "warn",
    title: `${asText(percent)} % of the allowance is spent`,
    detail: `${money(spent_nanos, currency)} of ${money(limit_nanos, currency)}`,
  }),
  "budget.exhausted": ({ required_nanos, available_nanos, unit }, currency) => ({
    kind: "money",
    tone: "bad",
    title: "The allowance is exhausted",
    detail: joined([
      `the next call may cost ${money(required_nanos, unit === "TOK" ? unit : currency)}`,
      `${money(available_nanos, unit === "TOK" ? unit : currency)} is left`,
    ]),
  }),
  "call.settled": ({ model, side, input_tokens, output_tokens, cost_nanos }) => ({
    kind: "money",
    tone: "idle",
    title: "Call",
    detail: joined([asText(model), asText(side)]),
    aside: `${tokens(input_tokens)} in, ${tokens(output_tokens)} out`,
    ...(isNanos(cost_nanos) ? { cost: asText(cost_nanos) } : {}),
  }),
  "model.swapped": ({ pair, side, duration_ms, charged_nanos, uncharged_reason }) => ({
    kind: "money",
    tone: "idle",
    title: "Models swapped for it",
    detail: joined([
      asText(pair),
      asText(side),
      duration(duration_ms),
      uncharged_reason !== undefined && `not all of it was charged: ${asText(uncharged_reason)}`,
    ]),
    ...(isNanos(charged_nanos) ? { cost: asText(charged_nanos) } : {}),
  }),
  "call.refused": ({ code, message }) => ({
    kind: "money",
    tone: "bad",
    title: "Call refused",
    detail: joined([asWords(asText(code)), asText(message)]),
  }),
  "worker.step": ({ step, detail }) => ({
    kind: "system",
    tone: "idle",
    title: capitalised(asWords(asText(step))),
    detail: asText(detail),
  }),
  "phase.started": ({ phase, side, agent, argv }) => ({
    kind: "agent",
    tone: "busy",
    title: `Phase ${asText(phase)} started`,
    detail: joined([asText(agent), side !== undefined && `${asText(side)} model`]),
    body: Array.isArray(argv) ? argv.map(asText).join(" ") : asText(argv),
    isCode: true,
    isFolded: true,
  }),
  "phase.ended": ({ phase, exit_code, signal, duration_ms, outcome }) => ({
    kind: "agent",
    tone: outcome === "finished" || outcome === undefined ? "good" : "warn",
    title: `Phase ${asText(phase)} ended`,
    detail: joined([
      asWords(asText(outcome)),
      typeof exit_code === "number" && `exit code ${exit_code}`,
      typeof signal === "string" && signal,
      duration(duration_ms),
    ]),
  }),
  "agent.message": ({ text }) => ({
    kind: "agent",
    tone: "busy",
    title: "Agent",
    body: asText(text),
  }),
  "agent.reasoning": ({ text }) => ({
    kind: "agent",
    tone: "idle",
    title: "Reasoning",
    body: asText(text),
    isFolded: true,
  }),
  "agent.tool_call": ({ name, arguments: args }) => ({
    kind: "agent",
    tone: "busy",
    title: asText(name) || "Tool",
    detail: oneLine(args),
    body: asText(parsed(args)),
    isCode: true,
    isFolded: true,
  }),
  "agent.tool_result": ({ is_error, text }) => ({
    kind: "agent",
    tone: is_error === true ? "bad" : "idle",
    title: is_error === true ? "Tool failed" : "Result",
    detail: firstLine(asText(text)),
    body: asText(text),
    isCode: true,
    isFolded: true,
  }),
  "agent.usage": ({ input_tokens, output_tokens }) => ({
    kind: "agent",
    tone: "idle",
    title: "Usage, as the agent counts",
    aside: `${tokens(input_tokens)} in, ${tokens(output_tokens)} out`,
  }),
  "agent.error": ({ message, status }) => ({
    kind: "agent",
    tone: "bad",
    title: "The agent met an error",
    detail: joined([typeof status === "number" && `status ${status}`]),
    body: asText(message),
  }),
  "egress.refused": ({ host, method }) => ({
    kind: "system",
    tone: "warn",
    title: "Connection refused",
    detail: joined([asText(method), asText(host)]),
  }),
  "verify.started": () => ({ kind: "system", tone: "busy", title: "Hidden tests started" }),
  "verify.ended": ({ verdict, tests_passed, tests_failed, duration_ms }) => ({
    kind: "system",
    tone: VERDICT_TONES[asText(verdict)] ?? "warn",
    title: `Verdict: ${asText(verdict)}`,
    detail: joined([
      typeof tests_passed === "number" && `${tests_passed} passed`,
      typeof tests_failed === "number" && `${tests_failed} failed`,
      duration(duration_ms),
    ]),
  }),
};

/**
 * @param {TrialEvent} event
 * @param {string} currency of the trial's budget
 * @returns {EventText}
 */
export function eventText({ type, data }, currency) {
  const text = Object.hasOwn(TEXTS, type) ? TEXTS[type] : undefined;
  if (text !== undefined) return text(data, currency);
  return { kind: "system", tone: "idle", title: asWords(type), body: asText(data), isFolded: true };
}

/** @param {(string | false)[]} parts */
function joined(parts) {
  return parts.filter((part) => part !== false && part !== "").join(" · ");
}

/** @param {unknown} nanos @param {string} currency */
function money(nanos, currency) {
  return isNanos(nanos) ? formatMoney(asText(nanos), currency) : asText(nanos);
}

/** @param {unknown} value */
function isNanos(value) {
  return /^\d{1,19}$/.test(asText(value));
}

/** @param {unknown} count */
function tokens(count) {
  return typeof count === "number" ? formatCount(count) : "?";
}

/** @param {unknown} ms */
function duration(ms) {
  return typeof ms === "number" ? formatDuration(ms) : "";
}

/** Arguments come as JSON text or as a value. @param {unknown} args */
function parsed(args) {
  if (typeof args !== "string") return args;
  try {
    return JSON.parse(args);
  } catch {
    return args;
  }
}

/** The first words of a tool call's arguments. @param {unknown} args */
function oneLine(args) {
  const value = parsed(args);
  if (value === null || typeof value !== "object") return firstLine(asText(value));
  const first = Object.values(value).find((each) => typeof each === "string" && each !== "");
  return firstLine(asText(first ?? ""));
}

/** @param {string} text */
function firstLine(text) {
  const line = text.trim().split("\n", 1)[0] ?? "";
  return line.length > 160 ? `${line.slice(0, 160)}…` : line;
}

/** @param {string} word */
function capitalised(word) {
  return word.charAt(0).toUpperCase() + word.slice(1);
}

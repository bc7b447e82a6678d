/** Flows in few words: the options that look for them, and their lines within 80 columns. Pure. */
import type { FlowSummary } from "../contract/flows.ts";
import { formatNanos } from "../money.ts";
import type { Option, Values } from "./command.ts";
import { usage } from "./failure.ts";
import type { Column, Tone } from "./print.ts";

/** Those of every command that looks for flows. */
export const FLOW_OPTIONS: Readonly<Record<string, Option>> = {
  project: { type: "string", value: "<name>", help: "Of this project" },
  trial: { type: "string", value: "<id>", help: "Of this trial" },
  host: { type: "string", value: "<host>", help: 'To this host, or to all below "*.example.org"' },
  path: { type: "string", value: "<path>", help: "Whose path begins so" },
  method: { type: "string", value: "<method>", help: "With this method" },
  status: { type: "string", value: "<status>", help: "Answered so: 404, or 5xx" },
  refused: { type: "boolean", help: "That were refused" },
  reason: { type: "string", value: "<reason>", help: "Decided so: no_rule, canary, too_large, …" },
  door: { type: "string", value: "<door>", help: "Through this door: egress or gateway" },
  text: { type: "string", value: "<text>", help: "With this in the URL, a header or a body" },
  since: { type: "string", value: "<time>", help: "Begun at or after 2026-11-21 or a time of it" },
  until: { type: "string", value: "<time>", help: "Begun before then" },
};

const SAME_NAMES = ["project", "host", "path", "method", "status", "reason", "door", "text"];

/**
 * The query that the options ask for.
 *
 * @throws Failure: usage, for a time that is none.
 */
export function flowQuery(options: Values): URLSearchParams {
  const query = new URLSearchParams();
  for (const name of SAME_NAMES) {
    const value = options.text(name);
    if (value !== undefined) query.set(name, name === "method" ? value.toUpperCase() : value);
  }
  const trial = options.text("trial");
  if (trial !== undefined) query.set("trial_id", trial);
  if (options.flag("refused")) query.set("action", "deny");
  for (const name of ["since", "until"]) {
    const value = options.text(name);
    if (value !== undefined) query.set(name, timeOf(name, value));
  }
  return query;
}

function timeOf(name: string, text: string): string {
  const atMs = /^\d{4}-\d{2}-\d{2}/.test(text) ? Date.parse(text) : Number.NaN;
  if (!Number.isNaN(atMs)) return new Date(atMs).toISOString();
  throw usage(`--${name}: "${text}" is neither a day (2026-11-21) nor a time (2026-11-21T14:30Z)`);
}

/** The id is shown without its "flow_", which `traffic show` does not need. */
export const FLOW_COLUMNS: readonly Column<FlowSummary>[] = [
  { title: "flow", value: ({ id }) => id.replace(/^flow_/, ""), tone: () => "dim" },
  { title: "time", value: ({ started_at: at }) => at.slice(11, 19) },
  { title: "outcome", value: outcomeOf, tone: toneOf },
  { title: "bytes", value: (flow) => byteText(flow.received_bytes), align: "right" },
  { title: "request", value: requestOf, shrinks: true },
];

/** "200", "refused", "warned", "error"; "tunnel" or "packet" where nothing was answered. */
export function outcomeOf({ decision, status, error, kind }: FlowSummary): string {
  if (decision.action === "deny") return "refused";
  if (error !== null) return "error";
  if (decision.reason === "warned") return "warned";
  return status === null ? kind : String(status);
}

export function toneOf(flow: FlowSummary): Tone | null {
  const outcome = outcomeOf(flow);
  if (outcome === "refused") return "bad";
  if (outcome === "error" || outcome === "warned") return "warn";
  const { status } = flow;
  if (status === null) return "dim";
  return status >= 400 ? "warn" : "good";
}

/** "GET api.example.org/v1/x", "udp 1.1.1.1:53, 3 packets"; a port that is not the usual one. */
export function requestOf(flow: FlowSummary): string {
  const { method, scheme, host, port, path, query, packets } = flow;
  if (packets !== undefined) {
    const { transport, count } = packets;
    const to = port === 0 ? host : `${host.includes(":") ? `[${host}]` : host}:${port}`;
    return `${transport} ${to}, ${count} ${count === 1 ? "packet" : "packets"}`;
  }
  const usual = scheme === "http" || scheme === "ws" ? 80 : 443;
  const place = `${host}${port === usual || port === 0 ? "" : `:${port}`}${path ?? ""}`;
  return `${method === null ? "" : `${method} `}${place}${query === null ? "" : `?${query}`}`;
}

/** One flow in a line of at most 80 columns, as they pass by. */
export function flowLine(flow: FlowSummary): (string | [string, Tone | null])[] {
  const { started_at: at, duration_ms: ms, cost } = flow;
  const tail = [
    byteText(flow.received_bytes).padStart(8),
    `${Math.round(ms)} ms`.padStart(9),
    ...(cost === null ? [] : [formatNanos(BigInt(cost.amount_nanos), cost.currency)]),
  ].join(" ");
  const room = 80 - 18 - tail.length - 1;
  const request = [...requestOf(flow)];
  const shown =
    request.length > room ? `${request.slice(0, room - 1).join("")}…` : request.join("");
  return [
    [`${at.slice(11, 19)} `, "dim"],
    [`${outcomeOf(flow).padEnd(8)} `, toneOf(flow)],
    shown.padEnd(room),
    [` ${tail}`, "dim"],
  ];
}

/** "512 B", "1.4 kB", "3.2 MB". */
export function byteText(count: number): string {
  if (count < 1000) return `${count} B`;
  let scaled = count;
  let unit = "B";
  for (const next of ["kB", "MB", "GB", "TB"]) {
    if (scaled < 999.5) break;
    scaled /= 1000;
    unit = next;
  }
  return `${scaled.toFixed(scaled < 9.95 ? 1 : 0)} ${unit}`;
}

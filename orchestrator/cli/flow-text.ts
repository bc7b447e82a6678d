/** One flow in lines: head, decision, headers, and bodies as people read them. Pure. */
import type { Body, FlowRecord, Headers } from "../contract/flows.ts";
import { formatNanos } from "../money.ts";
import { byteText } from "./flow-rows.ts";

const HEX_BYTES = 256;
const NAME_WIDTH = 12;

/** `bodyLinesMax`: of each body; what is left out is told. */
export function flowText(flow: FlowRecord, bodyLinesMax: number): string[] {
  const { request, response, messages } = flow;
  return [
    ...headLines(flow),
    ...(request === null
      ? []
      : ["", "Request", ...headerLines(request.headers), ...bodyLines(request.body, bodyLinesMax)]),
    ...(response === null
      ? []
      : [
          "",
          "Response",
          ...headerLines(response.headers),
          ...bodyLines(response.body, bodyLinesMax),
        ]),
    ...(messages === null ? [] : ["", "Messages", ...messageLines(flow, bodyLinesMax)]),
  ];
}

function headLines(flow: FlowRecord): string[] {
  const { request, response, server, decision, timings, cost } = flow;
  const target = `${server.host}:${server.port}`;
  const query = request?.query == null ? "" : `?${request.query}`;
  const what =
    request === null
      ? `${flow.transport ?? flow.kind} to ${target}`
      : `${request.method} ${request.scheme}://${target}${request.path}${query}`;
  const tls =
    server.tls_version === null
      ? null
      : `${server.tls_version} for ${server.server_name ?? "no name"}, certificate ` +
        `${server.certificate_sha256?.slice(0, 16) ?? "not seen"}`;
  const times = (["dns", "connect", "tls", "first_byte"] as const).flatMap((name) => {
    const ms = timings[`${name}_ms`];
    return ms === null ? [] : [`${name.replace("_", " ")} ${Math.round(ms)}`];
  });
  const facts: [string, string | null][] = [
    ["flow", flow.id],
    ["at", `${flow.started_at}, ${Math.round(flow.duration_ms)} ms`],
    ["times", times.length === 0 ? null : `${times.join(", ")} ms`],
    ["trial", flow.trial_id],
    ["agent", flow.agent],
    ["server", server.address === null ? null : `${server.address}, ${server.http_version ?? ""}`],
    ["tls", tls],
    ["decision", `${decision.action}: ${decision.reason.replaceAll("_", " ")}`],
    ["rule", decision.rule],
    ["why", decision.detail],
    ["credentials", flow.credentials.length === 0 ? null : flow.credentials.join(", ")],
    ["cost", cost === null ? null : formatNanos(BigInt(cost.amount_nanos), cost.currency)],
    ["call", flow.call_id],
    ["redacted", flow.redaction_count === 0 ? null : `${flow.redaction_count} pieces`],
    ["passed", passedText(flow)],
    ["error", flow.error],
  ];
  return [
    `${what}${response === null ? "" : `  ${response.status}`}`,
    ...facts.flatMap(([name, value]) =>
      value === null ? [] : `${name.padEnd(NAME_WIDTH)} ${value}`,
    ),
  ];
}

function passedText({ kind, sent_count: sent, received_count: received }: FlowRecord) {
  if (sent === null) return null;
  if (kind === "packet") return `${sent} ${sent === 1 ? "packet" : "packets"}, all dropped`;
  return `${byteText(sent)} sent, ${byteText(received ?? 0)} received`;
}

function headerLines(headers: Headers | null): string[] {
  if (headers === null) return ["  (headers are not kept, or not yours to see)"];
  return headers.map(([name, value]) => `  ${name}: ${value}`);
}

function messageLines({ messages, started_at: at }: FlowRecord, linesMax: number): string[] {
  const startMs = Date.parse(at);
  return (messages ?? []).flatMap(({ at_ms: atMs, from, body }) => [
    `  ${from === "client" ? "→" : "←"} +${Math.round(atMs - startMs)} ms`,
    ...bodyLines(body, linesMax).filter((line) => line !== ""),
  ]);
}

function bodyLines(body: Body | null, linesMax: number): string[] {
  if (body === null) return [];
  const whole = bodyText(body).split("\n");
  const shown = whole.slice(0, linesMax).map((line) => `  ${line}`);
  const { byte_count: byteCount, media_type: type, is_truncated: isCut } = body;
  const head = `  ${type ?? "no type"}, ${byteText(byteCount)}${isCut ? ", recorded in part" : ""}`;
  const rest = whole.length - shown.length;
  return ["", head, ...shown, ...(rest > 0 ? [`  … ${rest} more lines: --full shows them`] : [])];
}

/** A body for reading: JSON indented, events and forms taken apart, bytes in hexadecimal. */
export function bodyText({ media_type: type, encoding, content }: Body): string {
  if (encoding === "base64") return hexText(Buffer.from(content, "base64"));
  const essence = (type ?? "").split(";")[0]?.trim().toLowerCase() ?? "";
  if (essence === "text/event-stream") return eventsText(content);
  if (essence === "application/x-www-form-urlencoded") {
    return [...new URLSearchParams(content)]
      .map(([name, value]) => `${name} = ${value}`)
      .join("\n");
  }
  return jsonText(content) ?? content;
}

/** Indented; null when it is no JSON object or array. A huge number keeps its digits: as it was. */
function jsonText(text: string): string | null {
  if (!/^\s*[[{]/.test(text) || /\d{16}/.test(text)) return null;
  try {
    return JSON.stringify(JSON.parse(text), null, 2);
  } catch {
    return null;
  }
}

function eventsText(text: string): string {
  const lines = text.split(/\r\n|\r|\n/).map((line) => {
    const [, data] = /^data: ?(.*)$/.exec(line) ?? [];
    const json = data === undefined ? null : jsonText(data);
    return json === null ? line : `data: ${json}`;
  });
  return lines.join("\n").trimEnd();
}

function hexText(bytes: Buffer): string {
  const rows: string[] = [];
  for (let at = 0; at < Math.min(bytes.length, HEX_BYTES); at += 16) {
    const row = bytes.subarray(at, Math.min(at + 16, HEX_BYTES));
    const hex = row.toString("hex").replaceAll(/(..)/g, "$1 ");
    const text = row.toString("latin1").replaceAll(/[^\x20-\x7e]/g, ".");
    rows.push(`${at.toString(16).padStart(6, "0")}  ${hex.padEnd(48)} ${text}`);
  }
  if (bytes.length > HEX_BYTES) rows.push(`… ${bytes.length - HEX_BYTES} more bytes`);
  return rows.join("\n");
}

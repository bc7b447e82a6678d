/**
 * A flow's record as rows of `flow`, `flow_headers` and `flow_body`, and back. Pure.
 *
 * PostgreSQL refuses U+0000 in any text, and halves of surrogate pairs in jsonb. Headers and bodies
 * are JSON in columns of text, where both are plain escapes; in jsonb they are written as U+E000
 * and four digits, as is U+E000 itself. So nothing that was recorded is lost.
 */
import type { Body, FlowRecord } from "../contract/flows.ts";
import type { Element } from "../db/binary-arrays.ts";
import type { EpochMs } from "../runtime/clock.ts";
import type { FlowId } from "../runtime/ids.ts";
import { summaryOf } from "./filter.ts";
import type { FlowLine, LineBody, LineHeaders } from "./flow-line.ts";
import {
  type BodyPart,
  bodiesOf,
  bodyBytes,
  type HeaderPart,
  headerBytes,
  joinFlow,
  splitFlow,
  urlOf,
} from "./parts.ts";

/** What a filter compares is cut to this: an index takes no more. */
const KEY_LENGTH_MAX = 253;

/** One flow's values, in the order of `FLOW_COLUMNS`. */
export type FlowValues = readonly Element[];

/** A row; about as many bytes, in UTF-16 units, as its statement will have. */
export interface FlowRow {
  readonly id: FlowId;
  readonly startedAtMs: EpochMs;
  readonly values: FlowValues;
  readonly length: number;
}

/** The columns of the three tables as one statement gives them, with their types. */
export const FLOW_COLUMNS = [
  ["id", "text"],
  ["started_at", "timestamptz"],
  ["source_id", "text"],
  ["sequence", "bigint"],
  ["project_id", "text"],
  ["trial_id", "text"],
  ["agent", "text"],
  ["door", "text"],
  ["kind", "text"],
  ["method", "text"],
  ["host", "text"],
  ["path", "text"],
  ["status", "integer"],
  ["action", "text"],
  ["reason", "text"],
  ["sent_bytes", "bigint"],
  ["received_bytes", "bigint"],
  ["is_error", "boolean"],
  ["url", "text"],
  ["meta", "text"],
  ["header_bytes", "bigint"],
  ["request_headers", "text"],
  ["response_headers", "text"],
  ["body_bytes", "bigint"],
  ["body_facts", "text"],
  ["body_texts", "text"],
  ["body_binaries", "text"],
] as const;

/** How a body lies in `facts`: its content is the next line of `texts` or `binaries`. */
type BodyFacts = Omit<Body, "content">;

interface Facts {
  request: BodyFacts | null;
  response: BodyFacts | null;
  messages: { at_ms: number; from: "client" | "server"; body: BodyFacts }[] | null;
}

export interface StoredFlow extends Record<string, unknown> {
  /** `meta::text`. */
  meta: string;
  request_headers: string | null;
  response_headers: string | null;
  body_facts: string | null;
  body_texts: string | null;
  body_binaries: string | null;
}

/** The row of a record. */
export function toRow(record: FlowRecord): FlowRow {
  const { meta, headers, bodies } = splitFlow(record);
  const packed = bodies === null ? null : packBodies(bodies);
  return rowOf(record, JSON.stringify(meta), [
    ...(headers === null ? [null, null, null] : packHeaders(headers)),
    bodies === null ? null : bodyBytes(bodies),
    ...[packed?.facts ?? null, packed?.texts ?? null, packed?.binaries ?? null],
  ]);
}

/** The same row of the same record, of a line of the spool. */
export function toRowOfLine(line: FlowLine): FlowRow {
  const { bytes, meta, metaJson, requestBody, responseBody } = line;
  const { requestHeaders, responseHeaders } = line;
  const hasHeaders = requestHeaders !== null || responseHeaders !== null;
  const headerCount = (requestHeaders?.byteCount ?? 0) + (responseHeaders?.byteCount ?? 0);
  const headers = [hasHeaders ? headerCount : null, json(requestHeaders), json(responseHeaders)];
  if (requestBody === null && responseBody === null) {
    return rowOf(meta, metaJson, [...headers, null, null, null, null]);
  }
  const [asked, answered] = [requestBody?.facts ?? "null", responseBody?.facts ?? "null"];
  return rowOf(meta, metaJson, [
    ...headers,
    (requestBody?.byteCount ?? 0) + (responseBody?.byteCount ?? 0),
    `{"request":${asked},"response":${answered},"messages":null}`,
    contents("utf8"),
    contents("base64"),
  ]);

  function json(part: LineHeaders | null): Element {
    return part && [bytes.subarray(part.span.start, part.span.end)];
  }

  function contents(encoding: LineBody["encoding"]): Buffer[] {
    const found: Buffer[] = [];
    for (const body of [requestBody, responseBody]) {
      if (body?.encoding !== encoding) continue;
      if (found.length > 0) found.push(NEWLINE);
      found.push(bytes.subarray(body.content.start, body.content.end));
    }
    return found;
  }
}

const NEWLINE = Buffer.from("\n");

/** @param record only what is its meta is looked at. */
function rowOf(record: FlowRecord, metaJson: string, contents: FlowValues): FlowRow {
  const { host, method, path, status, sent_bytes, received_bytes } = summaryOf(record);
  const metaText = escapeJson(metaJson);
  const startedAtMs = Date.parse(record.started_at);
  const { decision } = record;
  const values = [
    record.id,
    startedAtMs,
    record.source_id,
    record.sequence,
    key(record.project_id),
    key(record.trial_id),
    key(record.agent),
    record.door,
    record.kind,
    key(method?.toUpperCase() ?? null),
    key(host.toLowerCase()),
    textOrNull(path),
    status,
    decision.action,
    decision.reason,
    sent_bytes,
    received_bytes,
    record.error !== null,
    escapeText(urlOf(record)),
    metaText,
    ...contents,
  ];
  let length = 1_000;
  for (const value of [metaText, ...contents]) {
    if (typeof value === "string") length += value.length;
    else if (Array.isArray(value)) for (const part of value) length += part.length;
  }
  return { id: record.id as FlowId, startedAtMs, values, length };
}

export function readFlow(row: StoredFlow): FlowRecord {
  const { request_headers: request, response_headers: response } = row;
  const headers: HeaderPart = {
    request: request === null ? null : JSON.parse(request),
    response: response === null ? null : JSON.parse(response),
  };
  return joinFlow(readMeta(row.meta), headers, unpackBodies(row));
}

export function readMeta(text: string): FlowRecord {
  return JSON.parse(unescapeJson(text)) as FlowRecord;
}

/** For a column of text, or for a value that one is compared with. */
export function escapeText(text: string): string {
  if (!/[\0\ue000]/.test(text)) return text;
  return text.replaceAll(/[\0\ue000]/g, (found) => (found === "\0" ? "\ue0000000" : "\ue000e000"));
}

/**
 * The patterns (for `ilike`) of a text in columns of JSON. In headers a name and its value, which
 * people write as "name: value", are apart.
 */
export function jsonPatterns(text: string): { inText: string; inHeaders: string } {
  const inText = JSON.stringify(text).slice(1, -1);
  return { inText: like(inText), inHeaders: like(inText.replace(/: ?/, '","')) };
}

/** The pattern of whatever holds `text`. */
export function like(text: string): string {
  return `%${text.replaceAll(/[\\%_]/g, "\\$&")}%`;
}

function key(text: string | null): string | null {
  return text === null ? null : escapeText(text.slice(0, KEY_LENGTH_MAX));
}

function textOrNull(text: string | null): string | null {
  return text === null ? null : escapeText(text);
}

function packHeaders(headers: HeaderPart): (string | number | null)[] {
  const { request, response } = headers;
  const text = (list: HeaderPart["request"]) => (list === null ? null : JSON.stringify(list));
  return [headerBytes(headers), text(request), text(response)];
}

function packBodies(part: BodyPart): { facts: string; texts: string; binaries: string } {
  const facts: Facts = {
    request: withoutContent(part.request),
    response: withoutContent(part.response),
    messages:
      part.messages?.map(({ body, ...message }) => {
        const { content: _, ...rest } = body;
        return { ...message, body: rest };
      }) ?? null,
  };
  const lines = { utf8: [] as string[], base64: [] as string[] };
  for (const { encoding, content } of bodiesOf(part)) {
    lines[encoding].push(JSON.stringify(content).slice(1, -1));
  }
  const [texts, binaries] = [lines.utf8.join("\n"), lines.base64.join("\n")];
  return { facts: JSON.stringify(facts), texts, binaries };
}

function withoutContent(body: Body | null): BodyFacts | null {
  if (body === null) return null;
  const { content: _, ...facts } = body;
  return facts;
}

function unpackBodies(row: StoredFlow): BodyPart | null {
  if (row.body_facts === null) return null;
  const facts = JSON.parse(row.body_facts) as Facts;
  const lines = {
    utf8: (row.body_texts ?? "").split("\n").values(),
    base64: (row.body_binaries ?? "").split("\n").values(),
  };
  const whole = (body: BodyFacts): Body => {
    const line = lines[body.encoding].next().value ?? "";
    return { ...body, content: JSON.parse(`"${line}"`) as string };
  };
  // In the order of bodiesOf.
  const request = facts.request === null ? null : whole(facts.request);
  const response = facts.response === null ? null : whole(facts.response);
  const messages = facts.messages?.map(({ body, ...rest }) => ({ ...rest, body: whole(body) }));
  return { request, response, messages: messages ?? null };
}

/** JSON.stringify writes NUL and lone surrogates as escapes, after an even number of `\`. */
function escapeJson(json: string): string {
  if (!json.includes("\\u") && !json.includes("\ue000")) return json;
  return json.replaceAll(/\\\\|\\u(0000|d[89a-f][0-9a-f]{2})|\ue000/g, (found, code) => {
    if (found === "\\\\") return found;
    return found === "\ue000" ? "\ue000e000" : `\ue000${code}`;
  });
}

/** jsonb's text holds U+E000 as itself. */
function unescapeJson(json: string): string {
  return json.replaceAll(/\ue000([0-9a-f]{4})/g, "\\u$1");
}

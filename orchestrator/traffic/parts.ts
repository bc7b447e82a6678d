/**
 * A record in the parts that stores keep: its meta, its headers, its bodies; and what searches
 * ask of it. Pure. Whatever is split here is joined again without a loss.
 */
import type { Body, FlowRecord, Headers, Message } from "../contract/flows.ts";
import { withoutContents } from "./filter.ts";

export interface HeaderPart {
  readonly request: Headers | null;
  readonly response: Headers | null;
}

export interface BodyPart {
  readonly request: Body | null;
  readonly response: Body | null;
  readonly messages: Message[] | null;
}

export interface FlowParts {
  /** The record, with null where the other parts were. */
  readonly meta: FlowRecord;
  /** Null: it has none. */
  readonly headers: HeaderPart | null;
  readonly bodies: BodyPart | null;
}

export function splitFlow(record: FlowRecord): FlowParts {
  const { request, response, messages } = record;
  const headers = { request: request?.headers ?? null, response: response?.headers ?? null };
  const bodies = { request: request?.body ?? null, response: response?.body ?? null, messages };
  const isEmpty = (part: object) => Object.values(part).every((each) => each === null);
  return {
    meta: withoutContents(record),
    headers: isEmpty(headers) ? null : headers,
    bodies: isEmpty(bodies) ? null : bodies,
  };
}

/** The record with these parts; null where retention took one, or where it never was. */
export function joinFlow(
  meta: FlowRecord,
  headers: HeaderPart | null,
  bodies: BodyPart | null,
): FlowRecord {
  const { request, response } = meta;
  const whole = (side: "request" | "response") => ({
    headers: headers?.[side] ?? null,
    body: bodies?.[side] ?? null,
  });
  return {
    ...meta,
    request: request === null ? null : { ...request, ...whole("request") },
    response: response === null ? null : { ...response, ...whole("response") },
    messages: bodies?.messages ?? null,
  };
}

/** What `bytes_max` counts: contents and header lines as UTF-8. */
export function headerBytes({ request, response }: HeaderPart): number {
  let count = 0;
  for (const [name, value] of [...(request ?? []), ...(response ?? [])]) {
    count += Buffer.byteLength(name) + Buffer.byteLength(value);
  }
  return count;
}

export function bodyBytes(part: BodyPart): number {
  return bodiesOf(part).reduce((sum, { content }) => sum + Buffer.byteLength(content), 0);
}

/** All that have content, in one order: the request's, the response's, the messages'. */
export function bodiesOf({ request, response, messages }: BodyPart): Body[] {
  const both = [request, response].filter((body) => body !== null);
  return [...both, ...(messages ?? []).map(({ body }) => body)];
}

/** What a search for text looks through besides headers and bodies. */
export function urlOf({ request, server: { host, port } }: FlowRecord): string {
  if (request === null) return `${host}:${port}`;
  const isUsual = port === (request.scheme === "https" || request.scheme === "wss" ? 443 : 80);
  const query = request.query === null ? "" : `?${request.query}`;
  return `${request.scheme}://${host}${isUsual ? "" : `:${port}`}${request.path}${query}`;
}

/** "example.org" itself, or "*.example.org": all below it; in lower case. */
export function hostPattern(host: string): { host: string } | { suffix: string } {
  const lower = host.toLowerCase();
  return lower.startsWith("*.") ? { suffix: lower.slice(1) } : { host: lower };
}

/** "404", or "5xx": from and to, inclusive. */
export function statusRange(status: string): { from: number; to: number } {
  const digit = Number(status[0]);
  if (status.endsWith("xx")) return { from: digit * 100, to: digit * 100 + 99 };
  return { from: Number(status), to: Number(status) };
}

/** Which headers belong to one connection, and go no further than it. */
import type { RequestDecision, RequestHead } from "../guard.ts";
import type { HeaderList } from "./flow.ts";

const OF_A_CONNECTION: ReadonlySet<string> = new Set([
  "connection",
  "keep-alive",
  "proxy-connection",
  "proxy-authenticate",
  "proxy-authorization",
  "te",
  "transfer-encoding",
  "upgrade",
  "http2-settings",
]);
const NEVER_IN_TRAILERS: ReadonlySet<string> = new Set([
  ...OF_A_CONNECTION,
  ...["host", "content-length", "content-encoding", "content-type", "content-range", "trailer"],
  ...["authorization", "cookie", "set-cookie", "expect", "range", "cache-control", "location"],
]);
const WITH_A_BODY: ReadonlySet<string> = new Set(["POST", "PUT", "PATCH"]);

/** `[name, value, name, value]`, as Node reads them, in pairs. */
export function pairsOf(raw: readonly string[]): [string, string][] {
  const pairs: [string, string][] = [];
  for (let at = 0; at + 1 < raw.length; at += 2) pairs.push([raw[at] ?? "", raw[at + 1] ?? ""]);
  return pairs;
}

/** All values of a header, in order. `name` in lower case. */
export function valuesOf(headers: HeaderList, name: string): string[] {
  const values: string[] = [];
  for (const [other, value] of headers) {
    if (other.length === name.length && other.toLowerCase() === name) values.push(value);
  }
  return values;
}

/** Without what belongs to the connection they came by. */
export function endToEnd(headers: HeaderList): [string, string][] {
  const named = new Set<string>();
  for (const value of valuesOf(headers, "connection")) {
    for (const word of value.split(",")) named.add(word.trim().toLowerCase());
  }
  const kept: [string, string][] = [];
  for (const [name, value] of headers) {
    const lower = name.toLowerCase();
    if (!OF_A_CONNECTION.has(lower) && !named.has(lower)) kept.push([name, value]);
  }
  return kept;
}

/** What the server is sent: the guard's headers, framed anew by us. */
export function sentHeaders(
  head: RequestHead,
  decided: Extract<RequestDecision, { outcome: "forward" }>,
  hasBody: boolean,
): [string, string][] {
  const isScrubbed = decided.scrubs.length > 0;
  const sent: [string, string][] = [["Host", head.authority ?? hostOf(head)]];
  for (const [name, value] of endToEnd(decided.headers)) {
    const lower = name.toLowerCase();
    if (lower === "host" || lower === "content-length" || lower === "expect") continue;
    if (isScrubbed && lower === "accept-encoding") continue;
    sent.push([name, value]);
  }
  // What comes encoded must be decoded before it can be scrubbed.
  if (isScrubbed) sent.push(["Accept-Encoding", "identity"]);
  if (hasBody && head.bodyByteCount === null) sent.push(["Transfer-Encoding", "chunked"]);
  else if (hasBody || WITH_A_BODY.has(head.method)) {
    sent.push(["Content-Length", String(head.bodyByteCount ?? 0)]);
  }
  return sent;
}

function hostOf({ target, scheme }: RequestHead): string {
  const usual = scheme === "https" || scheme === "wss" ? 443 : 80;
  return target.port === usual ? target.host : `${target.host}:${target.port}`;
}

/** Those that may come after a body: none that says what it is, or who asks. */
export function trailersOf(raw: readonly string[]): [string, string][] {
  return pairsOf(raw).filter(([name]) => !NEVER_IN_TRAILERS.has(name.toLowerCase()));
}

/** As the record has them: what is said to us alone is no part of the exchange. */
export function recordedHeaders(headers: HeaderList): HeaderList {
  return headers.filter(([name]) => {
    const lower = name.toLowerCase();
    return lower !== "proxy-authorization" && lower !== "proxy-connection";
  });
}

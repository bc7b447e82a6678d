/** The headers that pass between a worker and a model server: those listed here and no others. */
import type { IncomingHttpHeaders } from "node:http";
import type { CallId } from "../../orchestrator/runtime/ids.ts";
import type { ResponseHeaders } from "./exchange.ts";

const REQUEST_HEADERS = ["accept", "user-agent", "anthropic-version", "openai-beta"];
const RESPONSE_HEADERS = ["content-type", "retry-after", "x-should-retry", "x-scripted-model"];
/** Betas that change what a token costs. */
const PRICED_BETA = /^(?:context-1m|fast-mode)/;
const VALUE_LENGTH_MAX = 2_048;

export function upstreamHeaders(
  incoming: IncomingHttpHeaders,
  callId: CallId,
): Record<string, string> {
  const headers: Record<string, string> = {
    "content-type": "application/json",
    // Usage is read off the bytes, so they must not be compressed.
    "accept-encoding": "identity",
    "x-request-id": callId,
  };
  for (const name of REQUEST_HEADERS) {
    const value = incoming[name];
    if (typeof value === "string" && value.length <= VALUE_LENGTH_MAX) headers[name] = value;
  }
  const beta = incoming["anthropic-beta"];
  if (typeof beta === "string" && beta.length <= VALUE_LENGTH_MAX) {
    const kept = beta.split(",").filter((name) => !PRICED_BETA.test(name.trim()));
    if (kept.length > 0) headers["anthropic-beta"] = kept.join(",");
  }
  return headers;
}

export function clientHeaders(
  upstream: ResponseHeaders,
  requestId: string,
): Record<string, string> {
  const headers: Record<string, string> = { "x-request-id": requestId, "request-id": requestId };
  for (const name of RESPONSE_HEADERS) {
    const value = upstream[name];
    if (typeof value === "string") headers[name] = value;
  }
  return headers;
}

/**
 * The record of what passed the gateway, in the form that the egress proxy's records have: of each
 * call with its cost, and of what a good key asked and the gateway answered itself. Pure.
 */
import type { IncomingMessage } from "node:http";
import type { Grant } from "../../orchestrator/keys/keys.ts";
import type { EpochMs } from "../../orchestrator/runtime/clock.ts";
import type { FlowId } from "../../orchestrator/runtime/ids.ts";
import type { CapturedBody, FlowDraft } from "../../orchestrator/traffic/sink.ts";
import type { FinishedCall } from "./calls.ts";
import type { Provider } from "./upstream.ts";

type Headers = readonly (readonly [string, string])[];

/** What the worker asked, as it asked it. */
export interface Asked {
  readonly method: string;
  readonly path: string;
  readonly query: string | null;
  readonly headers: Headers;
  readonly address: string | null;
  readonly httpVersion: string;
}

/** What it was answered; null when it went away before. */
export interface Answered {
  readonly status: number;
  readonly headers: Readonly<Record<string, string>>;
  readonly body: CapturedBody;
}

export function readAsked({
  method,
  url,
  rawHeaders,
  socket,
  httpVersion,
}: IncomingMessage): Asked {
  const [path = "/", query] = splitOnce(url ?? "/");
  const headers: [string, string][] = [];
  for (let at = 0; at + 1 < rawHeaders.length; at += 2) {
    headers.push([rawHeaders[at] as string, rawHeaders[at + 1] as string]);
  }
  const address = socket.remoteAddress ?? null;
  return { method: method ?? "GET", path, query: query ?? null, headers, address, httpVersion };
}

/** Of a call that was forwarded and has ended. */
export function flowOfCall(
  id: FlowId,
  ended: FinishedCall,
  grant: Grant,
  provider: Pick<Provider, "baseUrl">,
  asked: Asked & { readonly body: CapturedBody },
  answered: Answered | null,
): FlowDraft {
  const { startedAtMs, firstByteAtMs, endedAtMs } = ended;
  const server = new URL(provider.baseUrl);
  const defaultPort = server.protocol === "https:" ? 443 : 80;
  return {
    ...exchangeOf(id, grant, asked, asked.body, answered),
    startedAtMs,
    durationMs: Math.max(0, endedAtMs - startedAtMs),
    timings: timings(firstByteAtMs === null ? null : Math.max(0, firstByteAtMs - startedAtMs)),
    server: serverOf(server.hostname, Number(server.port) || defaultPort),
    decision: decision("allow", "A call to the gateway"),
    callId: ended.id,
    transferId: ended.transferId,
    cost: { amount_nanos: String(ended.costNanos), currency: grant.currency },
    error: ended.error,
  };
}

/** Of what was not forwarded: `refusal` says why, null where the gateway knew the answer itself. */
export function flowOfOwnAnswer(
  id: FlowId,
  { startedAtMs, endedAtMs }: { startedAtMs: EpochMs; endedAtMs: EpochMs },
  grant: Grant,
  asked: Asked & { readonly body: CapturedBody | null },
  answered: Answered,
  refusal: string | null,
): FlowDraft {
  return {
    ...exchangeOf(id, grant, asked, asked.body, answered),
    startedAtMs,
    durationMs: Math.max(0, endedAtMs - startedAtMs),
    timings: timings(null),
    server: serverOf("gateway", 0),
    decision:
      refusal === null
        ? decision("allow", "Answered by the gateway")
        : decision("deny", refusal.slice(0, 1_000)),
    callId: null,
    transferId: null,
    cost: null,
    error: null,
  };
}

/** The first bytes of a body; a copy where it would keep much more in memory. */
export function captured(bytes: Buffer, keptMax: number, beyondBytes = 0): CapturedBody {
  const byteCount = bytes.length + beyondBytes;
  if (bytes.length <= keptMax) return { kept: bytes, byteCount };
  return { kept: Buffer.from(bytes.subarray(0, keptMax)), byteCount };
}

/** The same with so much of each body at most. */
export function withHeads(draft: FlowDraft, keptMax: number): FlowDraft {
  const { request, response } = draft;
  return {
    ...draft,
    request: request && { ...request, body: head(request.body) },
    response: response && { ...response, body: head(response.body) },
  };

  function head(body: CapturedBody | null): CapturedBody | null {
    if (body === null || body.kept.length <= keptMax) return body;
    return { kept: Buffer.from(body.kept.subarray(0, keptMax)), byteCount: body.byteCount };
  }
}

type Shared =
  | "id"
  | "kind"
  | "engine"
  | "projectId"
  | "trialId"
  | "allocationId"
  | "agent"
  | "client"
  | "request"
  | "response"
  | "messages"
  | "sentCount"
  | "receivedCount"
  | "credentials"
  | "secrets";

function exchangeOf(
  id: FlowId,
  { projectId, trialId }: Grant,
  { method, path, query, headers, address, httpVersion }: Asked,
  body: CapturedBody | null,
  answered: Answered | null,
): Pick<FlowDraft, Shared> {
  return {
    id,
    kind: "http",
    engine: "gateway",
    projectId,
    trialId,
    allocationId: null,
    agent: null,
    client: { address, http_version: httpVersion },
    request: { method, scheme: "http", path, query, headers, body },
    response: answered && { ...answered, headers: Object.entries(answered.headers) },
    messages: null,
    sentCount: null,
    receivedCount: null,
    credentials: [],
    // Keys have a shape that is redacted wherever it is seen.
    secrets: [],
  };
}

function decision(action: "allow" | "deny", detail: string): FlowDraft["decision"] {
  return { action, reason: "gateway", rule: null, detail };
}

function timings(firstByteMs: number | null): FlowDraft["timings"] {
  return { dns_ms: null, connect_ms: null, tls_ms: null, first_byte_ms: firstByteMs };
}

function serverOf(host: string, port: number): FlowDraft["server"] {
  const unknown = { address: null, server_name: null, tls_version: null };
  return { host, port, ...unknown, http_version: null, certificate_sha256: null };
}

function splitOnce(url: string): [string, string?] {
  const at = url.indexOf("?");
  return at < 0 ? [url] : [url.slice(0, at), url.slice(at + 1)];
}

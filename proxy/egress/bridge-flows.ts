/** What mitmproxy tells of a flow, made into its record. */
import type { Clock } from "../../orchestrator/runtime/clock.ts";
import type { Ids } from "../../orchestrator/runtime/ids.ts";
import type { FlowDraft, FlowSink } from "../../orchestrator/traffic/sink.ts";
import type { Said } from "./bridge-frames.ts";
import { createCapture, type Flow, openFlow } from "./embedded/flow.ts";
import { recordedHeaders } from "./embedded/headers.ts";
import type { EgressSession, Place, Refusal, RequestHead, Target } from "./guard.ts";
import { denied } from "./refusal.ts";

type Denial = ReturnType<typeof denied>;

/** An exchange that was let through, until it ends. */
export interface Deal {
  /** The addon's number of it. */
  readonly id: number;
  readonly flow: Flow;
  readonly session: EgressSession;
  readonly client: number;
  readonly place: Place;
  /** It was refused on the way. */
  denial: Denial | null;
}

export const ABANDONED = "mitmproxy ended before the answer did";
export const NOT_HTTP =
  "It is neither TLS nor HTTP: the proxy carries nothing else. Name the host with passthrough";
export const TOO_MUCH = denied(
  "too_large",
  "The request is larger than what its trial may send: send less, or change the policy",
);
/** Nobody hears it: the record alone has it. */
export const LEFT: Denial = denied(
  "session_ended",
  "The worker's connection ended before its request was decided",
);
const undecided = denied(
  "session_ended",
  "The proxy could not read the policy just now: nothing passes until it can. Try again.",
);
export const UNDECIDED: Denial = {
  decision: undecided.decision,
  refusal: { ...undecided.refusal, status: 503 },
};

const unreadable = denied(
  "bad_request",
  "The request's head could be read in more than one way: send one that is as RFC 9112 says",
).refusal;
/** The whole answer to a head that no question can be made of. */
export const UNREADABLE = [
  `HTTP/1.1 ${unreadable.status} Bad Request`,
  ...unreadable.headers.map(([name, value]) => `${name}: ${value}`),
  "Connection: close",
  "",
  unreadable.body,
].join("\r\n");

export function openClientFlow(
  deps: { ids: Ids; clock: Clock },
  said: Said,
  kind: FlowDraft["kind"],
  target: Target,
): Flow {
  return openFlow(deps, kind, target, {
    address: said.peer ?? null,
    http_version: versionOf(said.http_version),
  });
}

export function openExchangeFlow(
  deps: { ids: Ids; clock: Clock; sink: FlowSink },
  said: Said,
  kind: "http" | "websocket",
  head: RequestHead,
): Flow {
  const flow = openClientFlow(deps, said, kind, head.target);
  const at = head.path.indexOf("?");
  flow.request = {
    method: head.method.slice(0, 100),
    scheme: head.scheme,
    path: (at === -1 ? head.path : head.path.slice(0, at)).slice(0, 8_000),
    query: at === -1 ? null : head.path.slice(at + 1).slice(0, 16_000),
    headers: recordedHeaders(head.headers),
  };
  flow.responseBody = createCapture(deps.sink.bodyBytesMax, null);
  if (head.serverName !== null) flow.server = { ...flow.server, server_name: head.serverName };
  return flow;
}

/** Writes the record. `said`: null when nobody is left to say anything; `told`: by us. */
export function recordEnd(
  { flow, session, place }: Deal,
  said: Said | null,
  parts: readonly Buffer[],
  error: string | null,
  told: Refusal | null,
): void {
  flow.error = error;
  if (said !== null) fill(flow, said, parts);
  if (told !== null) noteTold(flow, told);
  session.record(draftOf(flow, session));
  place.leave();
}

function fill(flow: Flow, said: Said, parts: readonly Buffer[]): void {
  const [request, response, ...bodies] = parts;
  flow.requestBody = keptBody(request, said.request_byte_count ?? 0);
  flow.responseBody = keptBody(response, said.response_byte_count ?? 0);
  flow.timings = {
    dns_ms: null,
    connect_ms: said.connect_ms ?? null,
    tls_ms: said.tls_ms ?? null,
    first_byte_ms: said.first_byte_ms ?? null,
  };
  flow.server = {
    ...flow.server,
    address: said.address ?? null,
    server_name: said.server_name ?? flow.server.server_name,
    tls_version: said.tls_version ?? null,
    http_version: versionOf(said.http_version),
    certificate_sha256: said.certificate_sha256 ?? null,
  };
  const { status, headers } = said;
  if (typeof status === "number") {
    if (isStatus(status)) flow.response = { status, headers: headers ?? [] };
    else flow.error ??= `The answer's status is none: ${status}. It is recorded without the answer`;
  }
  flow.messages =
    said.messages?.map(({ at_ms, from, is_text, byte_count }, at) => ({
      ...{ atMs: Math.round(flow.startedAtMs + at_ms), from, isText: is_text },
      body: { kept: bodies[at] ?? Buffer.alloc(0), byteCount: byte_count },
    })) ?? null;
}

/** RFC 9110, 15: three digits. mitmproxy reads any number that a server sends, and passes it on. */
function isStatus(status: number): boolean {
  return Number.isInteger(status) && status >= 100 && status <= 999;
}

function keptBody(kept: Buffer | undefined, byteCount: number): Flow["requestBody"] {
  if (byteCount === 0) return null;
  return { add: () => undefined, body: () => ({ kept: kept ?? Buffer.alloc(0), byteCount }) };
}

/** The answer of a request is ours. */
export function noteTold(flow: Flow, { status, headers, body }: Refusal): void {
  if (flow.request === null) return;
  const kept = Buffer.from(body);
  flow.response = { status, headers };
  flow.responseBody = keptBody(kept, kept.length);
}

export function draftOf(flow: Flow, session: EgressSession | null): FlowDraft {
  return { ...flow.draft(session), engine: "mitmproxy" };
}

/** Why the addon cut it, as a decision; null when it was the server's fault. */
export function denialOf(
  reason: string | null | undefined,
  session: EgressSession,
  flow: Flow,
): Denial | null {
  switch (reason) {
    case "canary":
      session.onCanary(flow.id, flow.server.host);
      return denied(
        "canary",
        "The request holds the trial's canary: it is not sent, the trial ends",
      );
    case "request_too_large":
      return denied("too_large", "The request is larger than its rule lets pass: send less");
    case "response_too_large":
      return denied("too_large", "The answer is larger than its rule lets pass");
    default:
      return null;
  }
}

export function failureWords(said: Said, flow: Flow): string {
  const words = said.error ?? "it broke off";
  return `${flow.server.host} failed: ${words}`.slice(0, 2_000);
}

/** "HTTP/1.1" as the record has it: "1.1". */
function versionOf(version: string | null | undefined): string | null {
  return version?.replace(/^HTTP\//, "") ?? null;
}

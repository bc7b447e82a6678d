/** What every way to serve a request needs: its flow's beginning, and how it is refused. */
import type { Clock } from "../../../orchestrator/runtime/clock.ts";
import type { Ids } from "../../../orchestrator/runtime/ids.ts";
import type { Log } from "../../../orchestrator/runtime/log.ts";
import type { FlowSink } from "../../../orchestrator/traffic/sink.ts";
import type { EgressSession, Place, Refusal } from "../guard.ts";
import type { ClientExchange, Denial } from "./client.ts";
import { createCapture, type Flow, openFlow } from "./flow.ts";
import type { Gate, Idle } from "./gate.ts";
import { recordedHeaders } from "./headers.ts";
import type { Upstreams } from "./upstream.ts";

export interface ExchangeDependencies {
  sink: FlowSink;
  upstreams: Upstreams;
  gate: Gate;
  idle: Idle;
  ids: Ids;
  clock: Clock;
  log: Log;
}

/** A flow with its request's head, as the worker sent it; without a place none of it is carried. */
export function openRequestFlow(
  deps: Pick<ExchangeDependencies, "ids" | "clock" | "sink">,
  client: ClientExchange,
  kind: "http" | "websocket",
  place: Place | null,
): Flow {
  const { head, address, httpVersion } = client;
  const flow = openFlow(deps, kind, head.target, { address, http_version: httpVersion });
  const at = head.path.indexOf("?");
  flow.request = {
    method: head.method.slice(0, 100),
    scheme: head.scheme,
    path: (at === -1 ? head.path : head.path.slice(0, at)).slice(0, 8_000),
    query: at === -1 ? null : head.path.slice(at + 1).slice(0, 16_000),
    headers: recordedHeaders(head.headers),
  };
  flow.requestBody = createCapture(deps.sink.bodyBytesMax, place);
  flow.responseBody = createCapture(deps.sink.bodyBytesMax, place);
  if (head.serverName !== null) flow.server = { ...flow.server, server_name: head.serverName };
  return flow;
}

/** Tells the worker, and records it. */
export function refuse(
  session: EgressSession,
  client: ClientExchange,
  flow: Flow,
  denial: Denial,
): void {
  tellRefused(client, flow, denial);
  session.record(flow.draft(session));
}

/** Tells the worker; the flow says so, and is still to be recorded. */
export function tellRefused(
  client: ClientExchange,
  flow: Flow,
  { decision, refusal }: Denial,
): void {
  flow.decision = decision;
  sendRefusal(client, refusal);
  noteAnswer(flow, refusal);
}

/** The worker gets these bytes, or is broken off; nothing is recorded, nothing thrown. */
export function sendRefusal(client: ClientExchange, refusal: Refusal): void {
  const hasBody = client.head.method !== "HEAD";
  const out = client.begin(refusal.status, refusal.headers, hasBody);
  if (out === null) {
    client.abort();
    return;
  }
  if (hasBody) out.write(refusal.body);
  client.finish([]);
}

export function noteAnswer(flow: Flow, refusal: Refusal): void {
  flow.response = { status: refusal.status, headers: refusal.headers };
  flow.responseBody?.add(Buffer.from(refusal.body));
}

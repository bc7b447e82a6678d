/**
 * Our end of the bridge to mitmproxy's addon: asks the guard what the addon asks us, and makes the
 * records of what it tells. All decisions are made on this side; the protocol is in
 * `bridge-frames.ts`.
 *
 * Invariant: a flow that was let through is recorded once, also when mitmproxy dies meanwhile.
 */
import type { Socket } from "node:net";
import type { Clock } from "../../orchestrator/runtime/clock.ts";
import type { Ids } from "../../orchestrator/runtime/ids.ts";
import type { Log } from "../../orchestrator/runtime/log.ts";
import type { FlowSink } from "../../orchestrator/traffic/sink.ts";
import { type Answer, createClients, ending, refusing, undecided } from "./bridge-clients.ts";
import {
  ABANDONED,
  type Deal,
  denialOf,
  draftOf,
  failureWords,
  openExchangeFlow,
  recordEnd,
  TOO_MUCH,
  UNREADABLE,
} from "./bridge-flows.ts";
import { BRIDGE_VERSION, createFrameReader, encodeFrame, type Said } from "./bridge-frames.ts";
import { readRequest, sentOn } from "./bridge-requests.ts";
import type { Authority } from "./ca.ts";
import type { Flow } from "./embedded/flow.ts";
import { createGate } from "./embedded/gate.ts";
import type { EgressGuard, EgressSession, Place, RequestHead } from "./guard.ts";
import { failureOf } from "./refusal.ts";

export interface BridgeDependencies {
  guard: EgressGuard;
  sink: FlowSink;
  authority: Pick<Authority, "certificatePem" | "keyPem">;
  ids: Ids;
  clock: Clock;
  log: Log;
}

export interface BridgeOptions {
  /** In transparent mode a client is known by its address alone; null: by nobody. */
  sessionByAddress: ((address: string) => Promise<EgressSession | null>) | null;
  onReady: (listening: NonNullable<Said["listening"]>) => void;
}

interface Asked {
  readonly head: RequestHead;
  readonly flow: Flow;
  readonly session: EgressSession;
  readonly place: Place;
}

/** Serves one mitmproxy over its socket, until the socket ends. */
export function serveBridge(
  socket: Socket,
  deps: BridgeDependencies,
  { sessionByAddress, onReady }: BridgeOptions,
): void {
  const { sink, authority, log } = deps;
  const clients = createClients(deps, sessionByAddress, tellClose);
  const deals = new Map<number, Deal>();
  const gate = createGate(sink);
  const reader = createFrameReader(onFrame);
  socket.on("data", (chunk) => {
    try {
      reader.push(chunk);
    } catch (error) {
      socket.destroy(error instanceof Error ? error : undefined);
    }
  });
  socket.on("error", (error) => log.warn({ err: error }, "egress bridge failed"));
  socket.once("close", abandon);

  function onFrame(said: Said, parts: Buffer[]): void {
    const { id } = said;
    if (id === undefined) {
      note(said, parts);
      return;
    }
    void answered(said, parts).then(({ message, body }) => {
      if (!socket.destroyed) socket.write(encodeFrame({ id, ...message }, body ?? null));
    });
  }

  async function answered(said: Said, parts: Buffer[]): Promise<Answer> {
    try {
      const answer = await answerTo(said, parts);
      // What was let through meanwhile goes nowhere.
      if (socket.destroyed) abandon();
      return answer;
    } catch (error) {
      // The edge: what cannot be decided is refused.
      log.error({ err: error, kind: said.kind }, "egress question not decided");
      return undecided();
    }
  }

  function abandon(): void {
    for (const deal of deals.values()) recordEnd(deal, null, [], ABANDONED, null);
    deals.clear();
    clients.abandon();
  }

  async function answerTo(said: Said, parts: Buffer[]): Promise<Answer> {
    switch (said.kind) {
      case "open":
        return welcome();
      case "connect":
        return clients.connect(said);
      case "hello":
        return clients.hello(said);
      case "request":
        return request(said);
      case "sent_all":
        return sentAll(said);
      case "failed":
        return failed(said, parts);
      default:
        throw new Error(`bridge: no question is called ${said.kind}`);
    }
  }

  function welcome(): Answer {
    const message = {
      version: BRIDGE_VERSION,
      body_bytes_max: sink.bodyBytesMax,
      message_bytes_max: sink.messageBytesMax,
      authority_pem: authority.certificatePem,
      key_pem: authority.keyPem,
      unreadable: UNREADABLE,
    };
    return { message };
  }

  async function request(said: Said): Promise<Answer> {
    clients.come(said);
    const tunnel = clients.tunnelOf(said);
    if (tunnel !== null) {
      if (tunnel.refusal !== null) return ending(refusing(tunnel.refusal));
      tunnel.flow = null;
    }
    const { head, denial } = readRequest(said, tunnel);
    const isWebSocket = head.scheme === "ws" || head.scheme === "wss";
    const flow = openExchangeFlow(deps, said, isWebSocket ? "websocket" : "http", head);
    const session = tunnel?.session ?? (await clients.sessionOf(said));
    if (session === null) return clients.stranger(flow);
    const full = denial ?? clients.enter(said, session);
    if (full !== null) return ending(clients.refused(session, flow, full));
    const place = session.places.enter("exchange");
    if (place.outcome === "refuse") {
      const told = clients.refused(session, flow, place);
      return isWebSocket ? ending(told) : told;
    }
    let isCarried = false;
    try {
      const answer = await decideRequest(said, { head, flow, session, place });
      isCarried = deals.get(said.flow ?? 0)?.place === place;
      return answer;
    } finally {
      if (!isCarried) place.leave();
    }
  }

  async function decideRequest(said: Said, { head, flow, session, place }: Asked): Promise<Answer> {
    await gate.wait();
    const decided = await session.request(head);
    if (decided.outcome === "refuse") {
      const told = clients.refused(session, flow, decided);
      return flow.kind === "websocket" ? ending(told) : told;
    }
    flow.decision = decided.decision;
    if (decided.outcome === "answer") {
      const { status, headers, body } = decided;
      flow.response = { status, headers };
      flow.responseBody?.add(body);
      session.record(draftOf(flow, session));
      return { message: { outcome: "answer", status, headers }, body };
    }
    const size = head.bodyByteCount;
    if (size !== null && size > 0 && !session.sent(size)) {
      return clients.refused(session, flow, TOO_MUCH);
    }
    flow.credentials = decided.credentials;
    flow.secrets = [...decided.scrubs.map(({ value }) => value), ...decided.canaries];
    flow.server = { ...flow.server, host: decided.host };
    deals.set(said.flow ?? 0, {
      id: said.flow ?? 0,
      flow,
      session,
      client: said.client ?? 0,
      ...{ place, denial: null },
    });
    // Its record is still to be told; a place it needs no more.
    if (!clients.isHere(said)) place.leave();
    const isOfHttp2 = said.http_version === "HTTP/2.0";
    return {
      message: {
        outcome: "forward",
        session: session.allocationId,
        held_bytes_max: session.places.heldBytesMax,
        host: decided.host,
        addresses: decided.addresses,
        headers: sentOn({ head, isOfHttp2, hasBody: size === null || size > 0 }, decided),
        scrubs: decided.scrubs.map(({ value, placeholder }) => [value, placeholder]),
        canaries: decided.canaries,
        request_bytes_max: decided.requestBytesMax,
        response_bytes_max: decided.responseBytesMax,
      },
    };
  }

  /** It broke off. Where its answer has not begun the worker is told so, in these words. */
  function failed(said: Said, parts: Buffer[]): Answer {
    const deal = deals.get(said.flow ?? 0);
    if (deal === undefined) return undecided();
    deals.delete(said.flow ?? 0);
    const { flow, session } = deal;
    const denial = deal.denial ?? denialOf(said.reason, session, flow);
    const words = denial?.decision.detail ?? failureWords(said, flow);
    const refusal = denial?.refusal ?? failureOf("upstream_failed", words);
    if (denial !== null) flow.decision = denial.decision;
    recordEnd(deal, said, parts, words, said.is_answerable === true ? refusal : null);
    return refusing(refusal);
  }

  function note(said: Said, parts: Buffer[]): void {
    switch (said.kind) {
      case "ready":
        onReady(said.listening ?? []);
        break;
      case "sent":
        sent(said);
        break;
      case "flow":
        ended(said, parts);
        break;
      case "tunnel":
        clients.endTunnel(said);
        break;
      case "no_http":
        clients.failHttp(said);
        break;
      case "tls_failed":
        clients.failTls(said);
        break;
      case "unreadable":
        clients.failHead(said);
        break;
      case "gone":
        gone(said);
        break;
      default:
        throw new Error(`bridge: no notice is called ${said.kind}`);
    }
  }

  /** What is still to be told of its exchanges needs no place. */
  function gone(said: Said): void {
    clients.gone(said);
    for (const deal of deals.values()) if (deal.client === said.client) deal.place.leave();
  }

  function ended(said: Said, parts: Buffer[]): void {
    const deal = deals.get(said.flow ?? 0);
    deals.delete(said.flow ?? 0);
    if (deal !== undefined) recordEnd(deal, said, parts, null, null);
  }

  /** Bytes of a body whose length was not known before, or of a tunnel. */
  function sent(said: Said): void {
    const open = [...deals.values()].filter((deal) => deal.client === said.client);
    const session = clients.tunnelOf(said)?.session ?? open[0]?.session;
    if (session === undefined || session.sent(said.byte_count ?? 0)) return;
    // A body is cut before its end, and its worker told; a tunnel can be told nothing.
    for (const deal of open) deal.denial = TOO_MUCH;
    if (open.length === 0) tellClose(said.client ?? 0);
    else cut(open);
  }

  function cut(open: readonly Deal[]): void {
    for (const { id } of open) {
      if (!socket.destroyed) socket.write(encodeFrame({ kind: "cut", flow: id }));
    }
  }

  /** All of a body was told: whether its end may leave, too. */
  function sentAll(said: Said): Answer {
    const isOpen = deals.get(said.flow ?? 0)?.denial === null;
    return { message: { outcome: isOpen ? "open" : "refuse" } };
  }

  function tellClose(client: number): void {
    if (!socket.destroyed) socket.write(encodeFrame({ kind: "close", client }));
  }
}

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
import {
  ABANDONED,
  type Deal,
  denialOf,
  draftOf,
  failureWords,
  NOT_HTTP,
  NOT_TRUSTED,
  noteTold,
  openClientFlow,
  openExchangeFlow,
  recordEnd,
  TOO_MUCH,
  UNDECIDED,
} from "./bridge-flows.ts";
import { BRIDGE_VERSION, createFrameReader, encodeFrame, type Said } from "./bridge-frames.ts";
import { credentialsOf, readRequest, sentOn } from "./bridge-requests.ts";
import type { Authority } from "./ca.ts";
import type { Flow } from "./embedded/flow.ts";
import { createGate } from "./embedded/gate.ts";
import type { EgressGuard, EgressSession, Refusal, Target, TunnelDecision } from "./guard.ts";
import { denied, failureOf } from "./refusal.ts";

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

/** A worker's connection. */
interface Client {
  readonly session: EgressSession;
  readonly target: Target;
  readonly serverName: string | null;
  /** Whatever is asked in it is answered so: it was refused, and is recorded already. */
  readonly refusal: Refusal | null;
  /** Of a tunnel that is passed through, until its end. */
  readonly passing: Flow | null;
}

type Answer = { readonly message: object; readonly body?: Buffer };
type Ended = Error | undefined;

/** Serves one mitmproxy over its socket, until the socket ends. */
export function serveBridge(
  socket: Socket,
  deps: BridgeDependencies,
  { sessionByAddress, onReady }: BridgeOptions,
): void {
  const { guard, sink, authority, log } = deps;
  const clients = new Map<number, Client>();
  const deals = new Map<number, Deal>();
  const watches = new Map<number, { session: EgressSession; release: () => void }>();
  const gate = createGate(sink);
  const reader = createFrameReader(onFrame);
  socket.on("data", (chunk) => {
    try {
      reader.push(chunk);
    } catch (error) {
      socket.destroy(error as Ended);
    }
  });
  socket.on("error", (error) => log.warn({ err: error }, "egress bridge failed"));
  socket.once("close", abandon);

  function onFrame(said: Said, parts: Buffer[]): void {
    if (said.id === undefined) {
      note(said, parts);
      return;
    }
    const { id } = said;
    void answered(said, parts).then(({ message, body }) => {
      if (!socket.destroyed) socket.write(encodeFrame({ id, ...message }, body ?? null));
    });
  }

  async function answered(said: Said, parts: Buffer[]): Promise<Answer> {
    try {
      return await answerTo(said, parts);
    } catch (error) {
      // The edge: what cannot be decided is refused.
      log.error({ err: error, kind: said.kind }, "egress question not decided");
      return refusing(UNDECIDED.refusal);
    }
  }

  async function answerTo(said: Said, parts: Buffer[]): Promise<Answer> {
    switch (said.kind) {
      case "open":
        return welcome();
      case "connect":
        return connect(said);
      case "hello":
        return hello(said);
      case "request":
        return request(said);
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
    };
    return { message };
  }

  async function connect(said: Said): Promise<Answer> {
    const target = { host: said.host ?? "", port: said.port ?? 0 };
    const flow = openClientFlow(deps, said, "tunnel", target);
    const session = await sessionOf(said);
    if (session === null) return stranger(flow);
    const decided = await session.connect(target);
    if (decided.outcome === "refuse") return refused(session, flow, decided);
    keep(said, { session, target, serverName: null, refusal: null, passing: null });
    return { message: { outcome: "open" } };
  }

  async function hello(said: Said): Promise<Answer> {
    const own = said.client === undefined ? undefined : clients.get(said.client);
    const isTransparent = said.is_transparent === true;
    const serverName = said.hello?.server_name ?? null;
    const host = (isTransparent ? serverName : null) ?? own?.target.host ?? said.host ?? "";
    const target = own?.target ?? { host, port: said.port ?? 0 };
    const flow = openClientFlow(deps, said, "tunnel", target);
    if (serverName !== null) flow.server = { ...flow.server, server_name: serverName };
    const session = own?.session ?? (isTransparent ? await byAddress(said) : null);
    if (session === null) {
      stranger(flow);
      return closed();
    }
    if (said.is_request !== true) {
      refused(session, flow, denied("not_http", NOT_HTTP));
      return closed();
    }
    // Without TLS a transparent connection's host is its request's alone.
    if (isTransparent && said.hello === null) return opened("intercept", null, []);
    const decided = await decideTunnel(session, target, said, isTransparent);
    if (decided.outcome === "refuse") {
      refused(session, flow, decided);
      const { refusal } = decided;
      keep(said, { session, target, serverName, refusal, passing: null });
      return opened("intercept", target.host, []);
    }
    const passing = decided.how === "passthrough" ? flow : null;
    flow.decision = decided.decision;
    flow.server = { ...flow.server, host: decided.host };
    if (passing !== null) log.info({ server_name: serverName }, "egress tunnel passes through");
    keep(said, { session, target, serverName, refusal: null, passing });
    return opened(decided.how, decided.host, decided.addresses);
  }

  async function decideTunnel(
    session: EgressSession,
    target: Target,
    said: Said,
    isTransparent: boolean,
  ): Promise<TunnelDecision> {
    if (isTransparent) {
      const connected = await session.connect(target);
      if (connected.outcome === "refuse") return connected;
    }
    if (said.hello == null) return session.hello(target, null);
    return session.hello(target, {
      serverName: said.hello.server_name,
      protocols: said.hello.protocols,
      hasEncryptedHello: said.hello.has_encrypted_hello,
    });
  }

  async function request(said: Said): Promise<Answer> {
    const client = said.client === undefined ? undefined : clients.get(said.client);
    if (client?.refusal != null) return refusing(client.refusal);
    const { head, denial } = readRequest(said, client ?? null);
    const isWebSocket = head.scheme === "ws" || head.scheme === "wss";
    const flow = openExchangeFlow(deps, said, isWebSocket ? "websocket" : "http", head);
    const session = client?.session ?? (await sessionOf(said));
    if (session === null) return stranger(flow);
    if (denial !== null) return refused(session, flow, denial);
    await gate.wait();
    const decided = await session.request(head);
    if (decided.outcome === "refuse") return refused(session, flow, decided);
    flow.decision = decided.decision;
    if (decided.outcome === "answer") {
      const { status, headers, body } = decided;
      flow.response = { status, headers };
      flow.responseBody?.add(body);
      session.record(draftOf(flow, session));
      return { message: { outcome: "answer", status, headers }, body };
    }
    const size = head.bodyByteCount;
    if (size !== null && size > 0 && !session.sent(size)) return refused(session, flow, TOO_MUCH);
    flow.credentials = decided.credentials;
    flow.secrets = [...decided.scrubs.map(({ value }) => value), ...decided.canaries];
    flow.server = { ...flow.server, host: decided.host };
    watch(said.client ?? 0, session);
    deals.set(said.flow ?? 0, { flow, session, client: said.client ?? 0, denial: null });
    const isOfHttp2 = said.http_version === "HTTP/2.0";
    return {
      message: {
        outcome: "forward",
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
    if (deal === undefined) return refusing(UNDECIDED.refusal);
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
    const client = said.client === undefined ? undefined : clients.get(said.client);
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
        if (client !== undefined) endTunnel(client, said);
        break;
      case "no_http":
        if (client !== undefined) broken(client, said, NOT_HTTP, "not_http");
        break;
      case "tls_failed":
        if (client !== undefined) broken(client, said, said.words ?? "", null);
        break;
      case "gone":
        gone(said);
        break;
      default:
        throw new Error(`bridge: no notice is called ${said.kind}`);
    }
  }

  function ended(said: Said, parts: Buffer[]): void {
    const deal = deals.get(said.flow ?? 0);
    deals.delete(said.flow ?? 0);
    if (deal !== undefined) recordEnd(deal, said, parts, null, null);
  }

  /** Bytes of a body whose length was not known before, or of a tunnel. */
  function sent(said: Said): void {
    const key = said.client ?? 0;
    const open = [...deals.values()].filter((deal) => deal.client === key);
    const session = clients.get(key)?.session ?? open[0]?.session;
    if (session === undefined || session.sent(said.byte_count ?? 0)) return;
    for (const deal of open) deal.denial = TOO_MUCH;
    tellClose(key);
  }

  function endTunnel(client: Client, said: Said): void {
    const { passing: flow, session } = client;
    if (flow === null) return;
    flow.sentCount = said.sent ?? 0;
    flow.receivedCount = said.received ?? 0;
    flow.error = said.error ?? null;
    flow.timings = { ...flow.timings, connect_ms: said.connect_ms ?? null };
    flow.server = { ...flow.server, address: said.address ?? null };
    keep(said, { ...client, passing: null });
    session.record(draftOf(flow, session));
  }

  /** A client whose TLS, or what is inside of it, is not what a proxy can open: by its SNI. */
  function broken(client: Client, said: Said, words: string, reason: "not_http" | null): void {
    if (client.refusal !== null) return;
    const { session, target, serverName } = client;
    const flow = openClientFlow(deps, said, "tunnel", target);
    flow.server = { ...flow.server, server_name: said.server_name ?? serverName };
    log.info({ server_name: said.server_name ?? serverName }, "egress client not intercepted");
    if (reason !== null) flow.decision = denied(reason, words).decision;
    else {
      flow.decision = { action: "allow", reason: "rule", rule: null, detail: NOT_TRUSTED };
      flow.error = `The client broke off its TLS: ${words}`;
    }
    session.record(draftOf(flow, session));
  }

  function gone(said: Said): void {
    const key = said.client ?? 0;
    const client = clients.get(key);
    if (client !== undefined) endTunnel(client, said);
    watches.get(key)?.release();
    watches.delete(key);
    clients.delete(key);
  }

  async function sessionOf(said: Said): Promise<EgressSession | null> {
    const given = credentialsOf(said.authorization);
    if (given !== null) return guard.session(given.username, given.password);
    return said.is_transparent === true ? byAddress(said) : null;
  }

  function byAddress(said: Said): Promise<EgressSession | null> {
    return sessionByAddress?.(said.peer ?? "") ?? Promise.resolve(null);
  }

  function keep(said: Said, made: Client): void {
    clients.set(said.client ?? 0, made);
    watch(said.client ?? 0, made.session);
  }

  /** An allocation's end closes its connections. */
  function watch(key: number, session: EgressSession): void {
    const known = watches.get(key);
    if (known?.session === session) return;
    known?.release();
    const onAbort = () => tellClose(key);
    session.signal.addEventListener("abort", onAbort, { once: true });
    const release = () => session.signal.removeEventListener("abort", onAbort);
    watches.set(key, { session, release });
    if (session.signal.aborted) onAbort();
  }

  function tellClose(client: number): void {
    if (!socket.destroyed) socket.write(encodeFrame({ kind: "close", client }));
  }

  function stranger(flow: Flow): Answer {
    const { decision, refusal } = guard.stranger;
    flow.decision = decision;
    noteTold(flow, refusal);
    guard.recordStranger(draftOf(flow, null));
    return refusing(refusal);
  }

  function refused(
    session: EgressSession,
    flow: Flow,
    { decision, refusal }: ReturnType<typeof denied>,
  ): Answer {
    flow.decision = decision;
    noteTold(flow, refusal);
    session.record(draftOf(flow, session));
    return refusing(refusal);
  }

  /** mitmproxy is gone: what it was in the middle of has failed. */
  function abandon(): void {
    for (const deal of deals.values()) recordEnd(deal, null, [], ABANDONED, null);
    deals.clear();
    for (const { release } of watches.values()) release();
    for (const client of clients.values()) {
      if (client.passing === null) continue;
      client.passing.error = ABANDONED;
      client.session.record(draftOf(client.passing, client.session));
    }
    clients.clear();
  }
}

function refusing({ status, headers, body }: Refusal): Answer {
  return { message: { outcome: "refuse", status, headers }, body: Buffer.from(body) };
}

function opened(how: string, host: string | null, addresses: readonly string[]): Answer {
  return { message: { outcome: "open", how, host, addresses } };
}

function closed(): Answer {
  return { message: { outcome: "refuse" } };
}

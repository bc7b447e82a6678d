/**
 * The workers' connections at one mitmproxy: whose they are, what their tunnels are, and what the
 * guard said of them.
 *
 * Invariant: of a connection that is gone nothing is kept, whatever was still being asked for it.
 */
import type { Clock } from "../../orchestrator/runtime/clock.ts";
import type { Ids } from "../../orchestrator/runtime/ids.ts";
import type { Log } from "../../orchestrator/runtime/log.ts";
import {
  ABANDONED,
  draftOf,
  LEFT,
  NOT_HTTP,
  noteTold,
  openClientFlow,
  UNDECIDED,
} from "./bridge-flows.ts";
import type { Said } from "./bridge-frames.ts";
import { credentialsOf } from "./bridge-requests.ts";
import type { Flow } from "./embedded/flow.ts";
import type { EgressGuard, EgressSession, Refusal, Target, TunnelDecision } from "./guard.ts";
import { denied } from "./refusal.ts";

/** A worker's tunnel. */
export interface Client {
  readonly session: EgressSession;
  readonly target: Target;
  readonly serverName: string | null;
  /** Whatever is asked in it is answered so: it was refused, and is recorded already. */
  readonly refusal: Refusal | null;
  /** The tunnel's own record, when nothing in it makes one; null: made, or not to be made. */
  flow: Flow | null;
}

export interface Answer {
  readonly message: object;
  readonly body?: Buffer;
}

interface Refusing {
  readonly message: { readonly outcome: "refuse" } & Pick<Refusal, "status" | "headers">;
  readonly body: Buffer;
}

export interface Clients {
  /** It asks something: at once, before anything is waited for, or its end may come before. */
  come(said: Said): void;
  isHere(said: Said): boolean;
  connect(said: Said): Promise<Answer>;
  hello(said: Said): Promise<Answer>;
  /** The tunnel that it asks in; null: it asks the proxy itself. */
  tunnelOf(said: Said): Client | null;
  /** Whose it is; null: nobody's. */
  sessionOf(said: Said): Promise<EgressSession | null>;
  /**
   * The connection is its session's from now on: its allocation's end closes it. A denial when the
   * session has all the connections that it may, or when it is gone meanwhile.
   */
  enter(said: Said, session: EgressSession): ReturnType<typeof denied> | null;
  stranger(flow: Flow): Refusing;
  refused(session: EgressSession, flow: Flow, denial: ReturnType<typeof denied>): Refusing;
  /** How a tunnel ended that was passed through, or whose TLS or HTTP could not be opened. */
  endTunnel(said: Said): void;
  failTls(said: Said): void;
  failHttp(said: Said): void;
  /** A head that could be read in two ways. */
  failHead(said: Said): void;
  gone(said: Said): void;
  /** mitmproxy is gone, and with it all of them. */
  abandon(): void;
}

/** @param close asks mitmproxy to close a connection, by its number. */
export function createClients(
  { guard, log, ...deps }: { guard: EgressGuard; ids: Ids; clock: Clock; log: Log },
  sessionByAddress: ((address: string) => Promise<EgressSession | null>) | null,
  close: (client: number) => void,
): Clients {
  const clients = new Map<number, Client>();
  // Those that asked and are not gone: no more than mitmproxy has open.
  const here = new Set<number>();
  const entered = new Map<number, { session: EgressSession; release: () => void }>();
  return {
    ...{ come, isHere, connect, hello, tunnelOf, sessionOf, enter, stranger, refused },
    ...{ endTunnel, failTls, failHttp, failHead, gone, abandon },
  };

  function come(said: Said): void {
    // No number: the addon saw its end before the question.
    if (said.client !== undefined && said.client !== 0) here.add(said.client);
  }

  function isHere(said: Said): boolean {
    return here.has(said.client ?? 0);
  }

  async function connect(said: Said): Promise<Answer> {
    come(said);
    const target = { host: said.host ?? "", port: said.port ?? 0 };
    const flow = openClientFlow(deps, said, "tunnel", target);
    const session = await sessionOf(said);
    if (session === null) return ending(stranger(flow));
    const full = enter(said, session);
    if (full !== null) return ending(refused(session, flow, full));
    const decided = await session.connect(target);
    if (decided.outcome === "refuse") return ending(refused(session, flow, decided));
    flow.decision = decided.decision;
    keep(said, { session, target, serverName: null, refusal: null, flow });
    return { message: { outcome: "open" } };
  }

  async function hello(said: Said): Promise<Answer> {
    come(said);
    const own = tunnelOf(said);
    const isTransparent = said.is_transparent === true;
    const serverName = said.hello?.server_name ?? null;
    const host = (isTransparent ? serverName : null) ?? said.host ?? "";
    const target = own?.target ?? { host, port: said.port ?? 0 };
    const flow = own?.flow ?? openClientFlow(deps, said, "tunnel", target);
    if (serverName !== null) flow.server = { ...flow.server, server_name: serverName };
    const session = own?.session ?? (isTransparent ? await sessionOf(said) : null);
    if (session === null) {
      stranger(flow);
      return closed();
    }
    if (own !== null) own.flow = null;
    const full = enter(said, session);
    if (full !== null) {
      refused(session, flow, full);
      return closed();
    }
    if (said.is_request !== true) {
      refused(session, flow, denied("not_http", NOT_HTTP));
      return closed();
    }
    // Without TLS a transparent connection's host is its request's alone.
    if (isTransparent && said.hello == null) return opened("intercept", null, []);
    const decided = await decide(session, target, said);
    if (decided.outcome === "refuse") {
      refused(session, flow, decided);
      keep(said, { session, target, serverName, refusal: decided.refusal, flow: null });
      // It is told the reason inside of TLS; there is no address to connect to.
      return opened("intercept", target.host, []);
    }
    flow.decision = decided.decision;
    if (decided.how === "passthrough") {
      log.info({ server_name: serverName, flow_id: flow.id }, "egress tunnel passes through");
    }
    keep(said, { session, target, serverName, refusal: null, flow });
    return opened(decided.how, decided.host, decided.addresses);
  }

  async function decide(
    session: EgressSession,
    target: Target,
    said: Said,
  ): Promise<TunnelDecision> {
    if (said.is_transparent === true) {
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

  function tunnelOf(said: Said): Client | null {
    return clients.get(said.client ?? 0) ?? null;
  }

  async function sessionOf(said: Said): Promise<EgressSession | null> {
    if (said.is_transparent === true) return (await sessionByAddress?.(said.peer ?? "")) ?? null;
    const given = credentialsOf(said.authorization);
    return given === null ? null : guard.session(given.username, given.password);
  }

  function keep(said: Said, made: Client): void {
    if (isHere(said)) clients.set(said.client ?? 0, made);
    else record(made, null);
  }

  function enter(said: Said, session: EgressSession): ReturnType<typeof denied> | null {
    if (!isHere(said)) return LEFT;
    const key = said.client ?? 0;
    const known = entered.get(key);
    if (known?.session === session) return null;
    const place = session.places.enter("connection");
    if (place.outcome === "refuse") return place;
    known?.release();
    const onAbort = () => close(key);
    session.signal.addEventListener("abort", onAbort, { once: true });
    const release = () => {
      session.signal.removeEventListener("abort", onAbort);
      place.leave();
    };
    entered.set(key, { session, release });
    if (session.signal.aborted) onAbort();
    return null;
  }

  function stranger(flow: Flow): Refusing {
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
  ): Refusing {
    flow.decision = decision;
    noteTold(flow, refusal);
    session.record(draftOf(flow, session));
    return refusing(refusal);
  }

  function endTunnel(said: Said): void {
    const client = tunnelOf(said);
    if (client === null || client.flow === null) return;
    const { flow } = client;
    flow.sentCount = said.sent ?? 0;
    flow.receivedCount = said.received ?? 0;
    flow.timings = { ...flow.timings, connect_ms: said.connect_ms ?? null };
    flow.server = { ...flow.server, address: said.address ?? null };
    record(client, said.error ?? null);
  }

  function failTls(said: Said): void {
    const client = tunnelOf(said);
    if (client === null || client.flow === null) return;
    const serverName = said.server_name ?? client.serverName;
    log.info({ server_name: serverName }, "egress client does not trust the proxy");
    client.flow.server = { ...client.flow.server, server_name: serverName };
    record(client, `The worker's TLS failed: ${said.words ?? "it broke off"}`);
  }

  function failHttp(said: Said): void {
    const client = tunnelOf(said);
    if (client === null || client.flow === null) return;
    client.flow.decision = denied("not_http", NOT_HTTP).decision;
    record(client, null);
  }

  function failHead(said: Said): void {
    const client = tunnelOf(said);
    const target = client?.target ?? { host: "", port: 0 };
    const flow = client?.flow ?? openClientFlow(deps, said, "tunnel", target);
    flow.decision = denied("bad_request", `The request cannot be read: ${said.words}`).decision;
    if (client === null) {
      guard.recordStranger(draftOf(flow, null));
      return;
    }
    client.flow = flow;
    if (client.refusal === null) record(client, null);
  }

  /** What no request was read from is one flow. */
  function gone(said: Said): void {
    const key = said.client ?? 0;
    const client = tunnelOf(said);
    if (client !== null) record(client, null);
    entered.get(key)?.release();
    entered.delete(key);
    clients.delete(key);
    here.delete(key);
  }

  function abandon(): void {
    for (const { release } of entered.values()) release();
    for (const client of clients.values()) record(client, ABANDONED);
    entered.clear();
    clients.clear();
    here.clear();
  }
}

function record(client: Client, error: string | null): void {
  const { flow, session } = client;
  if (flow === null) return;
  client.flow = null;
  flow.error = error;
  session.record(draftOf(flow, session));
}

export function refusing({ status, headers, body }: Refusal): Refusing {
  return { message: { outcome: "refuse", status, headers }, body: Buffer.from(body) };
}

/** What is refused so ends its connection: a CONNECT, and what is no request to go on after. */
export function ending({ message, body }: Refusing): Refusing {
  const headers = [...message.headers, ["Connection", "close"] as const];
  return { message: { ...message, headers }, body };
}

/** What cannot be decided just now. */
export function undecided(): Answer {
  return refusing(UNDECIDED.refusal);
}

function opened(how: string, host: string | null, addresses: readonly string[]): Answer {
  return { message: { outcome: "open", how, host, addresses } };
}

function closed(): Answer {
  return { message: { outcome: "refuse" } };
}

/**
 * The embedded egress proxy: a regular HTTP proxy that opens TLS with certificates of its own, in
 * this process. It carries bytes and keeps limits; all that is decided is the guard's.
 *
 * One HTTP server reads both what is asked of the proxy and what is asked inside of tunnels, so
 * that its strictness and its time limits hold for both.
 */
import { createServer, type IncomingMessage, type ServerResponse } from "node:http";
import type { AddressInfo, Socket } from "node:net";
import type { Duplex } from "node:stream";
import type { TLSSocket } from "node:tls";
import { type Clock, monotonicMs } from "../../orchestrator/runtime/clock.ts";
import type { Ids } from "../../orchestrator/runtime/ids.ts";
import type { Log } from "../../orchestrator/runtime/log.ts";
import type { FlowSink } from "../../orchestrator/traffic/sink.ts";
import type { Authority } from "./ca.ts";
import { openRequestFlow, refuse, sendRefusal, tellRefused } from "./embedded/answering.ts";
import { type ClientExchange, parseAuthority, type Tunnel } from "./embedded/client.ts";
import { serveExchange } from "./embedded/exchange.ts";
import { openFlow } from "./embedded/flow.ts";
import { createGate, createIdle } from "./embedded/gate.ts";
import { readHttp1 } from "./embedded/http1.ts";
import { openHttp2 } from "./embedded/http2.ts";
import { createPresence, type Present } from "./embedded/presence.ts";
import { serveTunnel, writeRefusal } from "./embedded/tunnel.ts";
import { createUpstreams } from "./embedded/upstream.ts";
import { serveUpgrade } from "./embedded/websocket.ts";
import type { EgressGuard, EgressProxy, Target } from "./guard.ts";
import { denied } from "./refusal.ts";

export interface EmbeddedProxyDependencies {
  guard: EgressGuard;
  sink: FlowSink;
  authority: Authority;
  ids: Ids;
  clock: Clock;
  log: Log;
}

export interface EmbeddedProxyOptions {
  /** Where it listens. */
  host: string;
  /** 0: any free one. */
  port: number;
  connectionsMax?: number;
  /** Of these, those that no session counts: the oldest makes room for a new one. */
  strangersMax?: number;
  /** For a request's head, a tunnel's first bytes and its TLS. */
  headTimeoutMs?: number;
  connectTimeoutMs?: number;
  /** Without a byte either way; a thinking model may say nothing for minutes. */
  idleTimeoutMs?: number;
  /** PEM of authorities that servers may be signed by, beside the system's. */
  extraCa?: string | null;
}

const HEAD_BYTES_MAX = 64 * 1024;
const KEEP_ALIVE_MS = 65_000;
const LOOK_MS = 5_000;

/** Listens; serves whoever the guard knows. @throws Error when the port is taken. */
export async function openEmbeddedProxy(
  { guard, sink, authority, ids, clock, log }: EmbeddedProxyDependencies,
  { host, port, ...given }: EmbeddedProxyOptions,
): Promise<EgressProxy> {
  const limits = {
    ...{
      connectionsMax: 10_000,
      strangersMax: 1_000,
      headTimeoutMs: 20_000,
      connectTimeoutMs: 15_000,
    },
    ...{ idleTimeoutMs: 600_000, extraCa: null },
    ...given,
  };
  const upstreams = createUpstreams(limits);
  const idle = createIdle(limits.idleTimeoutMs, monotonicMs);
  const deps = { ids, clock, log, sink, upstreams, idle, gate: createGate(sink) };
  const presence = createPresence(guard, limits.strangersMax);
  const tunnels = new WeakMap<Socket, Tunnel>();
  /** Connections on which a request was read whose answer is not over. */
  const answering = new WeakSet<Socket>();
  const work = new Set<Promise<unknown>>();
  const server = createServer({
    maxHeaderSize: HEAD_BYTES_MAX,
    headersTimeout: limits.headTimeoutMs,
    // A large body may take long; that it moves at all is watched by us.
    requestTimeout: 0,
    keepAliveTimeout: KEEP_ALIVE_MS,
    connectionsCheckingInterval: Math.min(LOOK_MS, limits.headTimeoutMs),
    requireHostHeader: false,
    noDelay: true,
    shouldUpgradeCallback: (incoming) => /^websocket$/i.test(incoming.headers.upgrade ?? ""),
  });
  server.maxConnections = limits.connectionsMax;
  // We count them: Node would leave out what is beyond its limit, and say nothing.
  server.maxHeadersCount = 0;
  server.on("connection", (socket) => {
    socket.on("error", () => undefined);
    // What is inside of a tunnel is somebody's already.
    if (!tunnels.has(socket)) presence.meet(socket);
  });
  server.on("request", onRequest);
  server.on("checkContinue", onRequest);
  server.on("checkExpectation", onRequest);
  server.on("connect", (incoming, socket, first) => {
    background(onConnect(incoming, socket as Socket, first));
  });
  server.on("upgrade", (incoming, socket, first) => {
    background(onUpgrade(incoming, socket as Socket, first));
  });
  server.on("clientError", onUnreadable);
  const { promise, resolve, reject } = Promise.withResolvers<void>();
  server.once("error", reject);
  server.listen(port, host, resolve);
  await promise;
  server.off("error", reject);
  const shown = host.includes(":") ? `[${host}]` : host;
  const url = `http://${shown}:${(server.address() as AddressInfo).port}`;
  return { engine: "embedded", url, fault, [Symbol.asyncDispose]: close };

  function onRequest(incoming: IncomingMessage, response: ServerResponse): void {
    const { socket } = incoming;
    answering.add(socket);
    response.once("close", () => answering.delete(socket));
    const tunnel = tunnels.get(socket) ?? null;
    const client = readHttp1(incoming, response, tunnel);
    if (tunnel !== null) {
      serve(client, tunnel);
      return;
    }
    background(
      (async () => {
        const present = await authenticate(incoming);
        if (present?.denial === null) return await serveExchange(deps, present.session, client);
        const flow = openRequestFlow(deps, client, "http", null);
        if (present !== null) {
          response.shouldKeepAlive = false;
          return refuse(present.session, client, flow, present.denial);
        }
        tellRefused(client, flow, guard.stranger);
        guard.recordStranger(flow.draft(null));
      })(),
    );
  }

  /** What is asked inside of a tunnel, by either version. */
  function serve(client: ClientExchange, tunnel: Tunnel): void {
    tunnel.isUsed = true;
    if (tunnel.refusal !== null) sendRefusal(client, tunnel.refusal);
    else background(serveExchange(deps, tunnel.session, client));
  }

  async function onConnect(
    incoming: IncomingMessage,
    socket: Socket,
    first: Buffer,
  ): Promise<void> {
    socket.on("error", () => undefined);
    const inside = tunnels.get(socket);
    if (inside !== undefined) {
      // A tunnel in a tunnel would hide its target from us.
      inside.isUsed = true;
      const denial = denied("bad_request", "A tunnel may not be opened inside of a tunnel");
      const flow = openFlow(deps, "tunnel", inside.target, clientOf(socket));
      flow.decision = denial.decision;
      inside.session.record(flow.draft(inside.session));
      return writeRefusal(socket, denial.refusal);
    }
    const target = parseAuthority(incoming.url ?? "", 0);
    const present = await authenticate(incoming);
    if (present?.denial !== null) {
      refuseSocket(socket, target, present);
      return;
    }
    const { session } = present;
    if (first.length > 0) socket.unshift(first);
    const tunnelDeps = { ...deps, authority, serve: takeTunnel };
    await serveTunnel(tunnelDeps, limits, session, socket, target);
  }

  function takeTunnel(socket: Socket, tunnel: Tunnel, protocol: string | null): void {
    tunnels.set(socket, tunnel);
    if (protocol === "h2") {
      openHttp2(socket as TLSSocket, tunnel, limits.idleTimeoutMs, (client) =>
        serve(client, tunnel),
      );
    } else {
      server.emit("connection", socket);
    }
  }

  async function onUpgrade(
    incoming: IncomingMessage,
    socket: Socket,
    first: Buffer,
  ): Promise<void> {
    socket.on("error", () => undefined);
    const tunnel = tunnels.get(socket) ?? null;
    if (tunnel !== null) tunnel.isUsed = true;
    const inside = tunnel === null ? null : { session: tunnel.session, denial: null };
    const present = inside ?? (await authenticate(incoming));
    if (present?.denial !== null) refuseSocket(socket, { host: "", port: 0 }, present);
    else if (tunnel !== null && tunnel.refusal !== null) writeRefusal(socket, tunnel.refusal);
    else await serveUpgrade(deps, present.session, { incoming, socket, first }, tunnel);
  }

  /** A connection of nobody we know, or one more than its session may have. */
  function refuseSocket(socket: Socket, target: Target, present: Present | null): void {
    const flow = openFlow(deps, "tunnel", target, clientOf(socket));
    const { decision, refusal } = present?.denial ?? guard.stranger;
    flow.decision = decision;
    writeRefusal(socket, refusal);
    if (present === null) guard.recordStranger(flow.draft(null));
    else present.session.record(flow.draft(present.session));
  }

  /** Bytes that are no HTTP, or HTTP that can be read in two ways. */
  function onUnreadable(error: NodeJS.ErrnoException, stream: Duplex): void {
    const socket = stream as Socket;
    const isOverflow = error.code === "HPE_HEADER_OVERFLOW";
    const isParsed = error.code?.startsWith("HPE_") === true;
    if (!isParsed || error.code === "HPE_INVALID_EOF_STATE") {
      socket.destroy();
      return;
    }
    const denial = isOverflow
      ? denied("too_large", `The request's head is larger than ${HEAD_BYTES_MAX} bytes`)
      : denied("bad_request", `The request is not HTTP as it should be: ${error.message}`);
    const tunnel = tunnels.get(socket) ?? null;
    if (tunnel !== null) tunnel.isUsed = true;
    const session = tunnel?.session ?? presence.sessionOf(socket);
    const flow = openFlow(
      deps,
      "tunnel",
      tunnel?.target ?? { host: "", port: 0 },
      clientOf(socket),
    );
    flow.decision = denial.decision;
    flow.error = error.message;
    if (session === null) guard.recordStranger(flow.draft(null));
    else session.record(flow.draft(session));
    // Whatever has begun on this connection ends with it: its request was never whole.
    if (answering.has(socket)) socket.destroy();
    else writeRefusal(socket, denial.refusal);
  }

  async function authenticate(incoming: IncomingMessage): Promise<Present | null> {
    try {
      return await presence.authenticate(incoming.socket, incoming.headers["proxy-authorization"]);
    } catch (error) {
      log.error({ err: error }, "egress session not looked up");
      return null;
    }
  }

  function background(promise: Promise<unknown>): void {
    const guarded = promise.catch((error: unknown) => log.error({ err: error }, "egress failed"));
    work.add(guarded);
    void guarded.finally(() => work.delete(guarded));
  }

  async function fault(): Promise<string | null> {
    return server.listening ? null : "the embedded proxy does not listen";
  }

  async function close(): Promise<void> {
    const closed = new Promise<void>((done) => server.close(() => done()));
    // What is under way is recorded as it stands.
    idle.close("the proxy was stopped");
    presence.closeAll();
    server.closeAllConnections();
    await closed;
    while (work.size > 0) await Promise.all(work);
    upstreams.close();
  }
}

function clientOf(socket: Socket) {
  return { address: socket.remoteAddress ?? null, http_version: "1.1" };
}

/**
 * Tunnels: what a worker opens by CONNECT. Their first bytes say what is inside, and the guard what
 * becomes of it: opened by us, passed through as it is, or refused.
 */
import { connect, isIP, type Socket } from "node:net";
import type { Duplex } from "node:stream";
import { TLSSocket } from "node:tls";
import { monotonicMs } from "../../../orchestrator/runtime/clock.ts";
import type { Authority } from "../ca.ts";
import type { ClientHello, EgressSession, Refusal, Target, TunnelDecision } from "../guard.ts";
import { denied } from "../refusal.ts";
import type { ExchangeDependencies } from "./answering.ts";
import { closeSoon, type Tunnel } from "./client.ts";
import { type Flow, openFlow } from "./flow.ts";
import { readFirstBytes } from "./hello.ts";
import { pinned } from "./upstream.ts";

export interface TunnelDependencies
  extends Pick<ExchangeDependencies, "ids" | "clock" | "idle" | "gate" | "log"> {
  authority: Authority;
  /** HTTP is spoken on it from here on; `protocol` is what TLS agreed on, null without TLS. */
  serve(socket: Socket, tunnel: Tunnel, protocol: string | null): void;
}

export interface TunnelLimits {
  /** For the first bytes, and for TLS. */
  headTimeoutMs: number;
  connectTimeoutMs: number;
}

const ESTABLISHED = "HTTP/1.1 200 Connection Established\r\n\r\n";
/** A client may look at the certificate only once TLS stands. */
const NOTHING_ASKED =
  "Nothing was asked in the tunnel. A client that trusts only its own certificate does so: let it " +
  "trust the authority, or name the host with passthrough";
const NOT_TRUSTED =
  "The client did not go on with the proxy's certificate: let it trust the authority, or name " +
  "the host with passthrough";
/** A TLS alert: fatal, access_denied (RFC 8446, 6). */
const ACCESS_DENIED = Buffer.from([0x15, 3, 3, 0, 2, 2, 49]);

/** Carries a tunnel until it is somebody else's or has ended; throws nothing. */
export async function serveTunnel(
  deps: TunnelDependencies,
  limits: TunnelLimits,
  session: EgressSession,
  socket: Socket,
  target: Target,
): Promise<void> {
  const flow = openFlow(deps, "tunnel", target, {
    address: socket.remoteAddress ?? null,
    http_version: "1.1",
  });
  const isBehind = deps.gate.wait();
  if (isBehind !== null) await isBehind;
  const opened = await asked(deps, flow, () => session.connect(target));
  if (opened.outcome === "refuse") {
    flow.decision = opened.decision;
    writeRefusal(socket, opened.refusal);
    return session.record(flow.draft(session));
  }
  if (socket.destroyed) return end(opened, "The worker broke off");
  socket.write(ESTABLISHED);
  const first = await readFirstBytes(socket, limits.headTimeoutMs);
  if (first.outcome === "gone") return end(opened, "The worker said nothing in its tunnel");
  const { hello } = first;
  if (hello !== null) flow.server = { ...flow.server, server_name: hello.serverName };
  const decided = await asked(deps, flow, () => session.hello(target, hello));
  if (socket.destroyed) return end(decided, "The worker broke off");
  if (decided.outcome === "open" && decided.how === "passthrough") {
    return passThrough(deps, limits, { session, socket, target, flow }, decided);
  }
  flow.decision = decided.decision;
  if (decided.outcome === "refuse") session.record(flow.draft(session));
  const refusal = decided.outcome === "refuse" ? decided.refusal : null;
  const host = decided.outcome === "open" ? decided.host : (hello?.serverName ?? target.host);
  await open(deps, limits, { session, socket, target, flow }, { hello, refusal, host });

  function end({ decision }: TunnelDecision, error: string): void {
    flow.decision = decision;
    flow.error = error;
    session.record(flow.draft(session));
  }
}

interface Opened {
  session: EgressSession;
  socket: Socket;
  target: Target;
  flow: Flow;
}

/** The guard's word; a refusal when it has none to give. */
async function asked(
  { log }: Pick<TunnelDependencies, "log">,
  flow: Flow,
  ask: () => Promise<TunnelDecision>,
): Promise<TunnelDecision> {
  try {
    return await ask();
  } catch (error) {
    log.error({ err: error, flow_id: flow.id }, "egress tunnel not decided");
    const detail = "The proxy could not read the policy just now: nothing passes until it can.";
    return { outcome: "refuse", ...denied("session_ended", detail) };
  }
}

/** Ends TLS here, where it is TLS, and hands the tunnel on. */
async function open(
  deps: TunnelDependencies,
  limits: TunnelLimits,
  { session, socket, target, flow }: Opened,
  { hello, refusal, host }: { hello: ClientHello | null; refusal: Refusal | null; host: string },
): Promise<void> {
  const serverName = hello?.serverName ?? null;
  const tunnel: Tunnel = {
    ...{ session, target, serverName, refusal },
    isSecure: hello !== null,
    isUsed: refusal !== null,
  };
  if (hello === null) {
    // Something that is no HTTP is told nothing: it could not read it.
    socket.once("close", () => noteUnused(tunnel, flow, null));
    return deps.serve(socket, tunnel, null);
  }
  const leaf = await deps.authority.leaf(host).catch((error: unknown) => {
    deps.log.warn({ err: error, host }, "no certificate could be made");
    return null;
  });
  if (leaf === null || socket.destroyed) {
    socket.end(ACCESS_DENIED);
    return noteUnused(tunnel, flow, `No certificate can be made for ${host}`);
  }
  const secure = new TLSSocket(socket, {
    isServer: true,
    secureContext: leaf.context,
    ALPNProtocols: ["h2", "http/1.1"],
  });
  const timer = setTimeout(
    () => secure.destroy(new Error("it took too long")),
    limits.headTimeoutMs,
  );
  let failure: string | null = "it broke off";
  secure.on("error", (error) => {
    failure ??= error.message;
    if (failure === "it broke off") failure = error.message;
  });
  secure.once("secure", () => {
    clearTimeout(timer);
    // As a server's own do at this point: HTTP/2 waits for it.
    Object.assign(secure, { secureConnecting: false });
    failure = null;
    // Whoever read another name than we did is not who the guard was asked about.
    const seen = (secure as { servername?: string | false | null }).servername || null;
    if (seen !== serverName) {
      failure = "its TLS names another server than its first bytes";
      return void secure.destroy();
    }
    deps.serve(secure, tunnel, secure.alpnProtocol || null);
  });
  secure.once("close", () => {
    clearTimeout(timer);
    noteUnused(tunnel, flow, failure === null ? NOTHING_ASKED : `${NOT_TRUSTED}: ${failure}`);
  });
}

/** What no request was read from is one flow: of a client, perhaps, that trusts others alone. */
function noteUnused(tunnel: Tunnel, flow: Flow, error: string | null): void {
  if (tunnel.isUsed) return;
  tunnel.isUsed = true;
  flow.error = error;
  tunnel.session.record(flow.draft(tunnel.session));
}

/** Bytes as they are, both ways, counted. */
async function passThrough(
  deps: TunnelDependencies,
  { connectTimeoutMs }: TunnelLimits,
  { session, socket, target, flow }: Opened,
  decided: Extract<TunnelDecision, { outcome: "open" }>,
): Promise<void> {
  const { promise, resolve } = Promise.withResolvers<void>();
  const { host, addresses } = decided;
  flow.decision = decided.decision;
  flow.sentCount = 0;
  flow.receivedCount = 0;
  const startedMs = monotonicMs();
  let isOver = false;
  const server = connect({
    host: isIP(host) === 0 ? host : (addresses[0] ?? host),
    port: target.port,
    lookup: pinned(addresses),
    allowHalfOpen: true,
  });
  const timer = setTimeout(() => {
    server.destroy(new Error(`it took no connection within ${connectTimeoutMs} ms`));
  }, connectTimeoutMs);
  const idle = deps.idle.watch((why) => end(why));
  server.once("connect", () => {
    clearTimeout(timer);
    flow.timings = { ...flow.timings, connect_ms: monotonicMs() - startedMs };
    flow.server = { ...flow.server, host, address: server.remoteAddress ?? null };
  });
  server.once("error", (error) => end(`${host} failed: ${error.message}`));
  socket.once("error", () => end("The worker broke off"));
  carry(socket, server, (byteCount) => {
    flow.sentCount = (flow.sentCount ?? 0) + byteCount;
    if (!session.sent(byteCount)) {
      flow.decision = denied("too_large", "The trial has sent all that it may").decision;
      end(flow.decision.detail);
    }
  });
  carry(server, socket, (byteCount) => {
    flow.receivedCount = (flow.receivedCount ?? 0) + byteCount;
  });
  await promise;

  function carry(from: Duplex, to: Duplex, count: (byteCount: number) => void): void {
    from.on("data", (chunk: Buffer) => {
      idle.touch();
      count(chunk.length);
      if (to.destroyed || to.write(chunk)) return;
      from.pause();
      to.once("drain", () => from.resume());
    });
    from.once("end", () => to.end());
    from.once("close", () => end(null));
  }

  /** In order (null) once both ends have closed: what one said last still goes to the other. */
  function end(error: string | null): void {
    if (isOver) return;
    flow.error ??= error;
    if (error === null && !(socket.destroyed && server.destroyed)) {
      (socket.destroyed ? server : socket).end();
      return;
    }
    isOver = true;
    clearTimeout(timer);
    idle.stop();
    socket.destroy();
    server.destroy();
    session.record(flow.draft(session));
    resolve();
  }
}

/** The answer to a CONNECT, or to what was no request: then the connection ends. */
export function writeRefusal(socket: Duplex, { status, headers, body }: Refusal): void {
  const lines = headers.map(([name, value]) => `${name}: ${value}\r\n`).join("");
  const head = `HTTP/1.1 ${status} ${REASONS[status] ?? "Refused"}\r\n${lines}Connection: close\r\n\r\n`;
  if (socket.destroyed || !socket.writable) return;
  socket.end(head + body);
  // What it still sends is thrown away; its own end may never come.
  socket.resume();
  closeSoon(socket);
}

const REASONS: Readonly<Record<number, string>> = {
  400: "Bad Request",
  403: "Forbidden",
  407: "Proxy Authentication Required",
  413: "Payload Too Large",
  429: "Too Many Requests",
  502: "Bad Gateway",
  503: "Service Unavailable",
};

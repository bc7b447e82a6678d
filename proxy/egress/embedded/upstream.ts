/**
 * Connections to the servers that workers ask for: over HTTP/1.1, to the checked addresses alone,
 * with their certificates verified. Kept alive for the same allocation, host and addresses: what
 * was allowed at other addresses is connected anew.
 */
import {
  type ClientRequest,
  Agent as HttpAgent,
  request as httpRequest,
  type RequestOptions,
} from "node:http";
import { Agent as HttpsAgent, request as httpsRequest } from "node:https";
import { isIP, type LookupFunction, type Socket } from "node:net";
import {
  checkServerIdentity,
  createSecureContext,
  getCACertificates,
  type SecureContext,
  TLSSocket,
} from "node:tls";
import { monotonicMs } from "../../../orchestrator/runtime/clock.ts";
import type { Flow, HeaderList } from "./flow.ts";

export interface UpstreamOptions {
  connectTimeoutMs: number;
  /** PEM of authorities that servers may be signed by, beside the system's. */
  extraCa: string | null;
}

export interface UpstreamRequest {
  /** Whose connections: an allocation's id. */
  owner: string;
  isSecure: boolean;
  host: string;
  port: number;
  addresses: readonly string[];
  method: string;
  path: string;
  headers: HeaderList;
}

export interface Upstreams {
  /**
   * The head is sent once the request is written to or ended. Tells the flow whom it is connected
   * to and how long that took. @throws TypeError for what cannot be a head.
   */
  open(request: UpstreamRequest, flow: Flow): ClientRequest;
  close(): void;
}

const AGENTS_MAX = 500;
/** Shorter than what servers close idle connections after, mostly 5 s and more. */
const IDLE_MS = 4_000;
const NEXT_ADDRESS_MS = 2_000;

export function createUpstreams({ connectTimeoutMs, extraCa }: UpstreamOptions): Upstreams {
  const agents = new Map<string, HttpAgent>();
  const fingerprints = new WeakMap<Socket, string>();
  let trusted: SecureContext | null = null;
  return { open, close };

  function open(request: UpstreamRequest, flow: Flow): ClientRequest {
    const { isSecure, host, port, method, path, headers } = request;
    const options: RequestOptions = {
      agent: agentFor(request),
      // An address is connected to as it was checked, however it was written.
      host: isIP(host) === 0 ? host : (request.addresses[0] ?? host),
      ...{ port, method, path, setHost: false },
      headers: headers.flat(),
    };
    const opened = isSecure ? httpsRequest(options) : httpRequest(options);
    opened.once("socket", (socket) => {
      if (opened.reusedSocket) noteServer(flow, socket);
      else watchConnect(opened, socket, flow);
    });
    return opened;
  }

  function watchConnect(opened: ClientRequest, socket: Socket, flow: Flow): void {
    const isSecure = socket instanceof TLSSocket;
    const startedMs = monotonicMs();
    let connectedMs = startedMs;
    const timer = setTimeout(() => {
      opened.destroy(new Error(`it took no connection within ${connectTimeoutMs} ms`));
    }, connectTimeoutMs);
    socket.once("close", () => clearTimeout(timer));
    socket.once("connect", () => {
      connectedMs = monotonicMs();
      flow.timings = { ...flow.timings, connect_ms: connectedMs - startedMs };
      if (isSecure) return;
      clearTimeout(timer);
      noteServer(flow, socket);
    });
    socket.once("secureConnect", () => {
      clearTimeout(timer);
      flow.timings = { ...flow.timings, tls_ms: monotonicMs() - connectedMs };
      noteServer(flow, socket);
    });
  }

  function noteServer(flow: Flow, socket: Socket): void {
    const isSecure = socket instanceof TLSSocket;
    flow.server = {
      ...flow.server,
      address: socket.remoteAddress ?? null,
      tls_version: isSecure ? socket.getProtocol() : null,
      certificate_sha256: isSecure ? fingerprintOf(socket) : null,
    };
  }

  /** Asked for once a connection: it is a copy of the whole certificate. */
  function fingerprintOf(socket: TLSSocket): string | null {
    const known = fingerprints.get(socket);
    if (known !== undefined) return known;
    // None at all once the connection has gone.
    const text: string | undefined = socket.getPeerCertificate().fingerprint256;
    if (text === undefined) return null;
    const fingerprint = text.replaceAll(":", "").toLowerCase();
    fingerprints.set(socket, fingerprint);
    return fingerprint;
  }

  function agentFor({ owner, isSecure, host, port, addresses }: UpstreamRequest): HttpAgent {
    const key = [owner, isSecure, host, port, ...addresses.toSorted()].join(" ");
    const found = agents.get(key);
    if (found !== undefined) return found;
    const shared = {
      ...{ keepAlive: true, maxFreeSockets: 64, timeout: IDLE_MS, scheduling: "lifo" as const },
      ...{ lookup: pinned(addresses), autoSelectFamilyAttemptTimeout: NEXT_ADDRESS_MS },
    };
    const secure = {
      servername: isIP(host) === 0 ? host : "",
      checkServerIdentity: (_: string, certificate: Parameters<typeof checkServerIdentity>[1]) =>
        checkServerIdentity(host, certificate),
      secureContext: trust(),
    };
    const made = isSecure ? new HttpsAgent({ ...shared, ...secure }) : new HttpAgent(shared);
    agents.set(key, made);
    if (agents.size > AGENTS_MAX) forgetIdle();
    return made;
  }

  function forgetIdle(): void {
    for (const [key, agent] of agents) {
      if (agents.size <= AGENTS_MAX / 2) return;
      if (Object.keys(agent.sockets).length > 0) continue;
      agent.destroy();
      agents.delete(key);
    }
  }

  /** One for all: the authorities are hundreds, and are read once. */
  function trust(): SecureContext {
    trusted ??= createSecureContext({
      ca: [
        ...new Set([...getCACertificates("default"), ...getCACertificates("system")]),
        ...(extraCa === null ? [] : [extraCa]),
      ],
    });
    return trusted;
  }

  function close(): void {
    for (const agent of agents.values()) agent.destroy();
    agents.clear();
  }
}

/** Resolves nothing: whatever name is asked for has these addresses. */
export function pinned(addresses: readonly string[]): LookupFunction {
  return (_, options, done) => {
    const found = addresses.map((address) => ({ address, family: isIP(address) }));
    const [first] = found;
    if (first === undefined) done(new Error("it has no address that was checked"), "", 0);
    else if (options.all === true) done(null, found);
    else done(null, first.address, first.family);
  };
}

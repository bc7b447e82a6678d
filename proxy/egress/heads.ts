/**
 * Reads a request's head: what it is for, and whether it can be read in one way only. Pure.
 */
import type { DecisionReason } from "../../orchestrator/contract/egress.ts";
import type { ClientHello, RequestHead } from "./guard.ts";
import { readPath } from "./paths.ts";
import { type Host, isSame, readAuthority, readHost, readTarget, shown } from "./targets.ts";

export type HeadReading =
  | {
      readonly outcome: "read";
      readonly host: Host;
      readonly port: number;
      readonly methods: readonly string[];
      readonly paths: readonly string[];
    }
  | { readonly outcome: "unreadable"; readonly reason: DecisionReason; readonly detail: string };

const HEADER_NAME = /^[!#$%&'*+.^_`|~0-9A-Za-z-]+$/;
const METHOD = /^[A-Z]{1,20}$/;
const DEFAULT_PORTS = { http: 80, ws: 80, https: 443, wss: 443 } as const;
/** By which frameworks take a request for another than its line says. */
const METHOD_OVERRIDES = new Set(["x-http-method-override", "x-http-method", "x-method-override"]);
/** Never forwarded: they are the proxy's, or name an upstream or path that was not decided. */
const NOT_FORWARDED =
  /^(proxy-.*|forwarded|x-forwarded-(host|server|port|proto)|x-original-(host|url)|x-(rewrite-url|host))$/;

export function readHead(head: RequestHead): HeadReading {
  const read = readTarget(head.target);
  if (read.outcome === "unreadable") {
    return unreadable("bad_target", `The host "${shown(head.target.host)}" ${read.fault}`);
  }
  const { host, port } = read.value;
  const fault = lineFault(head) ?? headerFault(head);
  if (fault !== null) return unreadable("bad_request", `The request ${fault}`);
  const path = readPath(head.path);
  if (path.outcome === "unreadable") {
    return unreadable("bad_request", `The request's path ${path.fault}`);
  }
  const disagreement = nameFault(head, host, port);
  if (disagreement !== null) return disagreement;
  const overrides = head.headers
    .filter(([name]) => METHOD_OVERRIDES.has(name.toLowerCase()))
    .map(([, value]) => value.trim().toUpperCase());
  const methods = [...new Set([head.method, ...overrides])];
  return { outcome: "read", host, port, methods, paths: path.readings };
}

/** CONNECT's target, SNI, and Host or :authority name one host, and one port. */
function nameFault(head: RequestHead, host: Host, port: number): HeadReading | null {
  const said =
    head.authority === null ? null : readAuthority(head.authority, DEFAULT_PORTS[head.scheme]);
  if (said === null) return unreadable("bad_request", "The request has no Host");
  if (said.outcome === "unreadable") {
    return unreadable("bad_request", `The request's Host ${said.fault}`);
  }
  if (!isSame(said.value.host, host) || said.value.port !== port) {
    const names = `"${shown(head.authority ?? "")}" and "${shown(head.target.host)}:${port}"`;
    return unreadable("name_mismatch", `Host and target differ: ${names}; they must be the same`);
  }
  const isSecure = head.scheme === "https" || head.scheme === "wss";
  return isSecure ? serverNameFault(head.serverName, host) : null;
}

function serverNameFault(serverName: string | null, host: Host): HeadReading | null {
  if (serverName === null) {
    if (host.kind === "address") return null;
    const detail = `TLS for ${host.text} names no server (SNI); use a client that does`;
    return unreadable("no_server_name", detail);
  }
  const read = readHost(serverName);
  if (read.outcome === "read" && isSame(read.value, host)) return null;
  const detail = `TLS is for "${shown(serverName)}" and the target is ${host.text}`;
  return unreadable("name_mismatch", `${detail}; they must be the same`);
}

/**
 * Clients send an Encrypted Client Hello also where they hide nothing, so that those which do are
 * not told apart (GREASE, RFC 9849, 6.2). TLS that we end is for the name that is seen, whatever
 * was hidden; what is passed through could be for another of the sites at the same addresses.
 */
export function helloFault(
  hello: ClientHello,
  host: Host,
  mayHideName: boolean,
): HeadReading | null {
  if (hello.hasEncryptedHello && (!mayHideName || hello.serverName === null)) {
    const detail = `TLS for ${host.text} may hide its server's name (Encrypted Client Hello)`;
    const advice =
      "switch that off, let the rule intercept it, or set allows_encrypted_hello on it";
    return unreadable("no_server_name", `${detail}; ${advice}`);
  }
  return serverNameFault(hello.serverName, host);
}

function lineFault({ method }: RequestHead): string | null {
  if (!METHOD.test(method)) return "has a method that is not of capital letters";
  return method === "CONNECT" ? "opens a tunnel inside of one" : null;
}

function headerFault({ headers }: RequestHead): string | null {
  const counts = new Map<string, number>();
  for (const [name, value] of headers) {
    if (!HEADER_NAME.test(name)) return "has a header whose name is none";
    if (/[\0\r\n]/.test(value)) return `has a line's end in the header ${name}`;
    const key = name.toLowerCase();
    counts.set(key, (counts.get(key) ?? 0) + 1);
  }
  for (const key of ["host", "content-length", "transfer-encoding"]) {
    if ((counts.get(key) ?? 0) > 1) return `has the header ${key} more than once`;
  }
  if (counts.has("content-length") && counts.has("transfer-encoding")) {
    return "has a length and is chunked, which servers read in two ways";
  }
  const readHeader = (key: string) =>
    headers.find(([name]) => name.toLowerCase() === key)?.[1] ?? "";
  if (counts.has("content-length") && !/^[0-9]{1,15}$/.test(readHeader("content-length"))) {
    return "has a content-length that is no number";
  }
  if (
    counts.has("transfer-encoding") &&
    readHeader("transfer-encoding").toLowerCase() !== "chunked"
  ) {
    return "has a transfer-encoding other than chunked";
  }
  return null;
}

export function forwarded(
  headers: readonly (readonly [string, string])[],
): (readonly [string, string])[] {
  return headers.filter(([name]) => !NOT_FORWARDED.test(name.toLowerCase()));
}

/** As HTTP/1.1 writes what is forwarded: a path and headers carry bytes out as a body does. */
export function headBytes({ method, path, headers }: RequestHead): number {
  const line = `${method} ${path} HTTP/1.1\r\n\r\n`;
  const lines = forwarded(headers).map(([name, value]) => `${name}: ${value}\r\n`);
  return Buffer.byteLength(line + lines.join(""));
}

function unreadable(
  reason: DecisionReason,
  detail: string,
): HeadReading & { outcome: "unreadable" } {
  return { outcome: "unreadable", reason, detail };
}

/**
 * A request as mitmproxy read it, in the guard's words, and what is sent on in its place. What can
 * be read in two ways is refused here, before it is asked about. Pure.
 */
import type { Said } from "./bridge-frames.ts";
import { endToEnd, valuesOf } from "./embedded/headers.ts";
import type { RequestDecision, RequestHead, Target } from "./guard.ts";
import { denied } from "./refusal.ts";

type HeaderList = readonly (readonly [string, string])[];
const HEADERS_MAX = 200;

/** What is known of the tunnel that it came by. */
export interface AroundIt {
  readonly target: Target;
  readonly serverName: string | null;
}

export interface ReadRequest {
  readonly head: RequestHead;
  readonly denial: ReturnType<typeof denied> | null;
}

/** `tunnel`: null when it was asked of the proxy itself, with a whole URL. */
export function readRequest(said: Said, tunnel: AroundIt | null): ReadRequest {
  const headers = withOneCookie(said.headers ?? []);
  const hosts = valuesOf(headers, "host");
  const isOfHttp2 = said.http_version === "HTTP/2.0";
  const authority = (isOfHttp2 ? said.authority : null) ?? hosts[0] ?? null;
  const target = tunnel?.target ?? { host: said.host ?? "", port: said.port ?? 0 };
  const head: RequestHead = {
    method: said.method ?? "GET",
    scheme: said.scheme ?? "http",
    target,
    authority,
    serverName:
      tunnel === null && said.scheme === "https" ? target.host : (said.server_name ?? null),
    path: said.path ?? "",
    headers,
    bodyByteCount: said.body_byte_count ?? null,
  };
  const wrong = faultOf(said, hosts, tunnel !== null);
  if (wrong !== null) return { head, denial: denied("bad_request", wrong) };
  if (isOfHttp2 && hosts.some((host) => host !== authority)) {
    const words = "The request's :authority and Host disagree";
    return { head, denial: denied("name_mismatch", words) };
  }
  return { head, denial: null };
}

function faultOf(said: Said, hosts: readonly string[], isTunnelled: boolean): string | null {
  const headers = said.headers ?? [];
  if (typeof said.fault === "string") return `The request cannot be read: ${said.fault}`;
  if (said.method === "CONNECT" || !/^(\/|\*$)/.test(said.path ?? "")) {
    return "The request's target is neither a path inside of a tunnel nor a whole http: URL";
  }
  const isOfHttp2 = said.http_version === "HTTP/2.0";
  if (!isOfHttp2 && isTunnelled && said.authority != null) {
    return "The request has a whole URL inside of a tunnel: send its path alone";
  }
  if (headers.length > HEADERS_MAX) return `The request has over ${HEADERS_MAX} headers`;
  const isHostNeeded = said.http_version === "HTTP/1.1";
  if (hosts.length > 1 || (hosts.length === 0 && isHostNeeded)) {
    return `The request has ${hosts.length} Host headers: send one`;
  }
  if (isOfHttp2 && said.authority == null && hosts.length === 0) {
    return "The request has no :authority";
  }
  const lengths = valuesOf(headers, "content-length");
  const codings = valuesOf(headers, "transfer-encoding");
  if (lengths.length + codings.length > 1) {
    return "The request says its body's length more than once: send one Content-Length";
  }
  if (codings.some((coding) => !/^chunked$/i.test(coding))) {
    return "The request's Transfer-Encoding is not chunked";
  }
  if (valuesOf(headers, "upgrade").some((value) => !/^(websocket|h2c)$/i.test(value))) {
    return "The request would upgrade to something that is no WebSocket";
  }
  if (valuesOf(headers, "expect").some((value) => !/^100-continue$/i.test(value))) {
    return "The request expects something other than 100-continue";
  }
  return null;
}

/** What the server is sent: the guard's headers, framed as the body will be. */
export function sentOn(
  { head, isOfHttp2, hasBody }: { head: RequestHead; isOfHttp2: boolean; hasBody: boolean },
  decided: Extract<RequestDecision, { outcome: "forward" }>,
): [string, string][] {
  const isScrubbed = decided.scrubs.length > 0;
  const isWebSocket = head.scheme === "ws" || head.scheme === "wss";
  const sent: [string, string][] = [];
  // mitmproxy sends :authority by itself.
  if (!isOfHttp2) sent.push(["Host", head.authority ?? authorityOf(head)]);
  for (const [name, value] of endToEnd(decided.headers)) {
    const lower = name.toLowerCase();
    if (lower === "host" || lower === "content-length") continue;
    if (isScrubbed && lower === "accept-encoding") continue;
    sent.push([isOfHttp2 ? lower : name, value]);
  }
  const own = (name: string, value: string) =>
    sent.push([isOfHttp2 ? name.toLowerCase() : name, value]);
  // What comes encoded must be decoded before it can be scrubbed.
  if (isScrubbed) own("Accept-Encoding", "identity");
  if (isWebSocket) {
    own("Connection", "Upgrade");
    own("Upgrade", "websocket");
  }
  if (head.bodyByteCount !== null) {
    if (hasBody || /^(POST|PUT|PATCH)$/.test(head.method)) {
      own("Content-Length", String(head.bodyByteCount));
    }
  } else if (!isOfHttp2) own("Transfer-Encoding", "chunked");
  return sent;
}

function authorityOf({ target, scheme }: RequestHead): string {
  const usual = scheme === "https" || scheme === "wss" ? 443 : 80;
  return target.port === usual ? target.host : `${target.host}:${target.port}`;
}

/** HTTP/2 cuts a cookie in pieces (RFC 9113, 8.2.3); what reads headers reads one. */
function withOneCookie(headers: HeaderList): HeaderList {
  const cookies = valuesOf(headers, "cookie");
  if (cookies.length < 2) return headers;
  const others = headers.filter(([name]) => name.toLowerCase() !== "cookie");
  return [...others, ["cookie", cookies.join("; ")]];
}

/** `Basic` credentials of a proxy's client; null when there are none that can be read. */
export function credentialsOf(
  authorization: string | null | undefined,
): { username: string; password: string } | null {
  const [, encoded] = /^Basic +([A-Za-z0-9+/=]+)$/i.exec(authorization ?? "") ?? [];
  if (encoded === undefined) return null;
  const text = Buffer.from(encoded, "base64").toString("utf8");
  const at = text.indexOf(":");
  return at === -1 ? null : { username: text.slice(0, at), password: text.slice(at + 1) };
}

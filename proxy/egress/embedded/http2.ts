/**
 * HTTP/2 of a worker. What it may say that HTTP/1.1 cannot (to the server we speak that) is refused
 * by nghttp2 below us: names and values that are none, lengths that disagree.
 */
import type { Http2Session, OutgoingHttpHeaders, ServerHttp2Stream } from "node:http2";
import { constants, performServerHandshake } from "node:http2";
import type { Writable } from "node:stream";
import type { TLSSocket } from "node:tls";
import type { RequestHead } from "../guard.ts";
import { denied } from "../refusal.ts";
import { type ClientExchange, type Denial, LINGER_MS, type Tunnel } from "./client.ts";
import type { HeaderList } from "./flow.ts";
import { pairsOf, valuesOf } from "./headers.ts";
import { HEADERS_MAX } from "./http1.ts";

const HEAD_BYTES_MAX = 64 * 1024;
const STREAMS_MAX = 100;
const { NGHTTP2_NO_ERROR, NGHTTP2_INTERNAL_ERROR, NGHTTP2_FLAG_END_STREAM } = constants;

/** Speaks HTTP/2 on a tunnel; each request is handed on. */
export function openHttp2(
  socket: TLSSocket,
  tunnel: Tunnel,
  idleTimeoutMs: number,
  onExchange: (exchange: ClientExchange) => void,
): Http2Session {
  const session = performServerHandshake(socket, {
    maxHeaderListPairs: HEADERS_MAX,
    maxSessionMemory: 16,
    settings: { maxConcurrentStreams: STREAMS_MAX, maxHeaderListSize: HEAD_BYTES_MAX },
  });
  session.setTimeout(idleTimeoutMs, () => session.close());
  session.on("error", () => undefined);
  session.on("stream", (stream, _, flags, rawHeaders: readonly string[]) => {
    onExchange(readHttp2(stream, pairsOf(rawHeaders), flags, tunnel, socket));
  });
  return session;
}

function readHttp2(
  stream: ServerHttp2Stream,
  pairs: [string, string][],
  flags: number,
  tunnel: Tunnel,
  socket: TLSSocket,
): ClientExchange {
  const { head, denial } = readHead(pairs, flags, tunnel);
  const hasBody = (flags & NGHTTP2_FLAG_END_STREAM) === 0;
  let lastWords: HeaderList = [];
  let isFinished = false;
  let isAborted = false;
  stream.on("error", () => undefined);
  return {
    httpVersion: "2.0",
    address: socket.remoteAddress ?? null,
    ...{ head, hasBody, body: stream, denial },
    expectsContinue: valuesOf(head.headers, "expect").some((value) => value === "100-continue"),
    sayContinue: () => {
      if (!isGone() && !stream.headersSent) stream.additionalHeaders({ ":status": 100 });
    },
    hasBegun: () => stream.headersSent,
    ...{ begin, finish, abort, onGone, isGone },
  };

  function isGone(): boolean {
    return stream.destroyed || stream.closed;
  }

  function begin(status: number, sent: HeaderList, answerHasBody: boolean): Writable | null {
    if (isGone() || stream.headersSent) return null;
    try {
      stream.respond(headersOf(status, sent), {
        endStream: !answerHasBody,
        waitForTrailers: answerHasBody,
      });
    } catch {
      return null;
    }
    if (answerHasBody) stream.once("wantTrailers", sayLastWords);
    return stream;
  }

  function sayLastWords(): void {
    if (isGone()) return;
    try {
      stream.sendTrailers(fieldsOf(lastWords));
    } catch {
      abort();
    }
  }

  function finish(given: HeaderList): void {
    isFinished = true;
    lastWords = given;
    stream.end();
    if (stream.readableEnded) return;
    const timer = setTimeout(() => stream.close(NGHTTP2_NO_ERROR), LINGER_MS);
    stream.once("close", () => clearTimeout(timer));
    stream.removeAllListeners("data");
    stream.resume();
  }

  function abort(): void {
    isAborted = true;
    stream.close(NGHTTP2_INTERNAL_ERROR);
  }

  function onGone(listener: () => void): void {
    // A stream that is reset while nobody reads of it is not closed before somebody does; and what
    // is aborted is ended at once, which looks like the answer's own end.
    stream.once("aborted", () => {
      if (!isAborted) listener();
    });
    stream.once("close", () => {
      if (!stream.aborted && (!isFinished || !stream.writableFinished)) listener();
    });
  }
}

function readHead(
  pairs: [string, string][],
  flags: number,
  tunnel: Tunnel,
): { head: RequestHead; denial: Denial | null } {
  const pseudo = (name: string) => pairs.find(([other]) => other === name)?.[1] ?? null;
  const headers = withOneCookie(pairs.filter(([name]) => !name.startsWith(":")));
  const hosts = valuesOf(headers, "host");
  const authority = pseudo(":authority") ?? hosts[0] ?? null;
  const length = valuesOf(headers, "content-length")[0];
  const isEmpty = (flags & NGHTTP2_FLAG_END_STREAM) !== 0;
  const head: RequestHead = {
    method: pseudo(":method") ?? "GET",
    scheme: tunnel.isSecure ? "https" : "http",
    target: tunnel.target,
    authority,
    serverName: tunnel.serverName,
    path: pseudo(":path") ?? "",
    headers: hosts.length > 0 || authority === null ? headers : [["host", authority], ...headers],
    bodyByteCount: isEmpty ? 0 : length === undefined ? null : Number(length),
  };
  return { head, denial: faultOf(head, hosts, pseudo(":scheme")) };
}

function faultOf(
  head: RequestHead,
  hosts: readonly string[],
  scheme: string | null,
): Denial | null {
  if (head.authority === null || hosts.length > 1) {
    return denied("bad_request", "The request has no :authority, or more than one Host");
  }
  if (hosts.some((host) => host !== head.authority)) {
    return denied("name_mismatch", "The request's :authority and Host disagree");
  }
  if (head.method === "CONNECT" || !/^(\/|\*$)/.test(head.path)) {
    return denied("bad_request", "The request is no path inside of a tunnel");
  }
  if (scheme !== head.scheme) {
    return denied("bad_request", `The request's :scheme is not ${head.scheme}`);
  }
  return null;
}

/** HTTP/2 cuts a cookie in pieces (RFC 9113, 8.2.3); HTTP/1.1 has one. */
function withOneCookie(headers: [string, string][]): [string, string][] {
  const cookies = valuesOf(headers, "cookie");
  if (cookies.length < 2) return headers;
  const others = headers.filter(([name]) => name !== "cookie");
  return [...others, ["cookie", cookies.join("; ")]];
}

/** Fields that Node lets an HTTP/2 head have once (RFC 9110: what they say has one value). */
const SINGLE: ReadonlySet<string> = new Set([
  ...["access-control-allow-credentials", "access-control-max-age", "age", "content-length"],
  ...["access-control-request-method", "authorization", "content-location", "content-md5"],
  ...["content-range", "content-type", "date", "dnt", "etag", "expires", "from", "host"],
  ...["if-modified-since", "if-range", "if-unmodified-since", "last-modified", "location"],
  ...["max-forwards", "proxy-authorization", "range", "referer", "retry-after", "tk"],
  ...["upgrade-insecure-requests", "user-agent", "x-content-type-options"],
]);
/** Likewise; they are lists, and may be said in one line. */
const LISTED: ReadonlySet<string> = new Set([
  ...["content-encoding", "content-language", "if-match", "if-none-match"],
]);

function headersOf(status: number, sent: HeaderList): OutgoingHttpHeaders {
  return { ":status": status, ...fieldsOf(sent) };
}

function fieldsOf(sent: HeaderList): Record<string, string | string[]> {
  const fields: Record<string, string | string[]> = Object.create(null);
  for (const [name, value] of sent) {
    const lower = name.toLowerCase();
    const before = fields[lower];
    if (before === undefined) fields[lower] = value;
    // The first, as Node's own client and browsers read them.
    else if (SINGLE.has(lower)) continue;
    else if (LISTED.has(lower)) fields[lower] = `${before}, ${value}`;
    else if (typeof before === "string") fields[lower] = [before, value];
    else before.push(value);
  }
  return fields;
}

/**
 * HTTP/1.1 of a worker. Node's parser is strict by itself; what it lets pass and another server may
 * read in another way is refused here.
 */
import type { IncomingMessage, ServerResponse } from "node:http";
import type { Writable } from "node:stream";
import type { RequestHead, Target } from "../guard.ts";
import { denied } from "../refusal.ts";
import {
  type ClientExchange,
  type Denial,
  LINGER_MS,
  parseAuthority,
  type Tunnel,
} from "./client.ts";
import type { HeaderList } from "./flow.ts";
import { pairsOf, valuesOf } from "./headers.ts";

export const HEADERS_MAX = 200;

/** `tunnel`: what it came by; null: it was asked of the proxy itself, with a whole URL. */
export function readHttp1(
  incoming: IncomingMessage,
  response: ServerResponse,
  tunnel: Tunnel | null,
): ClientExchange {
  const headers = pairsOf(incoming.rawHeaders);
  const { head, hasBody, denial } = readHead(incoming, headers, tunnel);
  let isFinished = false;
  // Nothing is said of what fails after the worker has gone: `onGone` tells it.
  response.on("error", () => undefined);
  incoming.on("error", () => undefined);
  return {
    httpVersion: incoming.httpVersion,
    address: incoming.socket.remoteAddress ?? null,
    ...{ head, hasBody, body: incoming, denial },
    expectsContinue: valuesOf(headers, "expect").some((value) => /^100-continue$/i.test(value)),
    sayContinue: () => {
      if (!response.destroyed) response.writeContinue();
    },
    hasBegun: () => response.headersSent,
    ...{ begin, finish, abort, onGone },
    isGone: () => response.destroyed || incoming.socket.destroyed,
  };

  function begin(status: number, sent: HeaderList, answerHasBody: boolean): Writable | null {
    if (response.destroyed || response.headersSent) return null;
    response.sendDate = false;
    response.shouldKeepAlive &&= denial === null && tunnel?.refusal == null;
    const flat: string[] = [];
    for (const [name, value] of sent) flat.push(name, value);
    try {
      response.writeHead(status, flat);
      // An answer that is long in coming, such as a stream of events, has begun all the same.
      if (answerHasBody) response.flushHeaders();
    } catch {
      return null;
    }
    return response;
  }

  function finish(trailers: HeaderList): void {
    isFinished = true;
    try {
      response.addTrailers(trailers.map(([name, value]): [string, string] => [name, value]));
    } catch {
      // The body is whole, its trailers cannot be said: an end would hide that they are missing.
      abort();
      return;
    }
    if (incoming.complete) {
      response.end();
      return;
    }
    // Its connection cannot serve another request before the rest of this one has come.
    const { socket } = incoming;
    const timer = setTimeout(() => socket.destroy(), LINGER_MS);
    socket.once("close", () => clearTimeout(timer));
    incoming.once("end", () => {
      clearTimeout(timer);
      response.end();
    });
    incoming.removeAllListeners("data");
    incoming.resume();
  }

  function abort(): void {
    incoming.socket.destroy();
  }

  function onGone(listener: () => void): void {
    response.once("close", () => {
      if (!response.writableFinished || !isFinished) listener();
    });
  }
}

function readHead(
  incoming: IncomingMessage,
  headers: [string, string][],
  tunnel: Tunnel | null,
): { head: RequestHead; hasBody: boolean; denial: Denial | null } {
  const place = placeOf(incoming.url ?? "", tunnel);
  const hosts = valuesOf(headers, "host");
  const lengths = valuesOf(headers, "content-length");
  const codings = valuesOf(headers, "transfer-encoding");
  const isUpgrade = valuesOf(headers, "upgrade").some((value) => /^websocket$/i.test(value));
  const isSecure = place?.isSecure ?? tunnel?.isSecure ?? false;
  const length = /^[0-9]{1,15}$/.test(lengths[0] ?? "") ? Number(lengths[0]) : null;
  const hasBody = codings.length > 0 || (length ?? 0) > 0;
  const head: RequestHead = {
    method: incoming.method ?? "GET",
    scheme: isUpgrade ? (isSecure ? "wss" : "ws") : isSecure ? "https" : "http",
    target: place?.target ?? tunnel?.target ?? { host: "", port: 0 },
    authority: hosts[0] ?? null,
    serverName:
      tunnel === null && place?.isSecure ? place.target.host : (tunnel?.serverName ?? null),
    path: place?.path ?? incoming.url ?? "",
    headers,
    bodyByteCount: codings.length > 0 ? null : (length ?? 0),
  };
  const wrong = faultOf({ incoming, headers, place, hosts, lengths, codings });
  return { head, hasBody, denial: wrong === null ? null : denied("bad_request", wrong) };
}

/** What is wrong with it, as a sentence; null when it can be read in one way only. */
function faultOf(read: {
  incoming: IncomingMessage;
  headers: HeaderList;
  place: Place | null;
  hosts: readonly string[];
  lengths: readonly string[];
  codings: readonly string[];
}): string | null {
  const { incoming, headers, place, hosts, lengths, codings } = read;
  const isOld = incoming.httpVersion !== "1.1";
  if (place === null) {
    return "The request's target is neither a path inside of a tunnel nor a whole http: URL";
  }
  if (headers.length > HEADERS_MAX) return `The request has over ${HEADERS_MAX} headers`;
  if (hosts.length > 1 || (hosts.length === 0 && !isOld)) {
    return `The request has ${hosts.length} Host headers: send one`;
  }
  if (lengths.length > 1) return "The request has more than one Content-Length: send one";
  if (lengths.length === 1 && codings.length > 0) {
    return "The request has a Content-Length and a Transfer-Encoding: send one of them";
  }
  if (lengths.length === 1 && !/^[0-9]{1,15}$/.test(lengths[0] ?? "")) {
    return "The request's Content-Length is no number";
  }
  if (codings.length > 1 || (codings.length === 1 && (isOld || !isChunked(codings[0])))) {
    return "The request's Transfer-Encoding is not chunked";
  }
  const upgrades = valuesOf(headers, "upgrade");
  if (upgrades.some((value) => !/^(websocket|h2c)$/i.test(value))) {
    return "The request would upgrade to something that is no WebSocket";
  }
  const expects = valuesOf(headers, "expect");
  if (expects.some((value) => !/^100-continue$/i.test(value))) {
    return "The request expects something other than 100-continue";
  }
  return null;
}

function isChunked(coding: string | undefined): boolean {
  return /^chunked$/i.test(coding ?? "");
}

interface Place {
  target: Target;
  path: string;
  isSecure: boolean;
}

/** Inside of a tunnel a path; before the proxy itself a whole URL. */
function placeOf(url: string, tunnel: Tunnel | null): Place | null {
  if (tunnel !== null) {
    if (!url.startsWith("/") && url !== "*") return null;
    return { target: tunnel.target, path: url, isSecure: tunnel.isSecure };
  }
  const [, scheme, authority, path] = /^(https?):\/\/([^/?#]*)(.*)$/is.exec(url) ?? [];
  if (scheme === undefined || authority === undefined) return null;
  const isSecure = scheme.toLowerCase() === "https";
  const target = parseAuthority(authority, isSecure ? 443 : 80);
  return { target, path: path?.startsWith("/") ? path : `/${path ?? ""}`, isSecure };
}

/** The upstream through undici's dispatcher: a handler, no streams in between, no `fetch`. */
import { Agent } from "undici";
import {
  type Upstream,
  type UpstreamExchange,
  type UpstreamListener,
  type UpstreamPath,
  type UpstreamRequest,
  upstreamUrl,
} from "./upstream.ts";

export interface UndiciOptions {
  connectTimeoutMs: number;
  /** The most silence before the head: a thinking model may say nothing for minutes. */
  headTimeoutMs: number;
  /** The most silence between two chunks. */
  chunkTimeoutMs: number;
}

interface Address {
  origin: string;
  path: string;
}

/** Projects may name servers of their own. */
const ADDRESSES_MAX = 1_000;

export function createUndiciUpstream(options: UndiciOptions): Upstream {
  const agent = new Agent({
    connect: { timeout: options.connectTimeoutMs },
    headersTimeout: options.headTimeoutMs,
    bodyTimeout: options.chunkTimeoutMs,
    // One call a connection, as many as there are calls: a stream must not wait for another.
    connections: null,
    pipelining: 1,
    maxHeaderSize: 64 * 1024,
  });
  /** Addresses that were taken apart before: a URL costs more than a call's other headers. */
  const known = new Map<string, Address>();
  return { send, close };

  function addressOf(baseUrl: string, path: UpstreamPath): Address {
    const key = `${path} ${baseUrl}`;
    const found = known.get(key);
    if (found !== undefined) return found;
    const url = upstreamUrl(baseUrl, path);
    const address = { origin: url.origin, path: url.pathname + url.search };
    if (known.size >= ADDRESSES_MAX) known.clear();
    known.set(key, address);
    return address;
  }

  function send(request: UpstreamRequest, listener: UpstreamListener): UpstreamExchange {
    const { provider, path, body } = request;
    const address = addressOf(provider.baseUrl, path);
    let controller: { abort(reason: Error): void; pause(): void; resume(): void } | null = null;
    let isSent = false;
    let isAborted = false;
    let isOver = false;
    let isReturned = false;

    const fail = (error: Error): void => {
      // What cannot be sent at all (a credential that is no header) fails within `dispatch`, and
      // our caller has no exchange yet to end.
      if (!isReturned) {
        queueMicrotask(() => fail(error));
        return;
      }
      if (isOver) return;
      isOver = true;
      listener.onError(error);
    };
    agent.dispatch(
      {
        ...address,
        method: "POST",
        body,
        headers: { ...request.headers, ...credential(provider.authStyle, provider.apiKey) },
      },
      {
        onRequestStart(started) {
          controller = started;
          if (isAborted) return started.abort(new Error("aborted before it was sent"));
          isSent = true;
        },
        onResponseStart(_, status, headers) {
          // Informational answers come before the head.
          if (status >= 200 && !isOver) listener.onHead(status, headers);
        },
        onResponseData(_, chunk) {
          if (!isOver) listener.onData(chunk);
        },
        onResponseEnd() {
          if (isOver) return;
          isOver = true;
          listener.onEnd();
        },
        onResponseError: (_, error) => fail(error),
      },
    );
    isReturned = true;
    return { isSent: () => isSent, abort, pause: () => controller?.pause(), resume };

    function abort(): void {
      if (isAborted || isOver) return;
      isAborted = true;
      controller?.abort(new Error("the call was aborted"));
      // undici tells of an abort only once the request is on a connection.
      if (controller === null) fail(new Error("the call was aborted before it was sent"));
    }

    function resume(): void {
      controller?.resume();
    }
  }

  /** Ends idle connections at once and running calls too: the gateway has drained by then. */
  async function close(): Promise<void> {
    await agent.destroy();
  }
}

function credential(style: "bearer" | "x-api-key", key: string | null): Record<string, string> {
  if (key === null) return {};
  return style === "bearer" ? { authorization: `Bearer ${key}` } : { "x-api-key": key };
}

/** One short question to a provider, beside the calls: its answer in JSON, or null. */
import type { Upstream, UpstreamRequest } from "./upstream.ts";

const BYTES_MAX = 8 * 1024 * 1024;

/** Null when it takes longer, is larger, is no JSON, or has another status than 200. */
export function askUpstream(
  upstream: Upstream,
  request: UpstreamRequest,
  timeoutMs: number,
): Promise<unknown> {
  const { promise, resolve } = Promise.withResolvers<unknown>();
  const chunks: Buffer[] = [];
  let bytes = 0;
  const exchange = upstream.send(request, {
    onHead: (status, headers) => {
      if (status !== 200 || headers["content-encoding"] !== undefined) give(null);
    },
    onData: (chunk) => {
      bytes += chunk.length;
      if (bytes > BYTES_MAX) give(null);
      else chunks.push(chunk);
    },
    onEnd: () => give(parse(Buffer.concat(chunks))),
    onError: () => give(null),
  });
  const timer = setTimeout(() => give(null), timeoutMs);
  return promise;

  function give(answer: unknown): void {
    clearTimeout(timer);
    resolve(answer);
    exchange?.abort();
  }
}

function parse(body: Buffer): unknown {
  try {
    return JSON.parse(body.toString("utf8"));
  } catch {
    return null;
  }
}

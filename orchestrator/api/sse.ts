/**
 * Server-sent events over a hijacked reply: heartbeat comments keep proxies and clients awake, a
 * slow reader is waited for, and a reader that left ends the loop that feeds it.
 */
import { once } from "node:events";
import type { FastifyReply, FastifyRequest } from "fastify";

export interface EventStream {
  /** Aborted when the reader left or the server closes. */
  readonly signal: AbortSignal;
  /** Sends one event; resolves once the socket takes more. Nothing when the reader left. */
  send(event: { data: string; id?: string; name?: string }): Promise<void>;
  end(): void;
}

export interface StreamOptions {
  heartbeatMs: number;
  /** Aborted when the server closes. */
  closing: AbortSignal;
}

const RECONNECT_MS = 1_000;

/** Starts the stream: from here on the reply is no longer fastify's. */
export function openEventStream(
  request: FastifyRequest,
  reply: FastifyReply,
  { heartbeatMs, closing }: StreamOptions,
): EventStream {
  const { raw } = reply;
  const left = new AbortController();
  const signal = AbortSignal.any([left.signal, closing]);
  reply.hijack();
  raw.on("close", () => left.abort());
  // A reader that resets the connection is a reader that left.
  raw.on("error", () => left.abort());
  const headers = reply.getHeaders() as Record<string, string>;
  raw.writeHead(200, {
    ...headers,
    "content-type": "text/event-stream; charset=utf-8",
    "x-accel-buffering": "no",
  });
  raw.write(`retry: ${RECONNECT_MS}\n\n`);
  request.raw.socket.setNoDelay(true);
  const heartbeat = setInterval(() => {
    if (!raw.writableNeedDrain) raw.write(": heartbeat\n\n");
  }, heartbeatMs);
  heartbeat.unref();
  signal.addEventListener("abort", end, { once: true });
  if (signal.aborted) end();
  return { signal, send, end };

  async function send({ data, id, name }: Parameters<EventStream["send"]>[0]): Promise<void> {
    if (signal.aborted || raw.writableEnded) return;
    const lines = data.split(/\r\n|\r|\n/).map((line) => `data: ${line}\n`);
    if (name !== undefined) lines.unshift(`event: ${name}\n`);
    if (id !== undefined) lines.unshift(`id: ${id}\n`);
    if (raw.write(`${lines.join("")}\n`)) return;
    try {
      await once(raw, "drain", { signal });
    } catch (error) {
      if (!signal.aborted) throw error;
    }
  }

  function end(): void {
    clearInterval(heartbeat);
    if (!raw.writableEnded) raw.end();
  }
}

/** Runs what feeds a stream; its fault ends the stream, and the reader comes back for the rest. */
export async function endingStream(
  stream: EventStream,
  request: FastifyRequest,
  feed: () => Promise<void>,
): Promise<void> {
  try {
    await feed();
  } catch (error) {
    if (!stream.signal.aborted) {
      request.log.warn({ err: error, route: request.routeOptions.url }, "stream cut short");
    }
  } finally {
    stream.end();
  }
}

/** Whether the request asks for a stream rather than JSON. */
export function wantsEventStream({ headers }: FastifyRequest): boolean {
  return (headers.accept ?? "").includes("text/event-stream");
}

/** The position after which a reader goes on: what it last saw, else what it asked for, else 0. */
export function resumePosition({ headers }: FastifyRequest, asked: number | undefined): number {
  const last = headers["last-event-id"];
  if (typeof last === "string" && /^\d{1,15}$/.test(last)) return Number(last);
  return asked ?? 0;
}

/**
 * One exchange with a model server: a stream goes on to the client as it comes, an answer in one
 * piece is gathered. It ends once, for one reason, and whoever still works on it is told to stop.
 *
 * Invariant: whatever happens on either side, the promise resolves, within the deadline.
 */
import type { ServerResponse } from "node:http";
import type { Socket } from "node:net";
import type { Wire } from "../../orchestrator/contract/agents.ts";
import type { Clock, EpochMs } from "../../orchestrator/runtime/clock.ts";
import type { Ending } from "./bill.ts";
import { createByteRecord } from "./byte-record.ts";
import { createDecoder, type Decoder, isPlain } from "./decode.ts";
import type { StreamEnding } from "./ending.ts";
import { createFreePassage, createPaidPassage, type Way } from "./passage.ts";
import type { Slices } from "./slices.ts";
import type { Upstream, UpstreamRequest } from "./upstream.ts";
import { type SeenUsage, usageOfBody } from "./usage-scan.ts";

export interface ExchangeRequest {
  upstream: UpstreamRequest;
  wire: Wire;
  isStream: boolean;
  withoutUsageChunk: boolean;
  /** What pays for a stream's output while it comes; null when all of it is reserved. */
  slices: Slices | null;
  deadlineMs: number;
  /** The most of an answer in one piece; a longer one is a failure of the server. */
  bodyBytesMax: number;
  /** How much of the answer is kept for the record. */
  recordBytesMax: number;
  /** The head of a stream, from that of the server. */
  streamHead(headers: ResponseHeaders): Promise<Record<string, string>>;
}

/** More than any model writes into one stream. */
const STREAM_BYTES_MAX = 256 * 1024 * 1024;

export type ResponseHeaders = Readonly<Record<string, string | string[] | undefined>>;

export interface ExchangeResult {
  status: number | null;
  headers: ResponseHeaders;
  ending: Ending;
  isSent: boolean;
  error: string | null;
  /** Whether the answer went to the client as it came. */
  isStreamed: boolean;
  /** The answer in one piece; empty when it was streamed. */
  body: Buffer;
  recorded: Buffer;
  beyondBytes: number;
  seen: SeenUsage;
  /** The output that passed, where it was counted on its way. */
  countedTokens: number | null;
  /** Whether what passed of a stream ends where an event ends. */
  isBetweenEvents: boolean;
  /** What ends a stream that was cut short. */
  closing: StreamEnding | null;
  firstByteAtMs: EpochMs | null;
}

export function runExchange(
  { upstream, clock }: { upstream: Upstream; clock: Clock },
  request: ExchangeRequest,
  response: ServerResponse,
  /** The client's, whether or not the response has been given it yet. */
  socket: Socket,
): Promise<ExchangeResult> {
  const { wire, deadlineMs, bodyBytesMax, recordBytesMax } = request;
  const way: Way = {
    pass,
    pause: () => exchange.pause(),
    resume: () => exchange.resume(),
    stop: () => void finish("cut_short", "the budget does not cover more of the answer"),
  };
  const passage =
    request.slices === null
      ? createFreePassage(wire, request.withoutUsageChunk, way)
      : createPaidPassage(wire, request.withoutUsageChunk, request.slices, way);
  const record = createByteRecord(recordBytesMax);
  const body: Buffer[] = [];
  let answerBytes = 0;
  let decoder: Decoder | null = null;
  let status: number | null = null;
  let headers: ResponseHeaders = {};
  let firstByteAtMs: EpochMs | null = null;
  let isStreamed = false;
  let headWritten: Promise<void> = Promise.resolve();
  let isHeadWritten = false;
  const early: Buffer[] = [];
  let isOver = false;
  const { promise, resolve } = Promise.withResolvers<ExchangeResult>();

  const onGone = () => void finish("client_gone", "the client went away");
  socket.once("close", onGone);
  const timer = setTimeout(
    () => void finish("deadline", `the call took longer than ${deadlineMs} ms`),
    deadlineMs,
  );
  const exchange = upstream.send(request.upstream, {
    onHead,
    onData: (chunk) => (decoder === null ? onData(chunk) : decoder.push(chunk)),
    onEnd: () => (decoder === null ? onEnd() : decoder.end()),
    onError,
  });
  return promise;

  function onHead(upstreamStatus: number, upstreamHeaders: ResponseHeaders): void {
    status = upstreamStatus;
    headers = upstreamHeaders;
    firstByteAtMs = clock.now();
    const encoding = headers["content-encoding"];
    if (!isPlain(encoding)) {
      decoder = createDecoder(encoding, STREAM_BYTES_MAX, { onData, onEnd, onError });
      if (decoder === null) {
        onError(new Error(`content-encoding: "${encoding}" is not read`));
        return;
      }
    }
    const isEventStream = String(headers["content-type"]).startsWith("text/event-stream");
    isStreamed = request.isStream && status === 200 && isEventStream;
    if (!isStreamed) return;
    exchange.pause();
    headWritten = request.streamHead(headers).then((head) => {
      isHeadWritten = true;
      if (isOver && response.destroyed) return;
      response.writeHead(200, head);
      response.flushHeaders();
      for (const part of early.splice(0)) response.write(part);
      exchange.resume();
    });
  }

  function onError({ message }: Error): void {
    void finish("broken", message);
  }

  function onData(chunk: Buffer): void {
    if (isOver) return;
    answerBytes += chunk.length;
    const bytesMax = isStreamed ? STREAM_BYTES_MAX : bodyBytesMax;
    if (answerBytes > bytesMax) {
      onError(new Error(`the answer is over ${bytesMax} bytes`));
      return;
    }
    record.add(chunk);
    if (isStreamed) passage.push(chunk);
    else body.push(chunk);
  }

  function onEnd(): void {
    const passed = isStreamed ? passage.end() : Promise.resolve();
    void passed.then(() => finish("completed", null));
  }

  function pass(part: Buffer): void {
    if (!isHeadWritten) early.push(part);
    else if (!response.write(part) && !isOver) {
      exchange.pause();
      response.once("drain", () => exchange.resume());
    }
  }

  async function finish(ending: Ending, error: string | null): Promise<void> {
    if (isOver) return;
    isOver = true;
    clearTimeout(timer);
    socket.off("close", onGone);
    const isSent = exchange.isSent();
    decoder?.stop();
    if (ending !== "completed") exchange.abort();
    await headWritten;
    if (isStreamed && ending !== "completed" && ending !== "cut_short") await passage.end();
    const whole = isStreamed ? Buffer.alloc(0) : Buffer.concat(body);
    resolve({
      status,
      headers,
      ending,
      isSent,
      error,
      isStreamed,
      body: whole,
      recorded: record.bytes(),
      beyondBytes: record.beyondBytes(),
      seen: isStreamed ? passage.seen() : usageOfBody(wire, whole),
      countedTokens: isStreamed ? passage.countedTokens() : null,
      isBetweenEvents: isStreamed && passage.isBetweenEvents(),
      closing: ending === "cut_short" ? passage.ending : null,
      firstByteAtMs,
    });
  }
}

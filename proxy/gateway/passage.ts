/**
 * How a stream passes from a model server to its client: as it comes, or, where its output is paid
 * for in slices, event by event and never beyond what is reserved.
 */
import type { Wire } from "../../orchestrator/contract/agents.ts";
import { createStreamEnding, type StreamEnding } from "./ending.ts";
import { writtenIn } from "./estimate.ts";
import { hasUsageChunk } from "./request.ts";
import type { Slices } from "./slices.ts";
import { createSseSplitter, eventData } from "./sse.ts";
import {
  createUsageScan,
  EVENT_BYTES_MAX,
  readEventUsage,
  type SeenUsage,
  UNSEEN,
} from "./usage-scan.ts";

export interface Passage {
  push(chunk: Buffer): void;
  /** The server has said all; resolves when what may pass has passed. */
  end(): Promise<void>;
  /** Of what has passed. */
  seen(): SeenUsage;
  /** Output tokens that have passed, where they are counted; else null. */
  countedTokens(): number | null;
  isBetweenEvents(): boolean;
  /** How a stream that was stopped is ended; null where none is. */
  ending: StreamEnding | null;
}

export interface Way {
  pass(bytes: Buffer): void;
  pause(): void;
  resume(): void;
  /** No more may pass: the output that is reserved is used up. */
  stop(): void;
}

/** Passes everything. */
export function createFreePassage(
  wire: Wire,
  withoutUsageChunk: boolean,
  { pass }: Pick<Way, "pass">,
): Passage {
  const scan = createUsageScan(wire, withoutUsageChunk);
  return {
    push: (chunk) => scan.push(chunk).forEach(pass),
    end: async () => scan.end().forEach(pass),
    seen: scan.seen,
    countedTokens: () => null,
    isBetweenEvents: scan.isBetweenEvents,
    ending: null,
  };
}

interface Waiting {
  bytes: Buffer;
  /** The second half of the line end of the event before. */
  isTail: boolean;
}

/** Passes whole events, each once its output is reserved, and stops at the first that is not. */
export function createPaidPassage(
  wire: Wire,
  withoutUsageChunk: boolean,
  slices: Pick<Slices, "reach" | "decided">,
  way: Way,
): Passage {
  const ending = createStreamEnding(wire);
  const queue: Waiting[] = [];
  let seen = UNSEEN;
  let tokens = 0;
  let isDropped = false;
  let isStopped = false;
  let waiting: Promise<void> | null = null;
  const splitter = createSseSplitter(
    (bytes) => void queue.push({ bytes, isTail: false }),
    (bytes) => void queue.push({ bytes, isTail: true }),
  );
  const isBetweenEvents = () => splitter.rest().length === 0;
  return { push, end, seen: () => seen, countedTokens: () => tokens, isBetweenEvents, ending };

  function push(chunk: Buffer): void {
    if (isStopped) return;
    splitter.push(chunk);
    if (splitter.rest().length > EVENT_BYTES_MAX) stop();
    else if (waiting === null) advance();
  }

  async function end(): Promise<void> {
    if (isStopped) return;
    const rest = splitter.rest();
    if (rest.length > 0) queue.push({ bytes: Buffer.from(rest), isTail: false });
    if (waiting === null) advance();
    while (waiting !== null) await waiting;
  }

  function advance(): void {
    for (let next = queue[0]; next !== undefined; next = queue[0]) {
      if (!next.isTail && !take(next.bytes)) return;
      queue.shift();
      if (!isDropped) way.pass(next.bytes);
    }
  }

  /** Whether the event may pass now; it is then counted. */
  function take(bytes: Buffer): boolean {
    const event = parsed(bytes);
    const found = event === null ? null : readEventUsage(wire, event, seen);
    const isLast = found?.isAlone ?? false;
    const exact = runningCount(found?.seen ?? null);
    const after = isLast ? tokens : (exact ?? tokensAfter(event));
    if (!isLast && !slices.reach(after, exact !== null)) {
      if (waiting === null) {
        way.pause();
        waiting = slices.decided().then(() => retry(after, exact !== null));
      }
      return false;
    }
    tokens = after;
    seen = found?.seen ?? seen;
    isDropped = isLast && withoutUsageChunk;
    if (event !== null) ending.see(event);
    return true;
  }

  /** What the server says that it has generated so far; null where it does not say. */
  function runningCount(now: SeenUsage | null): number | null {
    const isTold = hasUsageChunk(wire) && now !== null && !now.isInvalid;
    return isTold ? (now.usage?.outputTokens ?? null) : null;
  }

  /** A byte of text for a token. */
  function tokensAfter(event: Record<string, unknown> | null): number {
    return event === null ? tokens : tokens + writtenIn(wire, event, true);
  }

  function retry(needed: number, isExact: boolean): void {
    waiting = null;
    if (isStopped) return;
    if (!slices.reach(needed, isExact)) {
      stop();
    } else {
      way.resume();
      advance();
    }
  }

  function stop(): void {
    isStopped = true;
    queue.length = 0;
    way.stop();
  }
}

function parsed(event: Buffer): Record<string, unknown> | null {
  try {
    const value: unknown = JSON.parse(eventData(event) ?? "null");
    return typeof value === "object" ? (value as Record<string, unknown> | null) : null;
  } catch {
    return null;
  }
}

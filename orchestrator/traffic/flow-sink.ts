/**
 * The sink port over a spool: a draft becomes a redacted record, and is written.
 *
 * Small drafts are read here, a few milliseconds at once, between what else the process does; large
 * ones on a thread of their own, so that a door's answers do not wait for a body to be looked at.
 * Invariant: what waits is bounded; beyond it a draft is refused, and told so.
 */
import { setImmediate as yieldOnce } from "node:timers/promises";
import { Problem } from "../problem.ts";
import type { BackgroundTask } from "../runtime/background.ts";
import { monotonicMs } from "../runtime/clock.ts";
import type { Log } from "../runtime/log.ts";
import { type RecordLimits, toRecord } from "./record.ts";
import { openRecordThread, type RecordThread } from "./record-thread.ts";
import { createRedactor, type Redactor } from "./redact.ts";
import type { KnownSecrets } from "./secret-forms.ts";
import type { FlowDraft, FlowSink } from "./sink.ts";
import type { TrafficSources } from "./sources.ts";
import type { Spool } from "./spool.ts";

export interface FlowSinkDeps {
  spool: Spool;
  sources: TrafficSources;
  /** Asked for every draft: the same list while it holds the same; must not wait for anything. */
  knownSecrets: () => KnownSecrets;
  log: Log;
}

export interface FlowSinkOptions {
  bodyBytesMax: number;
  messageBytesMax: number;
  /** Of drafts that wait to be written; beyond it `isBehind`, beyond twice it refused. */
  waitingBytesMax: number;
  /** Drafts of this size and more are read on the other thread. */
  threadBytesMin: number;
}

export interface SpooledFlowSink extends FlowSink, AsyncDisposable {
  /** Registers the source and tells how far it is: start it with `startBackground`, not a duty. */
  readonly beat: BackgroundTask;
}

export const FLOW_SINK_DEFAULTS: FlowSinkOptions = {
  bodyBytesMax: 2 ** 20,
  messageBytesMax: 2 ** 20,
  waitingBytesMax: 64 * 2 ** 20,
  threadBytesMin: 64 * 2 ** 10,
};

interface Waiting {
  readonly draft: FlowDraft;
  resolve(): void;
  reject(error: unknown): void;
}

const BEAT_PERIOD_MS = 5_000;
const KNOWN_KEPT_MS = 1_000;
/** How long records are made here before others have their turn. */
const TURN_MS = 4;
/** What a draft costs beside what is in it. */
const DRAFT_BYTES = 2_048;

/** `[Symbol.asyncDispose]` waits for what is accepted, and closes the spool. */
export function createFlowSink(
  { spool, sources, knownSecrets, log }: FlowSinkDeps,
  given: Partial<FlowSinkOptions> = {},
): SpooledFlowSink {
  const options = { ...FLOW_SINK_DEFAULTS, ...given };
  const { bodyBytesMax, messageBytesMax, waitingBytesMax, threadBytesMin } = options;
  const limits: RecordLimits = { bodyBytesMax, messageBytesMax };
  const { source } = spool;
  let queue: Waiting[] = [];
  let isMaking = false;
  let waitingBytes = 0;
  let waitingCount = 0;
  /** Somebody waits until nothing does. */
  let emptied: PromiseWithResolvers<void> | null = null;
  let known = knownSecrets();
  let lastRead = known;
  let knownCount = known.sha256.size;
  let redactor: Redactor = createRedactor(known);
  let knownAtMs = monotonicMs();
  let thread: RecordThread | null = null;
  return {
    sourceId: source.id,
    bodyBytesMax,
    messageBytesMax,
    append,
    isBehind: () => waitingBytes > waitingBytesMax,
    fault: spool.fault,
    beat: { name: `traffic_beat_${source.door}`, periodMs: BEAT_PERIOD_MS, activate: beat },
    [Symbol.asyncDispose]: dispose,
  };

  async function append(draft: FlowDraft): Promise<void> {
    const byteCount = sizeOf(draft);
    const fault = spool.fault();
    if (fault !== null) throw refusal(fault);
    if (waitingBytes + byteCount > 2 * waitingBytesMax) {
      throw refusal("more waits to be written than is kept in memory");
    }
    refreshKnown();
    waitingBytes += byteCount;
    waitingCount++;
    return new Promise((resolve, reject) => {
      const waiting: Waiting = { draft, resolve: written, reject: failed };
      if (byteCount >= threadBytesMin) void onThread(waiting);
      else here(waiting);

      function written(): void {
        left(byteCount);
        resolve();
      }
      function failed(error: unknown): void {
        left(byteCount);
        reject(error);
      }
    });
  }

  function left(byteCount: number): void {
    waitingBytes -= byteCount;
    waitingCount--;
    if (waitingCount > 0) return;
    emptied?.resolve();
    emptied = null;
  }

  function here(waiting: Waiting): void {
    queue.push(waiting);
    if (!isMaking) void make();
  }

  /** All that came at one moment goes to the spool together, and into one flush. */
  async function make(): Promise<void> {
    isMaking = true;
    while (queue.length > 0) {
      await yieldOnce();
      const turnEndsMs = monotonicMs() + TURN_MS;
      let made = 0;
      while (made < queue.length && monotonicMs() < turnEndsMs) {
        const { draft, resolve, reject } = queue[made++] as Waiting;
        try {
          const record = toRecord(draft, source.door, redactor.begin(draft.secrets), limits);
          const done = record instanceof Promise ? await record : record;
          spool.append(JSON.stringify(done)).then(resolve, reject);
        } catch (error) {
          reject(error);
        }
      }
      queue = queue.slice(made);
    }
    isMaking = false;
  }

  async function onThread(waiting: Waiting): Promise<void> {
    const { draft, resolve, reject } = waiting;
    try {
      thread ??= openRecordThread({ door: source.door, limits, known });
      const record = await thread.toRecord(draft);
      spool.append(record).then(resolve, reject);
    } catch (error) {
      // Of a thread that ended, say for want of memory: the next draft has another.
      thread = null;
      log.warn({ err: error, flow_id: draft.id }, "record not made on its thread, made here");
      here(waiting);
    }
  }

  /** A new list counts at once; one that its keeper adds to, a second later at most. */
  function refreshKnown(): void {
    const nowMs = monotonicMs();
    const next = knownSecrets();
    if (next === lastRead && nowMs - knownAtMs < KNOWN_KEPT_MS) return;
    knownAtMs = nowMs;
    lastRead = next;
    if (isSame(known, next) && next.sha256.size === knownCount) return;
    known = next;
    knownCount = next.sha256.size;
    redactor = createRedactor(known);
    thread?.know(known);
  }

  async function beat(): Promise<{ lastSequence: number; spooledBytes: number }> {
    const progress = {
      lastSequence: spool.lastSequence(),
      spooledBytes: await spool.spooledBytes(),
    };
    await sources.heartbeat(source, progress);
    return progress;
  }

  async function dispose(): Promise<void> {
    // Whoever was told that his is written may append again at once.
    while (waitingCount > 0) {
      emptied ??= Promise.withResolvers();
      await emptied.promise;
      await yieldOnce();
    }
    await thread?.[Symbol.asyncDispose]();
    await beat().catch((error: unknown) => {
      log.debug({ err: error, source_id: source.id }, "source of traffic not told of at its end");
    });
    await spool[Symbol.asyncDispose]();
  }

  function refusal(why: string): Problem {
    return new Problem("unavailable", `The record of traffic was not written: ${why}`);
  }
}

/** The list is made anew by whoever keeps it, mostly of the same. */
function isSame(one: KnownSecrets, other: KnownSecrets): boolean {
  if (one === other) return true;
  if (one.sha256 !== other.sha256 || one.values.length !== other.values.length) return false;
  return one.values.every(({ value, kind }, at) => {
    return value === other.values[at]?.value && kind === other.values[at]?.kind;
  });
}

function sizeOf({ request, response, messages }: FlowDraft): number {
  let byteCount = DRAFT_BYTES;
  byteCount += (request?.path.length ?? 0) + (request?.query?.length ?? 0);
  for (const side of [request, response]) {
    byteCount += side?.body?.kept.length ?? 0;
    for (const header of side?.headers ?? []) byteCount += header[0].length + header[1].length;
  }
  for (const { body } of messages ?? []) byteCount += body.kept.length;
  return byteCount;
}

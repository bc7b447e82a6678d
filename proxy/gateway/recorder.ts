/**
 * What is written of a call once its money is: the bodies that passed and whoever is told of it, in
 * batches, behind the calls, so that no answer waits for it.
 *
 * Invariant: at most `bytesMax` of bodies wait, and at most `bytesPerSecondMax` are taken: they are
 * compressed, which costs ten times what forwarding them does, so that a flood of long prompts
 * must not make calls wait for their records. Past that, a call's bodies are given up (its row says
 * so by having none), never the call.
 */
import { setTimeout as sleep } from "node:timers/promises";
import type { Log } from "../../orchestrator/runtime/log.ts";
import type { Calls, FinishedCall } from "./calls.ts";
import { toGzip } from "./gzip.ts";

export interface RecordedCall {
  call: FinishedCall;
  /** What the client sent and what it was sent; null when it is not to be kept. */
  request: Buffer | null;
  response: Buffer | null;
}

export interface Recorder {
  record(recorded: RecordedCall): void;
  /** Bodies that were given up since the start. */
  dropped(): number;
  /** Waits until everything is written, or has failed to be. */
  drain(): Promise<void>;
}

export interface RecorderOptions {
  /** How long a batch gathers: its events come this much later. */
  gatherMs: number;
  bytesMax: number;
  /** Of a second's worth, as much as ten may be taken at once. */
  bytesPerSecondMax: number;
  callsMax: number;
}

export const RECORDER_DEFAULTS: RecorderOptions = {
  gatherMs: 50,
  bytesMax: 32 * 1024 * 1024,
  bytesPerSecondMax: 4 * 1024 * 1024,
  callsMax: 500,
};

export function createRecorder(
  { calls, log }: { calls: Pick<Calls, "attach">; log: Log },
  /** Told of the calls of a batch. */
  onCalls: (ended: readonly FinishedCall[]) => Promise<void> | void,
  { gatherMs, bytesMax, bytesPerSecondMax, callsMax }: RecorderOptions = RECORDER_DEFAULTS,
): Recorder {
  const allowanceMax = 10 * bytesPerSecondMax;
  let allowance = allowanceMax;
  let allowedAtMs = performance.now();
  let waiting: RecordedCall[] = [];
  let waitingBytes = 0;
  let droppedCount = 0;
  let running: Promise<void> | null = null;
  let gathering = new AbortController();
  return { record, dropped: () => droppedCount, drain };

  function record(recorded: RecordedCall): void {
    const bytes = bytesOf(recorded);
    if (waitingBytes + bytes > bytesMax || !takeAllowance(bytes)) {
      droppedCount++;
      waiting.push({ ...recorded, request: null, response: null });
    } else {
      waitingBytes += bytes;
      waiting.push(recorded);
    }
    running ??= run();
  }

  function takeAllowance(bytes: number): boolean {
    const now = performance.now();
    const earned = ((now - allowedAtMs) / 1_000) * bytesPerSecondMax;
    allowance = Math.min(allowanceMax, allowance + earned);
    allowedAtMs = now;
    if (bytes > allowance) return false;
    allowance -= bytes;
    return true;
  }

  async function run(): Promise<void> {
    await sleep(gatherMs, undefined, { signal: gathering.signal }).catch(() => undefined);
    while (waiting.length > 0) {
      const batch = waiting.slice(0, callsMax);
      waiting = waiting.slice(callsMax);
      await write(batch);
    }
    running = null;
  }

  async function write(batch: readonly RecordedCall[]): Promise<void> {
    try {
      await onCalls(batch.map(({ call }) => call));
    } catch (error) {
      log.error({ err: error, calls: batch.length }, "calls not told of");
    }
    try {
      const bodies = [];
      for (const { call, request, response } of batch) {
        if (request === null && response === null) continue;
        const requestGzip = request === null ? null : await toGzip(request);
        const responseGzip = response === null ? null : await toGzip(response);
        bodies.push({ callId: call.id, requestGzip, responseGzip });
      }
      if (bodies.length > 0) await calls.attach(bodies);
    } catch (error) {
      log.error({ err: error, calls: batch.length }, "bodies not kept");
    }
    for (const recorded of batch) waitingBytes -= bytesOf(recorded);
  }

  async function drain(): Promise<void> {
    gathering.abort();
    while (running !== null) await running;
    gathering = new AbortController();
  }
}

function bytesOf({ request, response }: RecordedCall): number {
  return (request?.length ?? 0) + (response?.length ?? 0);
}

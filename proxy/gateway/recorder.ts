/**
 * What is told and recorded of a call once its money is: whoever listens, in batches, and the
 * record of traffic, behind the calls, so that no answer waits for it.
 *
 * Invariant: every exchange is given to the sink. At most `bytesMax` of bodies wait here, and while
 * the sink is behind no more than the first `headBytes` of a body are given to it: a flood of long
 * prompts cuts its bodies short in the record (they say so), never a call.
 */
import { setTimeout as sleep } from "node:timers/promises";
import type { Log } from "../../orchestrator/runtime/log.ts";
import type { FlowDraft, FlowSink } from "../../orchestrator/traffic/sink.ts";
import type { FinishedCall } from "./calls.ts";
import { withHeads } from "./flow.ts";

export interface Recorder {
  /** A call that ended is told of; `null` was none. What passed is recorded, if there is a sink. */
  record(call: FinishedCall | null, flow: FlowDraft | null): void;
  /** Exchanges whose bodies were cut short for want of room, since the start. */
  cutShort(): number;
  /** Exchanges that the sink did not take. */
  lost(): number;
  /** Why what passes now would not be recorded whole; null when it would. */
  fault(): string | null;
  /** Waits until everything is written, or has failed to be. */
  drain(): Promise<void>;
}

export interface RecorderOptions {
  /** How long a batch gathers: its events come this much later. */
  gatherMs: number;
  bytesMax: number;
  headBytes: number;
  callsMax: number;
}

export const RECORDER_DEFAULTS: RecorderOptions = {
  gatherMs: 50,
  bytesMax: 32 * 1024 * 1024,
  headBytes: 4 * 1024,
  callsMax: 500,
};

interface Recorded {
  call: FinishedCall | null;
  flow: FlowDraft | null;
}

export function createRecorder(
  { flows, log }: { flows: Pick<FlowSink, "append" | "isBehind" | "fault"> | null; log: Log },
  /** Told of the calls of a batch. */
  onCalls: (ended: readonly FinishedCall[]) => Promise<void> | void,
  { gatherMs, bytesMax, headBytes, callsMax }: RecorderOptions = RECORDER_DEFAULTS,
): Recorder {
  let waiting: Recorded[] = [];
  let waitingBytes = 0;
  let cutCount = 0;
  let lostCount = 0;
  let running: Promise<void> | null = null;
  let gathering = new AbortController();
  let appendingCount = 0;
  /** Somebody waits until nothing is with the sink. */
  let appendedAll: PromiseWithResolvers<void> | null = null;
  return { record, cutShort: () => cutCount, lost: () => lostCount, fault, drain };

  function fault(): string | null {
    if (flows === null) return "this gateway has no record of traffic";
    if (flows.isBehind() || waitingBytes > bytesMax) return "more waits than is kept in memory";
    return flows.fault();
  }

  function record(call: FinishedCall | null, given: FlowDraft | null): void {
    let flow = flows === null ? null : given;
    if (flow !== null && (flows?.isBehind() || waitingBytes + bytesOf(flow) > bytesMax)) {
      const head = withHeads(flow, headBytes);
      if (bytesOf(head) < bytesOf(flow)) cutCount++;
      flow = head;
    }
    if (flow !== null) waitingBytes += bytesOf(flow);
    waiting.push({ call, flow });
    running ??= run();
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

  async function write(batch: readonly Recorded[]): Promise<void> {
    for (const { flow } of batch) if (flow !== null) append(flow);
    const calls = batch.flatMap(({ call }) => (call === null ? [] : [call]));
    if (calls.length === 0) return;
    try {
      await onCalls(calls);
    } catch (error) {
      log.error({ err: error, calls: calls.length }, "calls not told of");
    }
  }

  /** The sink bounds what it holds itself. */
  function append(flow: FlowDraft): void {
    waitingBytes -= bytesOf(flow);
    if (flows === null) return;
    appendingCount++;
    flows.append(flow).then(appended, (error: unknown) => {
      if (lostCount++ === 0) log.error({ err: error, flow_id: flow.id }, "traffic not recorded");
      else log.debug({ err: error, flow_id: flow.id }, "traffic not recorded");
      appended();
    });
  }

  function appended(): void {
    if (--appendingCount > 0) return;
    appendedAll?.resolve();
    appendedAll = null;
  }

  async function drain(): Promise<void> {
    gathering.abort();
    while (running !== null) await running;
    appendedAll ??= Promise.withResolvers();
    if (appendingCount > 0) await appendedAll.promise;
    gathering = new AbortController();
  }
}

function bytesOf({ request, response }: FlowDraft): number {
  return (request?.body?.kept.length ?? 0) + (response?.body?.kept.length ?? 0);
}

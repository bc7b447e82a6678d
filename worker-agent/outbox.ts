/**
 * The events on their way to the orchestrator, in order, at least once.
 *
 * Invariant: an event leaves the outbox only when the orchestrator has acknowledged its cursor.
 * Memory is bounded: past `unsentMax` events the agent's own chatter (`agent.*`) is dropped and
 * counted, and a `trial.note` says how much is missing; what the engine decides by is kept.
 */
import type { EventType, WorkerEvent } from "../orchestrator/contract/events.ts";
import { type Clock, pause } from "./clock.ts";

const BATCH_EVENTS = 500;
const BATCH_BYTES = 1_000_000;
const GATHER_MS = 50;
const TEXT_MAX = 32_000;
const DATA_BYTES_MAX = 128_000;

export interface Outbox {
  emit(type: EventType, data: Record<string, unknown>): void;
  /** Resolves when everything emitted so far is acknowledged. @throws what `send` threw. */
  flush(): Promise<void>;
  /** How many `agent.*` events were dropped so far. */
  droppedCount(): number;
}

export interface OutboxOptions {
  readonly unsentMax?: number;
}

type Send = (events: readonly WorkerEvent[]) => Promise<number>;

/** `send` answers the highest durable cursor, and repeats by itself what may be repeated. */
export function createOutbox(
  clock: Clock,
  send: Send,
  { unsentMax = 10_000 }: OutboxOptions = {},
): Outbox {
  let unsent: { event: WorkerEvent; byteCount: number }[] = [];
  let lastCursor = 0;
  let dropped = 0;
  let droppedSaid = 0;
  let failure: unknown = null;
  let sending: Promise<void> | null = null;
  return { emit, flush, droppedCount: () => dropped };

  function emit(type: EventType, data: Record<string, unknown>): void {
    if (unsent.length >= unsentMax && type.startsWith("agent.")) {
      dropped += 1;
      return;
    }
    if (dropped > droppedSaid) {
      const message = `${dropped - droppedSaid} agent events were dropped: they came too fast`;
      droppedSaid = dropped;
      push("trial.note", { level: "warn", message });
    }
    push(type, data);
    start();
  }

  function push(type: EventType, data: Record<string, unknown>): void {
    lastCursor += 1;
    const at = new Date(clock.now()).toISOString();
    const event = { cursor: lastCursor, type, at, data: bounded(data) };
    unsent.push({ event, byteCount: Buffer.byteLength(JSON.stringify(event)) });
  }

  function start(): void {
    if (sending !== null || failure !== null) return;
    sending = sendAll()
      .catch((error: unknown) => {
        failure = error;
      })
      .finally(() => {
        sending = null;
        if (unsent.length > 0) start();
      });
  }

  async function sendAll(): Promise<void> {
    await pause(GATHER_MS);
    while (unsent.length > 0) {
      const acked = await send(nextBatch());
      const before = unsent.length;
      unsent = unsent.filter(({ event }) => event.cursor > acked);
      // Nothing taken: ask again, but not in a tight loop.
      if (unsent.length === before) await pause(GATHER_MS * 10);
    }
  }

  function nextBatch(): WorkerEvent[] {
    const batch: WorkerEvent[] = [];
    let byteCount = 0;
    for (const next of unsent) {
      byteCount += next.byteCount;
      if (batch.length === BATCH_EVENTS || (batch.length > 0 && byteCount > BATCH_BYTES)) break;
      batch.push(next.event);
    }
    return batch;
  }

  async function flush(): Promise<void> {
    if (dropped > droppedSaid) {
      const message = `${dropped - droppedSaid} agent events were dropped: they came too fast`;
      droppedSaid = dropped;
      push("trial.note", { level: "warn", message });
    }
    start();
    while (sending !== null) await sending;
    if (failure !== null) throw failure;
  }
}

/** The data with long texts cut, and replaced by a note when it is large all the same. */
function bounded(data: Record<string, unknown>): Record<string, unknown> {
  const cut = Object.fromEntries(
    Object.entries(data).map(([key, value]) => [
      key,
      typeof value === "string" && value.length > TEXT_MAX
        ? `${value.slice(0, TEXT_MAX)}… (${value.length - TEXT_MAX} characters more)`
        : value,
    ]),
  );
  const byteCount = Buffer.byteLength(JSON.stringify(cut));
  if (byteCount <= DATA_BYTES_MAX) return cut;
  const small = Object.entries(cut).filter(([, value]) => JSON.stringify(value).length < 1_000);
  return { ...Object.fromEntries(small), left_out_bytes: byteCount };
}

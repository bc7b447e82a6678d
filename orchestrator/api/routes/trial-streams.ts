/** The live streams: events of one trial or of all, and the terminal as it is recorded. */
import { open } from "node:fs/promises";
import type { FastifyReply, FastifyRequest } from "fastify";
import type { TrialEvent } from "../../contract/events.ts";
import type { TrialState } from "../../contract/trials.ts";
import { Problem } from "../../problem.ts";
import type { TrialId } from "../../runtime/ids.ts";
import type { Trials } from "../../trials/trials.ts";
import { type EventStream, endingStream, openEventStream, type StreamOptions } from "../sse.ts";
import { createWake } from "../wake.ts";

export interface StreamSettings extends StreamOptions {
  pollMs: number;
}

const BATCH_EVENTS = 200;
const CHUNK_BYTES = 65_536;
/** A recording comes from a worker: one without line ends must not fill the memory. */
const LINE_BYTES_MAX = 4_194_304;
const RECORDING = "terminal.cast";
const ENDED = new Set<TrialState>(["succeeded", "failed", "errored", "cancelled"]);

/**
 * Streams events after `afterSeq`: of trial `id` until it has ended, of all trials (null) until
 * the reader leaves. A reader that comes back to an ended trial with nothing new gets 204, which
 * tells an EventSource not to come again.
 */
export async function streamEvents(
  trials: Trials,
  { id, afterSeq }: { id: TrialId | null; afterSeq: number },
  { request, reply }: { request: FastifyRequest; reply: FastifyReply },
  settings: StreamSettings,
): Promise<void> {
  const isOver = id !== null && ENDED.has((await trials.get(id)).state);
  const first = await trials.events(id, afterSeq, BATCH_EVENTS);
  if (isOver && first.length === 0 && request.headers["last-event-id"] !== undefined) {
    await reply.code(204).send();
    return;
  }
  const stream = openEventStream(request, reply, settings);
  const wake = createWake();
  using _subscription = trials.onEvent((trialId) => {
    if (id === null || trialId === id) wake.ring();
  });
  await endingStream(stream, request, async () => {
    let after = await sendEvents(stream, first, afterSeq);
    while (!stream.signal.aborted) {
      // The state is read before the events: whatever led to an end is then among them.
      const hasEnded = id !== null && ENDED.has((await trials.get(id)).state);
      const batch = await trials.events(id, after, BATCH_EVENTS);
      after = await sendEvents(stream, batch, after);
      if (batch.length > 0) continue;
      if (hasEnded) return stream.send({ name: "end", data: "{}" });
      await wake.wait(settings.pollMs, stream.signal);
    }
  });
}

/**
 * Streams the newest recording line by line from byte `from`; each event's id is the byte after
 * its line. `restart`: a later allocation has begun another recording. Ends when the trial has
 * ended or is paused and all was sent.
 */
export async function streamTerminal(
  trials: Trials,
  { id, from }: { id: TrialId; from: number },
  { request, reply }: { request: FastifyRequest; reply: FastifyReply },
  settings: StreamSettings,
): Promise<void> {
  await trials.get(id);
  const stream = openEventStream(request, reply, settings);
  const wake = createWake();
  using _subscription = trials.onEvent((trialId) => {
    if (trialId === id) wake.ring();
  });
  await endingStream(stream, request, async () => {
    let recording: string | null = null;
    let at = from;
    while (!stream.signal.aborted) {
      const { state } = await trials.get(id);
      const newest = await recordingPath(trials, id);
      if (recording !== null && newest !== recording) {
        await stream.send({ name: "restart", data: "{}", id: "0" });
        at = 0;
      }
      recording = newest;
      const sentTo: number = newest === null ? at : await sendLines(stream, newest, at);
      if (sentTo === at) {
        if (ENDED.has(state) || state === "paused") return stream.send({ name: "end", data: "{}" });
        await wake.wait(settings.pollMs, stream.signal);
      }
      at = sentTo;
    }
  });
}

async function sendEvents(
  stream: EventStream,
  events: readonly TrialEvent[],
  after: number,
): Promise<number> {
  for (const event of events) {
    await stream.send({ id: String(event.seq), data: JSON.stringify(event) });
  }
  return events.at(-1)?.seq ?? after;
}

async function recordingPath(trials: Trials, id: TrialId): Promise<string | null> {
  try {
    return await trials.artefactPath(id, RECORDING);
  } catch (error) {
    if (error instanceof Problem && error.code === "not_found") return null;
    throw error;
  }
}

/** Sends the whole lines that the file holds after byte `from`; the byte after the last of them. */
async function sendLines(stream: EventStream, path: string, from: number): Promise<number> {
  await using file = await open(path, "r");
  let lineStart = from;
  let pending = Buffer.alloc(0);
  while (!stream.signal.aborted && pending.length <= LINE_BYTES_MAX) {
    const position = lineStart + pending.length;
    const { bytesRead, buffer } = await file.read(
      Buffer.alloc(CHUNK_BYTES),
      0,
      CHUNK_BYTES,
      position,
    );
    if (bytesRead === 0) break;
    pending = Buffer.concat([pending, buffer.subarray(0, bytesRead)]);
    for (let end = pending.indexOf(0x0a); end !== -1; end = pending.indexOf(0x0a)) {
      lineStart += end + 1;
      await stream.send({ id: String(lineStart), data: pending.toString("utf8", 0, end) });
      pending = pending.subarray(end + 1);
    }
  }
  return lineStart;
}

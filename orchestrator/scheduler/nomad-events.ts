/**
 * Tells when allocations end, from Nomad's event stream. The stream keeps 100 events in one
 * server's memory and starts at the nearest when the one that was asked for is gone, without a
 * word: so after every (re)connection the live allocations are listed and compared with those known
 * before. A refused stream may look like one that ends at once: the token is checked first.
 */
import type { Readable } from "node:stream";
import { Compile } from "typebox/compile";
import { Problem } from "../problem.ts";
import { pause } from "../runtime/clock.ts";
import type { AllocationId } from "../runtime/ids.ts";
import type { Log } from "../runtime/log.ts";
import type { NomadClient } from "./nomad-client.ts";
import { isEnded } from "./nomad-status.ts";
import { EventFrame } from "./nomad-wire.ts";

export interface NomadEventsOptions {
  /** Null for a job that is none of ours. */
  allocationOf(jobId: string): AllocationId | null;
  /** The first wait before another connection; doubled up to `retryMaxMs`. */
  retryMs: number;
  retryMaxMs: number;
  /** A stream that is fine is compared with a list this often all the same. */
  compareMs: number;
}

export interface NomadEvents extends AsyncDisposable {
  onEnd(listener: (allocationId: AllocationId) => void): Disposable;
  /** What an operator is told: null while the stream is open. */
  trouble(): string | null;
}

/** Allocations by namespace only: our jobs' by their names is ours to look at. */
const LIVE = 'ClientStatus == "running" or ClientStatus == "pending" or ClientStatus == "unknown"';
/** Ended ones that were told of, so that an event and a list tell of each once. */
const TOLD_KEPT = 1000;
const LINE_CHARS_MAX = 16 * 1024 * 1024;

const eventFrame = Compile(EventFrame);

/** `compared`: called after each list, for what else is set right then. */
export function openNomadEvents(
  client: Pick<NomadClient, "tokenSelf" | "eventStream" | "allocations">,
  log: Log,
  { allocationOf, retryMs, retryMaxMs, compareMs }: NomadEventsOptions,
  compared: () => Promise<void>,
): NomadEvents {
  const closing = new AbortController();
  const { signal } = closing;
  const listeners = new Set<(allocationId: AllocationId) => void>();
  const told = new Set<string>();
  /** Nomad's allocations that had not ended when we last knew, with ours. */
  let live = new Map<string, AllocationId>();
  let lastIndex = 0;
  let trouble: string | null = "not connected yet";
  const running = run();
  return {
    onEnd(listener) {
      listeners.add(listener);
      return { [Symbol.dispose]: () => void listeners.delete(listener) };
    },
    trouble: () => trouble,
    async [Symbol.asyncDispose]() {
      closing.abort();
      await running;
    },
  };

  async function run(): Promise<void> {
    for (let waitMs = retryMs; !signal.aborted; ) {
      try {
        await client.tokenSelf();
        await follow(await client.eventStream(lastIndex, signal), () => {
          if (trouble !== null) log.info({ index: lastIndex }, "nomad's event stream is open");
          trouble = null;
          waitMs = retryMs;
        });
        note("the event stream ended");
      } catch (error) {
        note(error instanceof Problem ? error.message : String(error));
      }
      await pause(waitMs, signal);
      waitMs = Math.min(retryMaxMs, waitMs * 2);
    }
  }

  function note(what: string): void {
    if (signal.aborted) return;
    if (trouble === null) log.warn({ detail: what }, "nomad's event stream is gone");
    trouble = what;
  }

  /** Reads until the stream ends or falls silent. */
  async function follow(stream: Readable, opened: () => void): Promise<void> {
    const comparing = new AbortController();
    const compares = compareAll(AbortSignal.any([signal, comparing.signal]), opened).catch(
      (error: Error) => void stream.destroy(error),
    );
    try {
      for await (const line of linesOf(stream)) take(line);
    } finally {
      comparing.abort();
      stream.destroy();
      await compares;
    }
  }

  async function compareAll(until: AbortSignal, opened: () => void): Promise<void> {
    while (!until.aborted) {
      await compare();
      opened();
      await pause(compareMs, until);
    }
  }

  /** What was live and is not listed any more has ended while nobody told us. */
  async function compare(): Promise<void> {
    const before = live;
    const listed = await client.allocations(LIVE);
    const now = new Map<string, AllocationId>();
    for (const { ID, JobID } of listed) {
      const allocationId = allocationOf(JobID);
      if (allocationId !== null) now.set(ID, allocationId);
    }
    // Events that came while it was listed are newer than the list.
    for (const id of now.keys()) if (told.has(id)) now.delete(id);
    live = now;
    for (const [id, allocationId] of before) if (!now.has(id)) tell(id, allocationId);
    await compared();
  }

  function take(line: string): void {
    if (line.trim() === "") return;
    const frame: unknown = JSON.parse(line);
    if (!eventFrame.Check(frame)) {
      log.warn("nomad sent an event of another form; the next list tells the same");
      return;
    }
    lastIndex = frame.Index ?? lastIndex;
    for (const { Payload } of frame.Events ?? []) {
      const allocation = Payload?.Allocation;
      const allocationId = allocation ? allocationOf(allocation.JobID) : null;
      if (!allocation || allocationId === null) continue;
      if (isEnded(allocation)) tell(allocation.ID, allocationId);
      else if (!told.has(allocation.ID)) live.set(allocation.ID, allocationId);
    }
  }

  function tell(id: string, allocationId: AllocationId): void {
    live.delete(id);
    if (told.has(id)) return;
    told.add(id);
    for (const oldest of told) {
      if (told.size <= TOLD_KEPT) break;
      told.delete(oldest);
    }
    for (const listener of [...listeners]) listener(allocationId);
  }
}

async function* linesOf(chunks: AsyncIterable<Uint8Array>): AsyncGenerator<string> {
  const decoder = new TextDecoder();
  let rest = "";
  for await (const chunk of chunks) {
    const lines = (rest + decoder.decode(chunk, { stream: true })).split("\n");
    rest = lines.pop() ?? "";
    if (rest.length > LINE_CHARS_MAX) throw new Error("nomad's event stream has no lines");
    yield* lines;
  }
}

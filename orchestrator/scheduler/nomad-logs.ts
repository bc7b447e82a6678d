/**
 * What a task printed, as Nomad's agent streams it: a row of JSON objects without separators, both
 * of its outputs merged as they come. A followed log of Nomad has no end of its own; the task has.
 */
import type { Readable } from "node:stream";
import { Compile } from "typebox/compile";
import type { WorkerOutput } from "../contract/workers.ts";
import { Problem } from "../problem.ts";
import { pause } from "../runtime/clock.ts";
import type { NomadClient } from "./nomad-client.ts";
import { LogFrame } from "./nomad-wire.ts";
import type { LogOptions } from "./scheduler.ts";

const TYPES = ["stdout", "stderr"] as const;
/** Between two looks at whether a task that prints nothing has started, or ended. */
const LOOK_MS = 500;

const logFrame = Compile(LogFrame);

export interface LogSource {
  allocationId: string;
  task: string;
  /** Whether more may be printed. */
  isRunning(): Promise<boolean>;
}

/** Null when nothing is kept of it: never started, or its folder is gone. */
export async function readLogs(
  client: Pick<NomadClient, "logStream">,
  source: LogSource,
  { isFollowed, signal, output = null }: LogOptions,
): Promise<AsyncIterable<Uint8Array> | null> {
  const types = output === null ? TYPES : [output];
  const readers = types.map((type) => readOne(client, source, { type, isFollowed, signal }));
  if (isFollowed && (await source.isRunning())) return merge(readers, [], signal);
  const firsts = await Promise.all(readers.map((reader) => reader.next()));
  if (firsts.every(({ done, value }) => done === true && value === "absent")) return null;
  return merge(readers, firsts, signal);
}

type Reader = AsyncGenerator<Uint8Array, "absent" | "ended">;

/** One output to its end: followed while the task runs, then what is left of it. */
async function* readOne(
  client: Pick<NomadClient, "logStream">,
  { allocationId, task, isRunning }: LogSource,
  { type, isFollowed, signal }: { type: WorkerOutput; isFollowed: boolean; signal: AbortSignal },
): Reader {
  let offset = 0;
  let wasThere = false;
  for (;;) {
    const isLast = signal.aborted || !isFollowed || !(await isRunning());
    // A row that is followed is left when its task ends, at the next look.
    const over = new AbortController();
    const watching = isLast ? null : watch(isRunning, over, signal);
    try {
      const asked = { task, type, offset, isFollowed: !isLast };
      const reading = AbortSignal.any([signal, over.signal]);
      for await (const bytes of frames(await client.logStream(allocationId, asked, reading))) {
        wasThere = true;
        offset += bytes.length;
        yield bytes;
      }
      wasThere = true;
    } catch (error) {
      if (signal.aborted) return "ended";
      const isAbsent = error instanceof Problem && error.code === "not_found";
      // Cut, or not started yet: asked again from where it was, while the task may run.
      if (isAbsent && isLast) return wasThere ? "ended" : "absent";
      if (isLast && !over.signal.aborted) throw error;
      await pause(LOOK_MS, signal);
    } finally {
      over.abort();
      await watching;
    }
    if (isLast) return "ended";
  }
}

async function watch(
  isRunning: () => Promise<boolean>,
  over: AbortController,
  signal: AbortSignal,
): Promise<void> {
  while (!over.signal.aborted && !signal.aborted) {
    await pause(LOOK_MS, AbortSignal.any([over.signal, signal]));
    // A Nomad that does not answer now says nothing of the task.
    if (!(await isRunning().catch(() => true))) over.abort();
  }
}

async function* frames(body: Readable): AsyncGenerator<Uint8Array> {
  try {
    for await (const text of jsonObjects(body)) {
      const frame: unknown = JSON.parse(text);
      if (!logFrame.Check(frame)) throw new Error("a log frame of another form");
      if (frame.Data) yield Buffer.from(frame.Data, "base64");
    }
  } finally {
    body.destroy();
  }
}

/** The texts of the objects in a stream of them, whatever is between them. */
export async function* jsonObjects(chunks: AsyncIterable<Uint8Array>): AsyncGenerator<string> {
  let parts: Uint8Array[] = [];
  let depth = 0;
  let isQuoted = false;
  let isEscaped = false;
  for await (const chunk of chunks) {
    let start = 0;
    for (let at = 0; at < chunk.length; at++) {
      const byte = chunk[at];
      if (isEscaped) isEscaped = false;
      else if (isQuoted && byte === BACKSLASH) isEscaped = true;
      else if (byte === QUOTE) isQuoted = !isQuoted;
      else if (!isQuoted && byte === OPEN) {
        if (depth === 0) start = at;
        depth += 1;
      } else if (!isQuoted && byte === CLOSE) {
        depth -= 1;
        if (depth > 0) continue;
        parts.push(chunk.subarray(start, at + 1));
        yield Buffer.concat(parts).toString("utf8");
        parts = [];
      }
    }
    if (depth > 0) parts.push(chunk.subarray(start));
  }
}

const [OPEN, CLOSE, QUOTE, BACKSLASH] = [0x7b, 0x7d, 0x22, 0x5c];

async function* merge(
  readers: readonly Reader[],
  firsts: readonly IteratorResult<Uint8Array, unknown>[],
  signal: AbortSignal,
): AsyncGenerator<Uint8Array> {
  const next = (at: number, result: Promise<IteratorResult<Uint8Array, unknown>>) =>
    result.then((answer) => ({ at, answer }));
  const waiting = new Map(
    readers.map((reader, at) => {
      const first = firsts[at];
      return [at, next(at, first === undefined ? reader.next() : Promise.resolve(first))];
    }),
  );
  try {
    while (waiting.size > 0 && !signal.aborted) {
      const { at, answer } = await Promise.race(waiting.values());
      const reader = readers[at];
      if (answer.done === true || reader === undefined) {
        waiting.delete(at);
        continue;
      }
      yield answer.value;
      waiting.set(at, next(at, reader.next()));
    }
  } finally {
    for (const each of waiting.values()) each.catch(() => {});
    for (const reader of readers) void reader.return("ended").catch(() => {});
  }
}

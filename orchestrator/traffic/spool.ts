/**
 * The spool of one process: what it recorded and the store does not have yet, on its own disk.
 *
 * Invariants: a record that was acknowledged is durable; numbers are given without gaps, and one
 * number to one durable record. Group commit: one flush in flight, what comes meanwhile goes into
 * the next one together, and a record that is alone waits for nobody.
 *
 * A failed flush says nothing of what is on the disk, so that nothing of it is kept: the segment is
 * cut where it was last known to be durable and ended, its records are refused, and their numbers
 * go to those after them, in a new one.
 */
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { Problem } from "../problem.ts";
import { monotonicMs } from "../runtime/clock.ts";
import type { Log } from "../runtime/log.ts";
import type { SourceFacts } from "./sources.ts";
import { localDisk, type SpoolDisk, type SpoolFile } from "./spool-disk.ts";
import {
  bytesBelow,
  bytesIn,
  linePrefix,
  openFolder,
  sealedPath,
  segmentPath,
  segmentsIn,
  settleFolder,
  writeSource,
} from "./spool-folder.ts";

export interface SpoolOptions {
  /** `layout.spool`: the spool makes a folder of its own in it, named after the source. */
  dir: string;
  /** Its `id` names the folder: `ids.next("process")` for each sink. */
  source: SourceFacts;
  /** Of all that lies in `dir`, whoever wrote it. */
  bytesMax: number;
  /** The least time between two flushes to the disk; 0: as fast as it can. */
  fsyncEveryMs?: number;
  log: Log;
  disk?: SpoolDisk;
  /** A segment is ended at this size, or this long after its first record while others drain. */
  segmentBytes?: number;
  sealAfterMs?: number;
  /** How often a spool that can take nothing looks whether it can again. */
  healEveryMs?: number;
}

export interface Spool extends AsyncDisposable {
  readonly source: SourceFacts;
  /**
   * Numbers a record (the JSON of an object without `source_id` and `sequence`) and writes it;
   * resolves with its number once it is durable.
   *
   * @throws Problem `unavailable`, when it was not written: the spool is full, or its disk.
   */
  append(record: string): Promise<number>;
  /** The last number given; 0 before the first. */
  lastSequence(): number;
  /** Bytes of this source that wait for the store. */
  spooledBytes(): Promise<number>;
  /** Why nothing can be written; null when it can. It heals by itself. */
  fault(): string | null;
}

interface Waiting {
  record: string;
  byteCount: number;
  resolve: (sequence: number) => void;
  reject: (error: Problem) => void;
}

interface OpenSegment {
  path: string;
  file: SpoolFile;
  /** Durable bytes, and the records in them. */
  length: number;
  count: number;
  /** Of its first record. */
  writtenAtMs: number;
}

const BATCH_BYTES_MAX = 4 * 2 ** 20;
const BATCH_RECORDS_MAX = 4_096;
const SEGMENT_BYTES = 8 * 2 ** 20;
const SEAL_AFTER_MS = 250;
/** While nobody drains, small segments would become many. */
const SEAL_AFTER_MS_MAX = 8_000;
const HEAL_EVERY_MS = 1_000;
const MEASURE_EVERY_MS = 2_000;
/** A full spool takes records again once this much of it is free. */
const FREE_SHARE = 1 / 20;
const PROBE_BYTES = 64 * 2 ** 10;
/** Of a line, beside its record: the source and the number. */
const PREFIX_BYTES = 80;
const NEWLINE = 0x0a;

/** @throws Problem `unavailable` when the folder cannot be made, `conflict` when it is in use. */
export async function openSpool(options: SpoolOptions): Promise<Spool> {
  const folder = join(options.dir, options.source.id);
  const { disk = localDisk } = options;
  let lock: Disposable | null = null;
  let last: number;
  try {
    lock = await openFolder(folder);
    if (lock === null) throw new Problem("conflict", `Another process writes to ${folder}`);
    // The folder's own name is durable, before anything in it is said to be.
    await disk.syncFolder(options.dir);
    await writeSource(folder, options.source);
    last = await settleFolder(folder, options.source.id);
  } catch (cause) {
    lock?.[Symbol.dispose]();
    if (cause instanceof Problem) throw cause;
    const why = `The spool of traffic cannot be written: ${(cause as Error).message}`;
    throw new Problem("unavailable", `${why}; make room, or the folder writable`, { cause });
  }
  return createSpool(options, folder, lock, last, await bytesBelow(options.dir));
}

function createSpool(
  options: SpoolOptions,
  folder: string,
  lock: Disposable,
  lastDurable: number,
  bytesThere: number,
): Spool {
  const { dir, source, bytesMax, fsyncEveryMs = 0, log, disk = localDisk } = options;
  const { segmentBytes = SEGMENT_BYTES, healEveryMs = HEAL_EVERY_MS } = options;
  const sealAfterMs = options.sealAfterMs ?? SEAL_AFTER_MS;
  let last = lastDurable;
  let totalBytes = bytesThere;
  let measuredAtMs = monotonicMs();
  let waiting: Waiting[] = [];
  let waitingBytes = 0;
  let segment: OpenSegment | null = null;
  /** Those that could not be cut when their flush failed. */
  let broken: OpenSegment[] = [];
  let attempts = 0;
  let running: Promise<void> | null = null;
  let flushedAtMs = Number.NEGATIVE_INFINITY;
  let sealMs = sealAfterMs;
  let lastSealed: string | null = null;
  let sealTimer: NodeJS.Timeout | undefined;
  let healTimer: NodeJS.Timeout | undefined;
  let trouble: { kind: "full" | "disk"; text: string } | null = null;
  let isClosing = false;
  return {
    source,
    append,
    lastSequence: () => last,
    spooledBytes: () => bytesIn(folder),
    fault: () => trouble?.text ?? null,
    [Symbol.asyncDispose]: dispose,
  };

  function append(record: string): Promise<number> {
    if (isClosing) return Promise.reject(refusal("the spool is closed"));
    const byteCount = Buffer.byteLength(record) + PREFIX_BYTES;
    if (trouble === null && totalBytes + waitingBytes + byteCount > bytesMax) {
      enterTrouble(
        "full",
        `${totalBytes + waitingBytes} bytes of records wait for the store, which is all it may hold`,
      );
    }
    if (trouble !== null) return Promise.reject(refusal(trouble.text));
    waitingBytes += byteCount;
    return new Promise((resolve, reject) => {
      waiting.push({ record, byteCount, resolve, reject });
      kick();
    });
  }

  function kick(): void {
    running ??= run().finally(() => {
      running = null;
      armSeal();
      // What came between the last look and here.
      if (waiting.length > 0) kick();
    });
  }

  async function run(): Promise<void> {
    for (;;) {
      if (isSealDue()) await seal();
      else if (waiting.length > 0) await flush();
      else return;
    }
  }

  async function flush(): Promise<void> {
    const restMs = flushedAtMs + fsyncEveryMs - monotonicMs();
    if (restMs > 0) await sleep(restMs);
    flushedAtMs = monotonicMs();
    const batch = take();
    const bytes = linesOf(batch);
    try {
      segment ??= await begin();
      await segment.file.write(bytes, segment.length);
      await segment.file.sync();
      if (segment.count === 0) segment.writtenAtMs = monotonicMs();
      segment.length += bytes.length;
      segment.count += batch.length;
      totalBytes += bytes.length;
    } catch (error) {
      await giveUp(error);
      for (const { reject } of batch) reject(refusal(trouble?.text ?? "its disk failed", error));
      return;
    }
    for (const [at, { resolve }] of batch.entries()) resolve(last + 1 + at);
    last += batch.length;
  }

  function linesOf(batch: readonly Waiting[]): Buffer {
    const bytes = Buffer.allocUnsafe(batch.reduce((sum, { byteCount }) => sum + byteCount, 0));
    let length = 0;
    for (const [at, { record }] of batch.entries()) {
      const prefix = linePrefix(source.id, last + 1 + at);
      // The prefix ends where the record's first brace stands.
      const end = length + prefix.length - 1 + bytes.write(record, length + prefix.length - 1);
      bytes.write(prefix, length, "latin1");
      bytes[end] = NEWLINE;
      length = end + 1;
    }
    return bytes.subarray(0, length);
  }

  function take(): Waiting[] {
    let count = 0;
    let byteCount = 0;
    while (count < waiting.length && count < BATCH_RECORDS_MAX && byteCount < BATCH_BYTES_MAX) {
      byteCount += waiting[count]?.byteCount ?? 0;
      count++;
    }
    const batch = waiting.slice(0, count);
    waiting = waiting.slice(count);
    waitingBytes -= byteCount;
    return batch;
  }

  async function begin(): Promise<OpenSegment> {
    const path = segmentPath(folder, last + 1, attempts++);
    const file = await disk.create(path);
    const begun = { path, file, length: 0, count: 0, writtenAtMs: 0 };
    try {
      await disk.syncFolder(folder);
    } catch (error) {
      broken.push(begun);
      throw error;
    }
    return begun;
  }

  /** The disk refused: what waits is refused with it, since it would fare no better. */
  async function giveUp(error: unknown): Promise<void> {
    if (segment !== null) broken.push(segment);
    segment = null;
    const { code = "EIO", message } = error as { code?: string; message: string };
    enterTrouble("disk", `its disk failed (${code}): ${message}`);
    log.error({ err: error, code, source_id: source.id }, "spool not written");
    const refused = waiting;
    waiting = [];
    waitingBytes = 0;
    for (const { reject } of refused) reject(refusal(trouble?.text ?? message, error));
    await mend().catch(() => undefined);
  }

  /** Ends the segments of failed flushes where they were durable. */
  async function mend(): Promise<void> {
    while (broken[0] !== undefined) {
      const [{ path, file, length }] = broken as [OpenSegment];
      await file.truncate(length);
      await file.sync();
      broken = broken.slice(1);
      await file.close();
      if (length === 0) await disk.remove(path);
      else await disk.rename(path, sealedPath(path));
    }
  }

  function isSealDue(): boolean {
    if (segment === null || segment.count === 0) return false;
    const ageMs = monotonicMs() - segment.writtenAtMs;
    return isClosing ? waiting.length === 0 : segment.length >= segmentBytes || ageMs >= sealMs;
  }

  /** The next one is begun at once: its name says how far we had counted. */
  async function seal(): Promise<void> {
    const sealed = segment as OpenSegment;
    segment = null;
    try {
      await sealed.file.close();
      await disk.rename(sealed.path, sealedPath(sealed.path));
      if (isClosing) return;
      const isDrained = lastSealed === null || !(await isThere(lastSealed));
      lastSealed = sealedPath(sealed.path);
      sealMs = isDrained ? sealAfterMs : Math.min(2 * sealMs, SEAL_AFTER_MS_MAX);
      segment = await begin();
    } catch (error) {
      // Its records are durable under either name; whoever settles the folder seals it.
      log.warn({ err: error, source_id: source.id }, "segment of the spool not ended");
    }
    const isDue = monotonicMs() - measuredAtMs > MEASURE_EVERY_MS;
    if (totalBytes > bytesMax / 2 && isDue) await measure();
  }

  async function isThere(path: string): Promise<boolean> {
    return (await segmentsIn(folder)).some((found) => found.path === path);
  }

  function armSeal(): void {
    clearTimeout(sealTimer);
    if (segment === null || segment.count === 0 || isClosing) return;
    const dueMs = segment.writtenAtMs + sealMs - monotonicMs();
    sealTimer = setTimeout(kick, Math.max(1, dueMs)).unref();
  }

  async function measure(): Promise<void> {
    measuredAtMs = monotonicMs();
    totalBytes = await bytesBelow(dir);
  }

  function enterTrouble(kind: "full" | "disk", text: string): void {
    if (trouble === null) log.error({ source_id: source.id, kind }, "spool takes no records");
    trouble = { kind, text };
    healTimer ??= setInterval(() => void heal(), healEveryMs).unref();
  }

  async function heal(): Promise<void> {
    if (isClosing || running !== null) return;
    // As one that runs, so that no record is written meanwhile.
    running = tryToHeal().finally(() => {
      running = null;
      if (waiting.length > 0) kick();
    });
    await running;
  }

  async function tryToHeal(): Promise<void> {
    try {
      await measure();
      if (trouble?.kind === "disk") {
        await mend();
        await probe();
      }
      if (totalBytes > bytesMax * (1 - FREE_SHARE)) {
        if (trouble?.kind === "disk") enterTrouble("full", `${totalBytes} bytes of records wait`);
        return;
      }
      trouble = null;
      clearInterval(healTimer);
      healTimer = undefined;
      log.info({ source_id: source.id }, "spool takes records again");
    } catch (error) {
      log.debug({ err: error, source_id: source.id }, "spool still takes no records");
    }
  }

  /** Whether the disk takes some more than a record, and keeps it. */
  async function probe(): Promise<void> {
    const path = join(folder, `probe.${attempts++}`);
    const file = await disk.create(path);
    try {
      await file.write(Buffer.alloc(PROBE_BYTES), 0);
      await file.sync();
    } finally {
      await file.close();
      await disk.remove(path);
    }
  }

  async function dispose(): Promise<void> {
    if (isClosing) return;
    isClosing = true;
    clearTimeout(sealTimer);
    clearInterval(healTimer);
    // A run that was about to end when we came did not see that it is to seal.
    do {
      kick();
      await running;
    } while (running !== null || waiting.length > 0 || isSealDue());
    await mend().catch(() => undefined);
    for (const { file } of broken) await file.close().catch(() => undefined);
    if (segment !== null) {
      const { file, path, count } = segment;
      await file.close().catch(() => undefined);
      // Of one with records, whoever settles the folder makes the best.
      if (count === 0) await disk.remove(path).catch(() => undefined);
    }
    lock[Symbol.dispose]();
  }

  function refusal(why: string, cause?: unknown): Problem {
    const detail = `The record of traffic was not written: ${why}; it is taken again once there is room`;
    return new Problem("unavailable", detail, cause === undefined ? {} : { cause });
  }
}

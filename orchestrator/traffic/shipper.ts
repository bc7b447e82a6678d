/**
 * Carries the spool's records to the store: every sealed segment, in order, in batches; once all of
 * a segment is in the store its ranges are marked and it leaves the spool. What a crash leaves half
 * done is done again, which the store's idempotence makes once.
 *
 * A folder whose writer lives is drained of what is sealed; one whose writer is dead is sealed by
 * us, drained and removed, and its source closed. Two processes on one folder: one drains it at a
 * time, and if both did, nothing would be there twice.
 */
import { isUtf8 } from "node:buffer";
import { access, open, readFile, rm } from "node:fs/promises";
import { hostname } from "node:os";
import { basename } from "node:path";
import type { FlowRecord } from "../contract/flows.ts";
import type { BackgroundTask } from "../runtime/background.ts";
import type { Clock } from "../runtime/clock.ts";
import { type FlowId, isId } from "../runtime/ids.ts";
import type { Log } from "../runtime/log.ts";
import type { Random } from "../runtime/random.ts";
import { appendRejected } from "./dead-letters.ts";
import { type FlowLine, readLine } from "./flow-line.ts";
import { createKeptSegments } from "./kept-segments.ts";
import type { SequenceRange, SourceFacts, TrafficSources } from "./sources.ts";
import {
  lockDrainer,
  lockWriter,
  readSource,
  type Segment,
  segmentsIn,
  settleFolder,
  sourceFolders,
} from "./spool-folder.ts";
import type { Rejected, Traffic } from "./traffic.ts";

export interface ShipperDeps {
  /** `layout.spool`. */
  spoolDir: string;
  store: Pick<Traffic, "append" | "appendLines">;
  sources: TrafficSources;
  log: Log;
  clock: Clock;
  random: Pick<Random, "below">;
}

export interface ShipperOptions {
  recordsMax: number;
  bytesMax: number;
  /** Of segments that are in the store, what stays beside the spool for another's shipper. */
  keptBytesMax: number;
}

export interface Shipped {
  stored: number;
  rejected: number;
}

export interface Shipper {
  /** Not a duty: every process drains its own spool, and those of the dead beside it. */
  readonly task: BackgroundTask;
  /** Carries what is there now; at the end of a process, after its sinks were closed. */
  drain(): Promise<Shipped>;
  /** Why some records are not in the store yet; null when all are, or none has been there yet. */
  fault(): string | null;
}

const PERIOD_MS = 250;
const NEWLINE = 0x0a;
const BACKOFF_MS = 500;
const BACKOFF_MS_MAX = 30_000;
/** How often a folder is asked whether its writer is dead. */
const LIFE_EVERY_MS = 5_000;
const DEFAULTS: ShipperOptions = { recordsMax: 1_000, bytesMax: 4 * 2 ** 20, keptBytesMax: 0 };

interface Carried {
  /** Of a line, its meta. */
  readonly flow: FlowRecord;
  readonly bytes: Buffer;
  /** Null: the store takes none, or it is not as our sinks write them. */
  readonly line: FlowLine | null;
}

export function createShipper(
  { spoolDir, store, sources, log, clock, random }: ShipperDeps,
  given: Partial<ShipperOptions> = {},
): Shipper {
  const { recordsMax, bytesMax, keptBytesMax } = { ...DEFAULTS, ...given };
  const kept = createKeptSegments(spoolDir, keptBytesMax, log);
  const lookedAtMs = new Map<string, number>();
  let failures = 0;
  let notBeforeMs = 0;
  let trouble: string | null = null;
  let running: Promise<Shipped> | null = null;
  const task = { name: "ship_flows", periodMs: PERIOD_MS, activate };
  return { task, drain, fault: () => trouble };

  async function activate(): Promise<Shipped> {
    const nowMs = clock.now();
    // A clock that was set back must not make us wait for it.
    const isEarly = nowMs < notBeforeMs && notBeforeMs - nowMs <= BACKOFF_MS_MAX;
    return isEarly ? { stored: 0, rejected: 0 } : once(false);
  }

  function drain(): Promise<Shipped> {
    return (running ?? Promise.resolve()).then(
      () => once(true),
      () => once(true),
    );
  }

  function once(isThorough: boolean): Promise<Shipped> {
    running ??= pass(isThorough).finally(() => {
      running = null;
    });
    return running;
  }

  async function pass(isThorough: boolean): Promise<Shipped> {
    const shipped: Shipped = { stored: 0, rejected: 0 };
    const errors: unknown[] = [];
    const folders = await sourceFolders(spoolDir).catch((error: unknown) => {
      errors.push(error);
      return [];
    });
    for (const folder of folders) {
      // One source's trouble is not the others'.
      await shipFolder(folder, isThorough, shipped).catch((error: unknown) => errors.push(error));
    }
    const [first] = errors;
    if (errors.length === 0) {
      // What was away is back once it took something, or there was nothing to take.
      failures = 0;
      notBeforeMs = 0;
      trouble = null;
    } else {
      backOff(first, shipped.stored > 0);
      if (isThorough) throw first;
    }
    return shipped;
  }

  /** Where the store took something, the others' records must not wait for the one's for long. */
  function backOff(error: unknown, isStoreThere: boolean): void {
    const words = `records of traffic are not stored: ${(error as Error).message}`;
    const level = words === trouble ? "debug" : "warn";
    trouble = words;
    if (isStoreThere) failures = 0;
    const delayMs = Math.min(BACKOFF_MS_MAX, BACKOFF_MS * 2 ** Math.min(failures, 10));
    notBeforeMs = clock.now() + delayMs / 2 + random.below(Math.ceil(delayMs / 2));
    failures++;
    log[level]({ err: error, failures }, "traffic not stored yet");
  }

  async function shipFolder(folder: string, isThorough: boolean, shipped: Shipped): Promise<void> {
    const hasSealed = (await segmentsIn(folder)).some(({ isSealed }) => isSealed);
    const nowMs = clock.now();
    const lookedMs = lookedAtMs.get(folder);
    const isDue =
      isThorough || lookedMs === undefined || Math.abs(nowMs - lookedMs) >= LIFE_EVERY_MS;
    if (!hasSealed && !isDue) return;
    using ours = await tryLock(folder, lockDrainer);
    if (ours === null) return;
    const source = await sourceOf(folder);
    await shipSealed(folder, source, shipped);
    if (!isDue) return;
    lookedAtMs.set(folder, nowMs);
    using dead = await tryLock(folder, lockWriter);
    if (dead === null) return;
    await settleFolder(folder, source.id);
    const last = await shipSealed(folder, source, shipped);
    await sources.close(source, last);
    await rm(folder, { recursive: true, force: true });
    lookedAtMs.delete(folder);
    log.info({ source_id: source.id, last_sequence: last }, "spool of an ended process drained");
  }

  /** The last number that was carried; 0 when there was nothing. */
  async function shipSealed(
    folder: string,
    source: SourceFacts,
    shipped: Shipped,
  ): Promise<number> {
    let last = 0;
    for (const segment of await segmentsIn(folder)) {
      if (!segment.isSealed) continue;
      last = Math.max(last, await shipSegment(segment, source, shipped));
    }
    return last;
  }

  async function shipSegment(
    segment: Segment,
    source: SourceFacts,
    shipped: Shipped,
  ): Promise<number> {
    const content = await readFile(segment.path);
    const takesLines = store.appendLines !== undefined && isUtf8(content);
    const stored: number[] = [];
    const rejected: number[] = [];
    let batch: Carried[] = [];
    let batchBytes = 0;
    let sequence = segment.first - 1;
    for (const bytes of linesIn(content)) {
      sequence++;
      const line = takesLines ? readLine(bytes) : null;
      const { flow, reason } = line === null ? parse(bytes.toString()) : checked(line.meta);
      if (flow === null) {
        await appendRejected(spoolDir, source.id, [{ line: bytes.toString(), reason }]);
        rejected.push(sequence);
        continue;
      }
      batch.push({ flow, bytes, line });
      batchBytes += bytes.length;
      if (batch.length >= recordsMax || batchBytes >= bytesMax) {
        await ship(batch);
        batch = [];
        batchBytes = 0;
      }
    }
    if (batch.length > 0) await ship(batch);
    await sources.markStored(source, rangesOf(stored));
    await sources.markRejected(source, rangesOf(rejected));
    await kept.take(segment.path);
    shipped.stored += stored.length;
    shipped.rejected += rejected.length;
    return sequence;

    async function ship(all: readonly Carried[]): Promise<void> {
      const refused = await append(all);
      const letters = [];
      for (const { flow, bytes } of all) {
        const reason = refused.get(flow.id as FlowId);
        (reason === undefined ? stored : rejected).push(flow.sequence);
        if (reason !== undefined) letters.push({ line: bytes.toString(), reason });
      }
      if (letters.length === 0) return;
      await appendRejected(spoolDir, source.id, letters);
      log.error(
        { source_id: source.id, count: letters.length, reason: letters[0]?.reason },
        "records refused by the store for good",
      );
    }
  }

  async function append(all: readonly Carried[]): Promise<Rejected> {
    const lines = all.flatMap(({ line }) => line ?? []);
    const wholes = all.filter(({ line }) => line === null).map(({ flow }) => flow);
    const refused = lines.length === 0 ? undefined : await store.appendLines?.(lines);
    if (wholes.length === 0) return refused ?? new Map();
    return new Map([...(refused ?? []), ...(await store.append(wholes))]);
  }

  /** As its writer wrote it down; of a folder without that, what its name says. */
  async function sourceOf(folder: string): Promise<SourceFacts> {
    const id = basename(folder);
    const known = await readSource(folder);
    if (known !== null && known.id === id) return known;
    const [segment] = await segmentsIn(folder);
    const { flow } = parse(segment === undefined ? "" : await firstLine(segment.path));
    return {
      id,
      door: flow?.door ?? "egress",
      engine: flow?.engine ?? "worker",
      host: hostname(),
      startedAtMs: flow === null ? clock.now() : Date.parse(flow.started_at),
    };
  }
}

function* linesIn(content: Buffer): Iterable<Buffer> {
  for (let at = 0; at < content.length; ) {
    const found = content.indexOf(NEWLINE, at);
    const end = found < 0 ? content.length : found;
    if (end > at) yield content.subarray(at, end);
    at = end + 1;
  }
}

type Checked = { flow: FlowRecord; reason: "" } | { flow: null; reason: string };

function parse(line: string): Checked {
  try {
    return checked(JSON.parse(line));
  } catch {
    return checked(null);
  }
}

/** A record, as far as those who carry and store it must be able to rely on; or why it is none. */
function checked(flow: Partial<FlowRecord> | null): Checked {
  const none = (what = "") => ({ flow: null, reason: `the line is no record${what}` });
  if (typeof flow !== "object" || flow === null) return none();
  const { id, sequence, started_at, server } = flow;
  if (typeof id !== "string" || !isId("flow", id)) return none(": id is no flow's");
  if (!Number.isSafeInteger(sequence) || Number(sequence) < 1) return none(": sequence is none");
  if (typeof started_at !== "string" || Number.isNaN(Date.parse(started_at))) {
    return none(": started_at is no time");
  }
  if (typeof server?.host !== "string") return none(": server has no host");
  return { flow: flow as FlowRecord, reason: "" };
}

/** Null also when the folder went away: another drained it. */
async function tryLock(
  folder: string,
  take: (folder: string) => Disposable | null,
): Promise<Disposable | null> {
  try {
    return take(folder);
  } catch (error) {
    const isGone = await access(folder).then(
      () => false,
      ({ code }: { code?: string }) => code === "ENOENT",
    );
    if (isGone) return null;
    throw error;
  }
}

async function firstLine(path: string): Promise<string> {
  await using file = await open(path, "r");
  for await (const line of file.readLines()) return line;
  return "";
}

/** Numbers as ranges of those that follow each other. */
export function rangesOf(sequences: readonly number[]): SequenceRange[] {
  const ranges: [number, number][] = [];
  for (const sequence of sequences.toSorted((a, b) => a - b)) {
    const range = ranges.at(-1);
    if (range !== undefined && sequence <= range[1] + 1) range[1] = sequence;
    else ranges.push([sequence, sequence]);
  }
  return ranges;
}

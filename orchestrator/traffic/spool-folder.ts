/**
 * The spool on disk: a folder for each source, named after it, with its segments, a lock that its
 * writer holds for as long as it lives, and one that whoever drains it holds.
 *
 * A segment is a file of lines, named after the number of its first record. Its writer appends to
 * one that ends in `.open`; once it is complete and durable it is renamed to end in `.ndjson` and
 * never written again, so that anybody may carry it away. Of a dead writer's last one, the lines
 * that are whole count.
 */
import { mkdir, open, readdir, readFile, rename, rm, stat, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { tryLock } from "../db/folder-lock.ts";
import { isId } from "../runtime/ids.ts";
import type { SourceFacts } from "./sources.ts";

export interface Segment {
  readonly path: string;
  /** The number of its first record. */
  readonly first: number;
  readonly isSealed: boolean;
}

const WRITER_LOCK = "writer.lock";
const DRAINER_LOCK = "drainer.lock";
const SOURCE_FILE = "source.json";
const NAME = /^(\d{16})\.(\d+)\.(open|ndjson)$/;
const NUMBER_DIGITS = 16;

/** `attempt` tells segments apart that were begun at one number: nothing of the earlier counts. */
export function segmentPath(folder: string, first: number, attempt: number): string {
  return join(folder, `${String(first).padStart(NUMBER_DIGITS, "0")}.${attempt}.open`);
}

export function sealedPath(openPath: string): string {
  return openPath.replace(/open$/, "ndjson");
}

/** What each line of a source begins with. */
export function linePrefix(sourceId: string, sequence: number): string {
  return `{"source_id":"${sourceId}","sequence":${sequence},`;
}

/** The folders of sources in `dir`, the oldest first; none when there is no `dir`. */
export async function sourceFolders(dir: string): Promise<string[]> {
  const names = await namesIn(dir);
  return names
    .filter((name) => isId("process", name))
    .sort()
    .map((name) => join(dir, name));
}

/** In the order of their numbers. */
export async function segmentsIn(folder: string): Promise<Segment[]> {
  const found = [];
  for (const name of await namesIn(folder)) {
    const [, first, attempt, state] = NAME.exec(name) ?? [];
    if (first === undefined) continue;
    const path = join(folder, name);
    const order = Number(attempt);
    found.push({ path, first: Number(first), order, isSealed: state === "ndjson" });
  }
  found.sort((a, b) => a.first - b.first || a.order - b.order);
  return found.map(({ path, first, isSealed }) => ({ path, first, isSealed }));
}

/** Bytes of the segments in a folder; of one that goes away meanwhile, none. */
export async function bytesIn(folder: string): Promise<number> {
  let byteCount = 0;
  for (const { path } of await segmentsIn(folder)) {
    byteCount += await stat(path).then(
      ({ size }) => size,
      () => 0,
    );
  }
  return byteCount;
}

/** Bytes that wait in all folders of `dir`. */
export async function bytesBelow(dir: string): Promise<number> {
  let byteCount = 0;
  for (const folder of await sourceFolders(dir)) byteCount += await bytesIn(folder);
  return byteCount;
}

/**
 * Makes the folder and takes its writer's lock; null while another writes to it. A new one is
 * locked before it has its name: what is seen without a lock is taken for a dead writer's, which
 * whoever drains it removes.
 */
export async function openFolder(folder: string): Promise<Disposable | null> {
  const isThere = await stat(folder).then(
    () => true,
    () => false,
  );
  if (isThere) return lockWriter(folder);
  const unnamed = `${folder}.new`;
  await mkdir(unnamed, { recursive: true, mode: 0o700 });
  const lock = lockWriter(unnamed);
  try {
    if (lock !== null) await rename(unnamed, folder);
    return lock;
  } catch (error) {
    lock?.[Symbol.dispose]();
    throw error;
  }
}

/** Null while its writer lives. */
export function lockWriter(folder: string): Disposable | null {
  return tryLock(join(folder, WRITER_LOCK));
}

/** Null while another drains it. */
export function lockDrainer(folder: string): Disposable | null {
  return tryLock(join(folder, DRAINER_LOCK));
}

export async function writeSource(folder: string, source: SourceFacts): Promise<void> {
  await writeFile(join(folder, SOURCE_FILE), JSON.stringify(source), { mode: 0o600 });
}

/** Null when it is not there, or was not written to its end. */
export async function readSource(folder: string): Promise<SourceFacts | null> {
  try {
    return JSON.parse(await readFile(join(folder, SOURCE_FILE), "utf8")) as SourceFacts;
  } catch {
    return null;
  }
}

/**
 * Seals what a writer that is no more left open. The caller holds its lock.
 *
 * @returns the number of its last record; 0 when there was none.
 */
export async function settleFolder(folder: string, sourceId: string): Promise<number> {
  const segments = await segmentsIn(folder);
  let last = 0;
  for (const [at, segment] of segments.entries()) {
    const nextFirst = segments[at + 1]?.first ?? Number.MAX_SAFE_INTEGER;
    if (segment.isSealed) {
      // Only the last one's length matters, and reading one is cheap.
      if (at === segments.length - 1) last = await countLines(segment, sourceId, nextFirst);
      continue;
    }
    last = await sealOpen(segment, sourceId, nextFirst);
  }
  return last;
}

async function countLines(segment: Segment, sourceId: string, nextFirst: number): Promise<number> {
  return wholeLines(await readFile(segment.path), segment.first, sourceId, nextFirst).last;
}

/**
 * Cuts what is not whole, or was begun again in a later segment because its writer could not say
 * that it was durable.
 */
async function sealOpen(segment: Segment, sourceId: string, nextFirst: number): Promise<number> {
  const bytes = await readFile(segment.path);
  const { last, byteCount } = wholeLines(bytes, segment.first, sourceId, nextFirst);
  if (byteCount === 0) {
    await rm(segment.path, { force: true });
    return last;
  }
  const file = await open(segment.path, "r+");
  try {
    await file.truncate(byteCount);
    await file.sync();
  } finally {
    await file.close();
  }
  await rename(segment.path, sealedPath(segment.path));
  return last;
}

function wholeLines(
  bytes: Buffer,
  first: number,
  sourceId: string,
  nextFirst: number,
): { last: number; byteCount: number } {
  let sequence = first;
  let at = 0;
  while (sequence < nextFirst) {
    const end = bytes.indexOf(0x0a, at);
    if (end < 0) break;
    const prefix = linePrefix(sourceId, sequence);
    const isOurs = bytes.toString("latin1", at, at + prefix.length) === prefix;
    if (!isOurs || bytes[end - 1] !== CLOSING_BRACE || bytes.subarray(at, end).includes(0)) break;
    at = end + 1;
    sequence++;
  }
  return { last: sequence - 1, byteCount: at };
}

const CLOSING_BRACE = 0x7d;

async function namesIn(dir: string): Promise<string[]> {
  try {
    return await readdir(dir);
  } catch (error) {
    if ((error as { code?: string }).code === "ENOENT") return [];
    throw error;
  }
}

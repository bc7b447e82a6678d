/**
 * Segments that the store has, kept beside the spool for whoever else ships them (proxy/filebeat):
 * moved there whole and never written again, under a name that no other ever has.
 *
 * Invariant: what is kept is bounded, in bytes and in files; beyond it the oldest goes. Whoever
 * carries a segment away may remove it. A folder that cannot be kept in stops nothing: the store
 * has the segment, which then goes.
 */
import { mkdir, readdir, rename, rm, stat } from "node:fs/promises";
import { basename, dirname, join } from "node:path";
import { monotonicMs } from "../runtime/clock.ts";
import type { Log } from "../runtime/log.ts";

export interface KeptSegments {
  /** Takes a segment out of the spool; one that is gone already was another's. */
  take(path: string): Promise<void>;
}

const DIR = "kept";
/** Near an hour of the smallest; whoever looks for new ones looks at each, and so does counting. */
const FILES_MAX = 10_000;
/** How often others' segments, and what was removed, are counted again. */
const MEASURE_EVERY_MS = 60_000;
/** What is left after the oldest went. */
const LEFT_SHARE = 9 / 10;

/** `bytesMax`: of all that is kept in `spoolDir`, about; 0: nothing is. */
export function createKeptSegments(
  spoolDir: string,
  bytesMax: number,
  log: Pick<Log, "warn">,
  filesMax = FILES_MAX,
): KeptSegments {
  const dir = join(spoolDir, DIR);
  let byteCount = 0;
  let fileCount = 0;
  let measuredAtMs = Number.NEGATIVE_INFINITY;
  let isTold = false;
  return { take };

  async function take(path: string): Promise<void> {
    if (bytesMax > 0) {
      try {
        await keep(path);
        isTold = false;
      } catch (error) {
        if (!isTold) log.warn({ err: error, dir }, "segments of traffic are not kept");
        isTold = true;
      }
    }
    await rm(path, { force: true });
  }

  async function keep(path: string): Promise<void> {
    await mkdir(dir, { recursive: true, mode: 0o700 });
    try {
      const { size } = await stat(path);
      await rename(path, join(dir, `${basename(dirname(path))}.${basename(path)}`));
      byteCount += size;
      fileCount++;
    } catch (error) {
      if ((error as { code?: string }).code !== "ENOENT") throw error;
    }
    const isDue = monotonicMs() - measuredAtMs >= MEASURE_EVERY_MS;
    if (isDue || isOver()) await prune();
  }

  function isOver(): boolean {
    return byteCount > bytesMax || fileCount > filesMax;
  }

  async function prune(): Promise<void> {
    measuredAtMs = monotonicMs();
    const kept = await keptIn(dir);
    byteCount = kept.reduce((sum, { size }) => sum + size, 0);
    fileCount = kept.length;
    if (!isOver()) return;
    for (const { path, size } of kept) {
      if (byteCount <= bytesMax * LEFT_SHARE && fileCount <= filesMax * LEFT_SHARE) return;
      await rm(path, { force: true });
      byteCount -= size;
      fileCount--;
    }
  }
}

/** The oldest first: by when its last record was written, then by its name. */
async function keptIn(dir: string): Promise<{ path: string; size: number }[]> {
  const kept = [];
  for (const name of (await readdir(dir)).sort()) {
    const path = join(dir, name);
    // One that goes away meanwhile was carried away.
    const found = await stat(path).catch(() => null);
    if (found !== null) kept.push({ path, size: found.size, atMs: found.mtimeMs });
  }
  return kept.sort((one, other) => one.atMs - other.atMs);
}

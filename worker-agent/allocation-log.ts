/**
 * What worker-agents printed, by their allocation: while they run, and for a while afterwards. The
 * newest logs of ended ones are kept beside the allocations' folders, and no more than
 * `KEPT_MAX` of them, each cut to its end when it is long.
 */
import { mkdir, open, readdir, rename, rm, stat, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { followFiles, LINE_BYTES_MAX } from "./follow-file.ts";

export type Output = "stdout" | "stderr";

/** Its log has gone to standard error since before the outputs were kept apart. */
export const LOG_FILES: Readonly<Record<Output, string>> = {
  stderr: "worker.log",
  stdout: "worker.out.log",
};
const OUTPUTS = ["stdout", "stderr"] as const;
/** No allocation is called so: whoever looks for those passes it by. */
const ENDED = "ended-logs";
const KEPT_MAX = 200;
const KEPT_BYTES_MAX = 1_048_576;

/**
 * Null when nothing is kept of this allocation.
 *
 * @param output null: both, as they come.
 * @param isGrowing asked at the end of what there is: whether more may come.
 */
export async function readAllocationLog(
  allocationsDir: string,
  id: string,
  { output, isGrowing }: { output: Output | null; isGrowing: () => boolean | Promise<boolean> },
): Promise<AsyncIterable<Uint8Array> | null> {
  const names = (output === null ? OUTPUTS : [output]).map((each) => LOG_FILES[each]);
  // One that ends between the two looks has moved to the second place.
  for (const folder of [join(allocationsDir, id), join(allocationsDir, ENDED, id)]) {
    const found = await followFiles(
      names.map((name) => join(folder, name)),
      isGrowing,
    );
    if (found !== null) return found;
  }
  return null;
}

/** Moves what it printed out of its folder, which is about to be removed. Idempotent. */
export async function keepAllocationLog(allocationsDir: string, id: string): Promise<void> {
  const ended = join(allocationsDir, ENDED);
  for (const output of OUTPUTS) {
    const from = join(allocationsDir, id, LOG_FILES[output]);
    const size = await stat(from).then(
      (found) => found.size,
      () => 0,
    );
    if (size === 0) continue;
    await mkdir(join(ended, id), { recursive: true, mode: 0o700 });
    const to = join(ended, id, LOG_FILES[output]);
    if (size <= KEPT_BYTES_MAX) await rename(from, to);
    else await writeFile(to, await readEnd(from, size), { mode: 0o600 });
  }
  // Ids sort by the time at which they were made.
  const kept = (await readdir(ended).catch((): string[] => [])).toSorted();
  for (const old of kept.slice(0, -KEPT_MAX)) {
    await rm(join(ended, old), { recursive: true, force: true });
  }
}

/** From the first whole line on: of one cut in two nobody could tell that it holds a secret. */
async function readEnd(path: string, size: number): Promise<Buffer> {
  await using file = await open(path, "r");
  const bytes = Buffer.alloc(KEPT_BYTES_MAX);
  const { bytesRead } = await file.read(bytes, 0, KEPT_BYTES_MAX, size - KEPT_BYTES_MAX);
  const lineEnd = bytes.indexOf("\n");
  return bytes.subarray(lineEnd < LINE_BYTES_MAX ? lineEnd + 1 : 0, bytesRead);
}

/**
 * Files that another process writes to, read to their ends and, while they grow, on from there.
 *
 * Invariant: lines of several files do not mix, so that whoever looks for a secret in a line sees
 * the whole of it; a line longer than `LINE_BYTES_MAX` is passed on in pieces.
 */
import { type FileHandle, open } from "node:fs/promises";

const LOOK_AGAIN_MS = 200;
const CHUNK_BYTES = 65_536;
/** More than any line that is worth to be kept whole. */
export const LINE_BYTES_MAX = 65_536;
const LF = 0x0a;
const NOTHING = Buffer.alloc(0);

/**
 * All of them as they come; null when there is none.
 *
 * @param isGrowing asked at the files' ends: whether more may come.
 */
export async function followFiles(
  paths: readonly string[],
  isGrowing: () => boolean | Promise<boolean>,
): Promise<AsyncIterable<Uint8Array> | null> {
  const files: FileHandle[] = [];
  try {
    for (const path of paths) {
      const file = await open(path, "r").catch((error: NodeJS.ErrnoException) => {
        if (error.code === "ENOENT") return null;
        throw error;
      });
      if (file !== null) files.push(file);
    }
  } catch (error) {
    await closeAll(files);
    throw error;
  }
  return files.length === 0 ? null : read(files, isGrowing);
}

async function* read(
  files: readonly FileHandle[],
  isGrowing: () => boolean | Promise<boolean>,
): AsyncIterable<Uint8Array> {
  const begun = files.map(() => NOTHING);
  try {
    for (;;) {
      // Asked before the reads: what was written until then is read after it.
      const mayGrow = await isGrowing();
      let hasMore = false;
      for (const [at, file] of files.entries()) {
        const { bytesRead, buffer } = await file.read(Buffer.alloc(CHUNK_BYTES), 0, CHUNK_BYTES);
        if (bytesRead === 0) continue;
        hasMore = true;
        const bytes = Buffer.concat([begun[at] ?? NOTHING, buffer.subarray(0, bytesRead)]);
        const end = bytes.length - bytes.lastIndexOf(LF) - 1;
        const whole = end > LINE_BYTES_MAX ? bytes.length : bytes.length - end;
        begun[at] = bytes.subarray(whole);
        if (whole > 0) yield bytes.subarray(0, whole);
      }
      if (hasMore) continue;
      if (!mayGrow) {
        for (const rest of begun) if (rest.length > 0) yield rest;
        return;
      }
      await new Promise((resolve) => setTimeout(resolve, LOOK_AGAIN_MS));
    }
  } finally {
    await closeAll(files);
  }
}

async function closeAll(files: readonly FileHandle[]): Promise<void> {
  for (const file of files) await file.close();
}

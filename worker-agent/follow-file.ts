/** Files that another process writes to, read to their ends and, while they grow, on from there. */
import { type FileHandle, open } from "node:fs/promises";

const LOOK_AGAIN_MS = 200;
const CHUNK_BYTES = 65_536;

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
  try {
    for (;;) {
      // Asked before the reads: what was written until then is read after it.
      const mayGrow = await isGrowing();
      let hasMore = false;
      for (const file of files) {
        const { bytesRead, buffer } = await file.read(Buffer.alloc(CHUNK_BYTES), 0, CHUNK_BYTES);
        if (bytesRead === 0) continue;
        hasMore = true;
        yield buffer.subarray(0, bytesRead);
      }
      if (hasMore) continue;
      if (!mayGrow) return;
      await new Promise((resolve) => setTimeout(resolve, LOOK_AGAIN_MS));
    }
  } finally {
    await closeAll(files);
  }
}

async function closeAll(files: readonly FileHandle[]): Promise<void> {
  for (const file of files) await file.close();
}

/** A file that another process writes to, read to its end and, while it grows, on from there. */
import { type FileHandle, open } from "node:fs/promises";

const LOOK_AGAIN_MS = 200;
const CHUNK_BYTES = 65_536;

/**
 * Null when there is no such file.
 *
 * @param isGrowing asked at the file's end: whether more may come.
 */
export async function followFile(
  path: string,
  isGrowing: () => boolean,
): Promise<AsyncIterable<Uint8Array> | null> {
  let file: FileHandle;
  try {
    file = await open(path, "r");
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === "ENOENT") return null;
    throw error;
  }
  return read(file, isGrowing);
}

async function* read(file: FileHandle, isGrowing: () => boolean): AsyncIterable<Uint8Array> {
  try {
    for (;;) {
      // Asked before the read: what was written until then is read after it.
      const mayGrow = isGrowing();
      const { bytesRead, buffer } = await file.read(Buffer.alloc(CHUNK_BYTES), 0, CHUNK_BYTES);
      if (bytesRead > 0) yield buffer.subarray(0, bytesRead);
      else if (!mayGrow) return;
      else await new Promise((resolve) => setTimeout(resolve, LOOK_AGAIN_MS));
    }
  } finally {
    await file.close();
  }
}

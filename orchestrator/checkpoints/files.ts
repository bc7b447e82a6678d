/**
 * Contents by their hash, as files: `checkpoints/blobs/ab/<sha256>` in the project's folder.
 *
 * Invariant: a file has its name only once all of it is on the disk and has that hash, so that a
 * crash at any moment leaves it whole or not at all.
 */
import { createHash } from "node:crypto";
import { createReadStream } from "node:fs";
import { type FileHandle, mkdir, open, readdir, rename, rm, stat, utimes } from "node:fs/promises";
import { dirname, join } from "node:path";
import type { Readable } from "node:stream";
import { Problem } from "../problem.ts";
import type { Layout } from "../projects/layout.ts";
import type { Clock, EpochMs } from "../runtime/clock.ts";
import type { Random } from "../runtime/random.ts";

const NAME = /^[0-9a-f]{64}$/;

export type Blobs = ReturnType<typeof createBlobs>;

/** What `list` finds; `sha256` is null for a file that was never finished. */
export interface StoredFile {
  sha256: string | null;
  path: string;
  modifiedMs: EpochMs;
}

export function createBlobs(layout: Layout, clock: Clock, random: Random) {
  return { size, keep, put, read, list, ageMs, remove };

  /** The content's size in bytes; null when the project lacks it. */
  async function size(projectId: string, sha256: string): Promise<number | null> {
    try {
      return (await stat(pathOf(projectId, sha256))).size;
    } catch (error) {
      if (isAbsent(error)) return null;
      throw error;
    }
  }

  /** Whether the project has it; if so it counts as new, for the collection. */
  async function keep(projectId: string, sha256: string): Promise<boolean> {
    try {
      const now = new Date(clock.now());
      await utimes(pathOf(projectId, sha256), now, now);
      return true;
    } catch (error) {
      if (isAbsent(error)) return false;
      throw error;
    }
  }

  /**
   * Stores it unless it is there; whether it was new.
   *
   * @throws Problem `invalid_request` when its hash is another one.
   */
  async function put(
    projectId: string,
    sha256: string,
    content: AsyncIterable<Buffer>,
  ): Promise<boolean> {
    const path = pathOf(projectId, sha256);
    if (await keep(projectId, sha256)) {
      for await (const _ of content);
      return false;
    }
    const unfinished = join(incomingOf(projectId), Buffer.from(random.bytes(16)).toString("hex"));
    await mkdir(dirname(unfinished), { recursive: true, mode: 0o700 });
    await mkdir(dirname(path), { recursive: true, mode: 0o700 });
    try {
      const found = await write(unfinished, content);
      if (found !== sha256) {
        throw new Problem("invalid_request", `The content called ${sha256} has the hash ${found}`);
      }
      const now = new Date(clock.now());
      await utimes(unfinished, now, now);
      await rename(unfinished, path);
    } catch (error) {
      await rm(unfinished, { force: true });
      throw error;
    }
    await syncFolder(dirname(path));
    return true;
  }

  function read(projectId: string, sha256: string): Readable {
    return createReadStream(pathOf(projectId, sha256));
  }

  /** Everything that the project stores, be it finished or not. */
  async function* list(projectId: string): AsyncGenerator<StoredFile> {
    const blobs = blobsOf(projectId);
    for (const prefix of await namesIn(blobs)) {
      for (const name of await namesIn(join(blobs, prefix))) {
        if (NAME.test(name)) yield* found(join(blobs, prefix, name), name);
      }
    }
    const incoming = incomingOf(projectId);
    for (const name of await namesIn(incoming)) yield* found(join(incoming, name), null);
  }

  async function* found(path: string, sha256: string | null): AsyncGenerator<StoredFile> {
    const at = await stat(path).catch(() => null);
    if (at !== null) yield { sha256, path, modifiedMs: at.mtimeMs };
  }

  /** Since it was stored or kept; 0 when it is gone. */
  async function ageMs({ path }: StoredFile): Promise<number> {
    const at = await stat(path).catch(() => null);
    return at === null ? 0 : clock.now() - at.mtimeMs;
  }

  async function remove({ path }: StoredFile): Promise<void> {
    await rm(path, { force: true });
  }

  function pathOf(projectId: string, sha256: string): string {
    // Names come from workers.
    if (!NAME.test(sha256)) throw new Problem("invalid_request", "sha256: not a SHA-256 in hex");
    return join(blobsOf(projectId), sha256.slice(0, 2), sha256);
  }

  function blobsOf(projectId: string): string {
    return join(layout.project(projectId).checkpoints, "blobs");
  }

  function incomingOf(projectId: string): string {
    return join(layout.project(projectId).checkpoints, "incoming");
  }
}

/** Writes it through to the disk; its hash. */
async function write(path: string, content: AsyncIterable<Buffer>): Promise<string> {
  const hash = createHash("sha256");
  const file = await open(path, "wx", 0o600);
  try {
    for await (const chunk of content) {
      hash.update(chunk);
      await writeAll(file, chunk);
    }
    await file.sync();
  } finally {
    await file.close();
  }
  return hash.digest("hex");
}

async function writeAll(file: FileHandle, chunk: Buffer): Promise<void> {
  for (let at = 0; at < chunk.byteLength; ) {
    at += (await file.write(chunk, at, chunk.byteLength - at)).bytesWritten;
  }
}

/** The name is on the disk too. */
async function syncFolder(path: string): Promise<void> {
  const folder = await open(path, "r");
  try {
    await folder.sync();
  } finally {
    await folder.close();
  }
}

async function namesIn(folder: string): Promise<string[]> {
  try {
    return await readdir(folder);
  } catch (error) {
    if (isAbsent(error)) return [];
    throw error;
  }
}

function isAbsent(error: unknown): boolean {
  return (error as NodeJS.ErrnoException).code === "ENOENT";
}

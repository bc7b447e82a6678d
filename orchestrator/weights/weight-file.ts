/**
 * One file of a model on its way into its folder: it is written as `<name>.partial`, hashed as it
 * comes, and gets its name when it is right.
 *
 * Invariant: a file that has its name had the right bytes on the disk before it had it.
 */
import { createHash, type Hash } from "node:crypto";
import { createReadStream } from "node:fs";
import { type FileHandle, open, rm, stat } from "node:fs/promises";
import { join } from "node:path";
import { Problem } from "../problem.ts";
import { type HubBody, HubFault, type HubFile } from "./hub.ts";
import { renameDurably } from "./manifest.ts";

export const PARTIAL = ".partial";

/** A safetensors header is at most this, by its own specification's reader. */
const HEADER_BYTES_MAX = 100_000_000;

export interface Expected {
  readonly path: string;
  readonly size: number;
  readonly hash: HubFile["hash"];
}

/** Where a file's bytes come from. */
export interface Source {
  open(path: string, fromByte: number, signal: AbortSignal): Promise<HubBody>;
  /** As a hub's: `work` again while what fails may pass. */
  retrying(work: (hasProgress: () => void) => Promise<void>, signal: AbortSignal): Promise<void>;
}

interface Watch {
  signal: AbortSignal;
  /** Told of bytes that are here, and less than 0 of some that were of no use. */
  onBytes: (count: number) => void;
}

/** The sha256 of a whole file. `onBytes` is told what was read. */
export async function hashFile(
  path: string,
  signal: AbortSignal,
  onBytes: (count: number) => void,
): Promise<string> {
  const hash = createHash("sha256");
  for await (const chunk of createReadStream(path, { signal, highWaterMark: 1 << 20 })) {
    hash.update(chunk as Uint8Array);
    onBytes((chunk as Uint8Array).length);
  }
  return hash.digest("hex");
}

export async function sizeOf(path: string): Promise<number | null> {
  try {
    const found = await stat(path);
    return found.isFile() ? found.size : null;
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === "ENOENT") return null;
    throw error;
  }
}

/** How much of a file is here, under its own name or as a partial one. */
export async function bytesHere(dir: string, { path, size }: Expected): Promise<number> {
  const whole = await sizeOf(join(dir, path));
  if (whole !== null) return whole === size ? size : 0;
  const part = (await sizeOf(join(dir, path + PARTIAL))) ?? 0;
  return part <= size ? part : 0;
}

/**
 * Brings a file into `dir`, going on from what is here of it; its sha256. What is here and is not
 * right is fetched anew, once.
 *
 * @throws Problem `upstream_failed` when it is wrong still, `conflict` when the disk is full; what
 * the source throws; the signal's reason.
 */
export async function placeFile(
  dir: string,
  expected: Expected,
  source: Source,
  watch: Watch,
): Promise<string> {
  const final = join(dir, expected.path);
  const partial = final + PARTIAL;
  const known = await hashHere(final, expected, watch);
  if (known !== null) return known;
  let isFresh = ((await sizeOf(partial)) ?? 0) === 0;
  for (;;) {
    const found = await receive(partial, expected, source, watch);
    if (found.fault === null) {
      await renameDurably(partial, final);
      return found.sha256;
    }
    await rm(partial, { force: true });
    watch.onBytes(-found.counted);
    if (isFresh) throw new Problem("upstream_failed", wrong(expected, found.fault));
    isFresh = true;
  }
}

/** The sha256 of a file that has its name, if it is right; one that is not is taken away. */
async function hashHere(
  final: string,
  expected: Expected,
  { signal, onBytes }: Watch,
): Promise<string | null> {
  const size = await sizeOf(final);
  if (size === null) return null;
  if (size === expected.size) {
    const hashes = createHashes(expected);
    for await (const chunk of createReadStream(final, { signal, highWaterMark: 1 << 20 })) {
      hashes.update(chunk as Uint8Array);
      onBytes((chunk as Uint8Array).length);
    }
    const { sha256, fault } = hashes.end();
    if (fault === null) return sha256;
    onBytes(-size);
  }
  await rm(final);
  return null;
}

interface Received {
  sha256: string;
  /** What `onBytes` was told in all. */
  counted: number;
  /** What is wrong with it; null: it is right. */
  fault: string | null;
}

async function receive(
  partial: string,
  expected: Expected,
  source: Source,
  { signal, onBytes }: Watch,
): Promise<Received> {
  const { path, size } = expected;
  const handle = await open(partial, "a+", 0o644);
  try {
    const here = (await handle.stat()).size;
    if (here > size) return { sha256: "", counted: 0, fault: `it has ${here} bytes, not ${size}` };
    let hashes = createHashes(expected);
    let length = 0;
    let fault: string | null = null;
    for await (const chunk of readFrom(handle, signal)) {
      hashes.update(chunk);
      length += chunk.length;
      onBytes(chunk.length);
    }
    if (length < size) await source.retrying(goOn, signal);
    const end = hashes.end();
    fault ??= end.fault;
    if (fault === null) await handle.sync();
    return { sha256: end.sha256, counted: length, fault };

    /** One connection's worth. */
    async function goOn(hasProgress: () => void): Promise<void> {
      const body = await opened(() => source.open(path, length, signal));
      if (body === null) {
        fault = `the host has less than ${length} bytes of it`;
        return;
      }
      if (body.fromByte === 0 && length > 0) {
        await handle.truncate(0);
        hashes = createHashes(expected);
        onBytes(-length);
        length = 0;
      }
      for await (const chunk of body.bytes) {
        signal.throwIfAborted();
        if (length + chunk.length > size) {
          fault = `more than its ${size} bytes came`;
          return;
        }
        await writeAll(handle, chunk, partial);
        hashes.update(chunk);
        length += chunk.length;
        onBytes(chunk.length);
        hasProgress();
      }
      if (length < size) throw new HubFault(`${path} ended after ${length} of ${size} bytes`);
    }
  } finally {
    await handle.close();
  }
}

/** Null when the host says that it has no such bytes. */
async function opened(ask: () => Promise<HubBody>): Promise<HubBody | null> {
  try {
    return await ask();
  } catch (error) {
    if (error instanceof HubFault && error.isRange) return null;
    throw error;
  }
}

async function* readFrom(handle: FileHandle, signal: AbortSignal): AsyncGenerator<Uint8Array> {
  const buffer = new Uint8Array(1 << 20);
  for (let at = 0; ; ) {
    signal.throwIfAborted();
    const { bytesRead } = await handle.read(buffer, 0, buffer.length, at);
    if (bytesRead === 0) return;
    yield buffer.subarray(0, bytesRead);
    at += bytesRead;
  }
}

/** @throws Problem `conflict` when the disk is full. */
async function writeAll(handle: FileHandle, chunk: Uint8Array, path: string): Promise<void> {
  try {
    for (let at = 0; at < chunk.length; ) {
      at += (await handle.write(chunk, at, chunk.length - at)).bytesWritten;
    }
  } catch (cause) {
    const { code = "" } = cause as NodeJS.ErrnoException;
    if (code !== "ENOSPC" && code !== "EDQUOT") throw cause;
    throw new Problem(
      "conflict",
      `The disk is full (${code}) while ${path} was written: free some space and pull again; what ` +
        "came is kept",
      { cause },
    );
  }
}

function createHashes({ path, size, hash }: Expected) {
  const sha256 = createHash("sha256");
  const git: Hash | null =
    hash.algorithm === "git-sha1" ? createHash("sha1").update(`blob ${size}\0`) : null;
  return { update, end };

  function update(chunk: Uint8Array): void {
    sha256.update(chunk);
    git?.update(chunk);
  }

  function end(): { sha256: string; fault: string | null } {
    const own = sha256.digest("hex");
    const found = git === null ? own : git.digest("hex");
    if (found === hash.hex) return { sha256: own, fault: null };
    const fault = `the ${hash.algorithm} of ${path} must be ${hash.hex} and is ${found}`;
    return { sha256: own, fault };
  }
}

function wrong({ path }: Expected, fault: string): string {
  return (
    `${path} came wrong, and was thrown away: ${fault}. Pull again; if that stays, where ` +
    "it comes from has it wrong, or something on the way changes files"
  );
}

/**
 * What is wrong with a safetensors file by its own header: 8 bytes with the header's length, the
 * header (JSON, each tensor's `data_offsets`), then exactly the tensors. Null: nothing, as far as
 * that goes, or another kind of file.
 */
export async function tensorsFault(dir: string, path: string): Promise<string | null> {
  if (!path.endsWith(".safetensors")) return null;
  const handle = await open(join(dir, path), "r");
  try {
    const { size } = await handle.stat();
    const head = new Uint8Array(8);
    if ((await handle.read(head, 0, 8, 0)).bytesRead < 8) return `it has ${size} bytes only`;
    const length = Number(new DataView(head.buffer).getBigUint64(0, true));
    if (length > HEADER_BYTES_MAX) return "it does not begin as safetensors do";
    if (8 + length > size) return `its header has ${length} bytes, and it has ${size}`;
    const text = Buffer.alloc(length);
    await handle.read(text, 0, length, 8);
    const expected = 8 + length + dataBytes(text.toString("utf8"));
    return expected === size ? null : `it must have ${expected} bytes and has ${size}`;
  } catch (error) {
    if (error instanceof SyntaxError || error instanceof TypeError) return "its header is no JSON";
    throw error;
  } finally {
    await handle.close();
  }
}

function dataBytes(header: string): number {
  const tensors = Object.values(JSON.parse(header) as Record<string, { data_offsets?: number[] }>);
  return tensors.reduce((end, { data_offsets: [, to = 0] = [] }) => Math.max(end, to), 0);
}

/** A backup's tar, written and read entry by entry, each with its hash. */
import { createHash } from "node:crypto";
import { once } from "node:events";
import { Readable } from "node:stream";
import { pipeline } from "node:stream/promises";
import { createZstdCompress, createZstdDecompress } from "node:zlib";
import { extract, pack } from "tar-stream";
import { Value } from "typebox/value";
import { Problem } from "../problem.ts";
import { BackupHead, BackupManifest } from "./backup.ts";

const EPOCH = new Date(0);

export interface ArchiveWriter {
  /** Exactly `byteCount` bytes must come. */
  add(name: string, byteCount: number, bytes: AsyncIterable<Uint8Array>): Promise<void>;
  addText(name: string, text: string): Promise<void>;
  entries(): BackupManifest["entries"];
}

/** The compressed archive that `write` fills; it fails when that fails. */
export function writeArchive(write: (archive: ArchiveWriter) => Promise<void>): Readable {
  const tar = pack();
  let giveUp: () => void = () => {};
  const entries: BackupManifest["entries"] = [];
  const out = createZstdCompress();
  out.once("close", () => giveUp());
  void pipeline(tar, out).catch(() => {});
  write({ add, addText, entries: () => entries }).then(
    () => tar.finalize(),
    (error: Error) => {
      out.destroy(error);
      tar.destroy();
    },
  );
  return out;

  async function add(
    name: string,
    byteCount: number,
    bytes: AsyncIterable<Uint8Array>,
  ): Promise<void> {
    const hash = createHash("sha256");
    const done = Promise.withResolvers<void>();
    const entry = tar.entry({ name, size: byteCount, mode: 0o600, mtime: EPOCH }, finish);
    // Its failure is the archive's, which whoever reads it is told.
    entry.on("error", () => {});
    const leave = new AbortController();
    giveUp = () => {
      leave.abort();
      done.reject(new Error("nobody reads the backup any more"));
    };
    if (out.destroyed) giveUp();
    for await (const chunk of bytes) {
      leave.signal.throwIfAborted();
      hash.update(chunk);
      if (!entry.write(chunk)) await once(entry, "drain", { signal: leave.signal });
    }
    entry.end(undefined);
    await done.promise;
    entries.push({ name, byte_count: byteCount, sha256: hash.digest("hex") });

    function finish(error?: Error | null): void {
      if (error == null) done.resolve();
      else done.reject(error);
    }
  }

  async function addText(name: string, text: string): Promise<void> {
    const bytes = Buffer.from(text);
    await add(name, bytes.length, Readable.from([bytes]));
  }
}

export interface ArchiveReader {
  /** Called first. */
  head(head: BackupHead): Promise<void>;
  /** Called for each entry between head and manifest; it must read all its bytes. */
  entry(name: string, bytes: AsyncIterable<Uint8Array>): Promise<void>;
}

/**
 * Reads an archive from its first entry to its last, and checks each hash against the manifest.
 *
 * @throws Problem `invalid_request` naming what is wrong.
 */
export async function readArchive(
  compressed: AsyncIterable<Uint8Array>,
  reader: ArchiveReader,
): Promise<BackupManifest> {
  const tar = extract();
  const feeding = pipeline(Readable.from(compressed), createZstdDecompress(), tar);
  feeding.catch(() => {});
  const seen: BackupManifest["entries"] = [];
  let manifest: BackupManifest | null = null;
  try {
    for await (const entry of tar) {
      const { name } = entry.header;
      if (manifest !== null) throw faulty(`there is more after its manifest (${name})`);
      if (seen.length === 0 && name !== "head.json") throw faulty("it does not begin with a head");
      const hash = createHash("sha256");
      let byteCount = 0;
      const bytes = (async function* read() {
        for await (const chunk of entry as AsyncIterable<Uint8Array>) {
          hash.update(chunk);
          byteCount += chunk.length;
          yield chunk;
        }
      })();
      if (name === "manifest.json") manifest = checkManifest(await textOf(bytes), seen);
      else if (name === "head.json") await reader.head(readHead(await textOf(bytes)));
      else await reader.entry(name, bytes);
      if (name !== "manifest.json") {
        seen.push({ name, byte_count: byteCount, sha256: hash.digest("hex") });
      }
    }
    await feeding;
  } catch (error) {
    tar.destroy();
    throw asFault(error);
  }
  if (manifest === null) throw faulty("it is cut off: it has no manifest");
  return manifest;
}

function readHead(text: string): BackupHead {
  const head: unknown = parse(text);
  if (Value.Check(BackupHead, head)) return head;
  const format = (head as { format?: unknown } | null)?.format;
  throw faulty(
    typeof format === "string" && format !== "autocode-backup/1"
      ? `it is of format ${format}, which this autocode does not read`
      : "its head is damaged",
  );
}

function checkManifest(text: string, seen: BackupManifest["entries"]): BackupManifest {
  const manifest: unknown = parse(text);
  if (!Value.Check(BackupManifest, manifest)) throw faulty("its manifest is damaged");
  for (const [index, wanted] of manifest.entries.entries()) {
    const found = seen[index];
    if (found === undefined || found.name !== wanted.name) {
      throw faulty(`${wanted.name} is not where the manifest has it`);
    }
    if (found.sha256 !== wanted.sha256 || found.byte_count !== wanted.byte_count) {
      throw faulty(`${wanted.name} is not as it was when it was written (its hash differs)`);
    }
  }
  const [further] = seen.slice(manifest.entries.length);
  if (further !== undefined) throw faulty(`${further.name} is not in its manifest`);
  return manifest;
}

function parse(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return null;
  }
}

async function textOf(bytes: AsyncIterable<Uint8Array>): Promise<string> {
  const chunks: Uint8Array[] = [];
  for await (const chunk of bytes) chunks.push(chunk);
  return Buffer.concat(chunks).toString("utf8");
}

/** zlib's and the tar's own words, as ours. */
function asFault(error: unknown): unknown {
  const { code, message } = error as { code?: string; message: string };
  if (code?.startsWith("ZSTD_") === true || code === "Z_BUF_ERROR") {
    return faulty(`it is damaged or cut off (${message})`, error);
  }
  if (/Unexpected end of data|Invalid tar header|unexpected end of file/i.test(message)) {
    return faulty(`it is cut off or damaged (${message})`, error);
  }
  return error;
}

function faulty(what: string, cause?: unknown): Problem {
  return new Problem("invalid_request", `The backup cannot be used: ${what}`, {
    ...(cause === undefined ? {} : { cause }),
  });
}

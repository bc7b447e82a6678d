/**
 * Contents on their way: a gzipped tar whose entries are called by the hash of what they hold; in
 * a checkpoint that is restored, `manifest.json` comes first.
 */
import { type Readable, Transform } from "node:stream";
import { pipeline } from "node:stream/promises";
import { createGunzip, createGzip } from "node:zlib";
import { extract, pack } from "tar-stream";
import { BLOB_BYTES_PER_REQUEST, BLOBS_PER_REQUEST } from "../contract/checkpoints.ts";
import { Problem } from "../problem.ts";

const MANIFEST_NAME = "manifest.json";
/** Headers and padding of a tar's entries, and of its end. */
const TAR_BYTES = 2 * 512 * BLOBS_PER_REQUEST + 65_536;

export interface ArchivedBlob {
  sha256: string;
  byteCount: number;
  content: AsyncIterable<Buffer>;
}

/**
 * Hands each content of an archive to `take`, which must read it to its end.
 *
 * @throws Problem `invalid_request` when it is no such archive, `too_large` past what one request
 * may bring, however well it is compressed.
 */
export async function readArchive(
  archive: Readable,
  take: (blob: ArchivedBlob) => Promise<void>,
): Promise<void> {
  const entries = extract();
  const gunzip = createGunzip();
  // Not part of the pipeline, which would cut the connection that the refusal is to go over.
  archive.once("error", (error) => gunzip.destroy(error));
  archive.pipe(gunzip);
  const reading = pipeline(gunzip, bounded(), entries);
  // Its fault is the one that ends the loop below; this only keeps it from being unhandled.
  reading.catch(() => {});
  try {
    let count = 0;
    for await (const entry of entries) {
      const { name, type, size = 0 } = entry.header;
      count += 1;
      if (count > BLOBS_PER_REQUEST) throw tooLarge();
      if (type !== "file" || !/^[0-9a-f]{64}$/.test(name)) {
        const shown = JSON.stringify(name.slice(0, 200));
        throw new Problem("invalid_request", `The archive holds ${shown}, which is no content`);
      }
      await take({ sha256: name, byteCount: size, content: entry as AsyncIterable<Buffer> });
    }
    await reading;
  } catch (error) {
    archive.unpipe(gunzip);
    archive.resume();
    if (isOurs(error)) throw error;
    throw new Problem("invalid_request", "The archive is no gzipped tar, or is cut off", {
      cause: error,
    });
  }
}

/** An archive of a manifest and the contents that it names, read one after the other. */
export function writeArchive(
  manifest: string,
  blobs: readonly { sha256: string; byteCount: number }[],
  open: (sha256: string) => Readable,
): Readable {
  const entries = pack();
  const gzip = createGzip();
  pipeline(entries, gzip).catch((error: unknown) => gzip.destroy(error as Error));
  writeAll().catch((error: unknown) => entries.destroy(error as Error));
  return gzip;

  async function writeAll(): Promise<void> {
    entries.entry({ name: MANIFEST_NAME }, manifest);
    for (const { sha256, byteCount } of blobs) {
      const entry = entries.entry({ name: sha256, size: byteCount });
      await pipeline(open(sha256), entry);
    }
    entries.finalize();
  }
}

function bounded(): Transform {
  let byteCount = 0;
  return new Transform({
    transform(chunk: Buffer, _encoding, done) {
      byteCount += chunk.byteLength;
      if (byteCount > BLOB_BYTES_PER_REQUEST + TAR_BYTES) done(tooLarge());
      else done(null, chunk);
    },
  });
}

/** What the disk or the database said is no fault of the archive. */
function isOurs(error: unknown): boolean {
  if (error instanceof Problem) return true;
  const { code } = error as NodeJS.ErrnoException;
  return typeof code === "string" && /^E[A-Z]+$/.test(code);
}

function tooLarge(): Problem {
  const detail =
    `One request may bring ${BLOBS_PER_REQUEST} contents of ${BLOB_BYTES_PER_REQUEST} bytes ` +
    "together: send them in several";
  return new Problem("too_large", detail);
}

/**
 * Undoes a body's compression, within a bound: as soon as that much has come out it stops, however
 * much more there would be, so that a bomb costs what any body of that size does. Of a stream that
 * was cut or is broken, it is what came out before.
 */
import {
  constants,
  createBrotliDecompress,
  createGunzip,
  createInflate,
  createInflateRaw,
  createZstdDecompress,
} from "node:zlib";

export interface Inflated {
  readonly bytes: Buffer;
  /** All of it came out. */
  readonly isWhole: boolean;
}

const EMPTY = { bytes: Buffer.alloc(0), isWhole: false };
/** What is given to the decompressor at once, so that it can be stopped in between. */
const CHUNK_BYTES = 64 * 2 ** 10;

/** @returns nothing, and not whole, for a coding that we do not know. */
export function inflate(bytes: Buffer, coding: string, bytesMax: number): Promise<Inflated> {
  const stream = decompressor(bytes, coding);
  if (stream === null) return Promise.resolve(EMPTY);
  return new Promise((resolve) => {
    const parts: Buffer[] = [];
    let length = 0;
    let isOver = false;
    stream.on("data", (part: Buffer) => {
      parts.push(part);
      length += part.length;
      if (length > bytesMax) end(false);
    });
    stream.on("error", () => end(false));
    stream.on("end", () => end(true));
    feed(0);

    function feed(at: number): void {
      if (isOver) return;
      const part = bytes.subarray(at, at + CHUNK_BYTES);
      if (at + part.length >= bytes.length) stream?.end(part);
      else stream?.write(part, () => feed(at + part.length));
    }

    function end(isWhole: boolean): void {
      if (isOver) return;
      isOver = true;
      stream?.destroy();
      resolve({ bytes: Buffer.concat(parts).subarray(0, bytesMax), isWhole });
    }
  });
}

function decompressor(bytes: Buffer, coding: string) {
  const cut = { finishFlush: constants.Z_SYNC_FLUSH };
  switch (coding) {
    case "gzip":
    case "x-gzip":
      return createGunzip(cut);
    case "deflate":
      return isZlib(bytes) ? createInflate(cut) : createInflateRaw(cut);
    case "br":
      return createBrotliDecompress({ finishFlush: constants.BROTLI_OPERATION_FLUSH });
    case "zstd":
      return createZstdDecompress({ finishFlush: constants.ZSTD_e_flush });
    default:
      return null;
  }
}

/** What these bytes are compressed with, as they say themselves. */
export function codingOf(bytes: Buffer): "gzip" | "zstd" | "deflate" | null {
  if (bytes[0] === 0x1f && bytes[1] === 0x8b) return "gzip";
  if (bytes.length >= 4 && bytes.readUInt32LE(0) === 0xfd2fb528) return "zstd";
  return isZlib(bytes) ? "deflate" : null;
}

/** RFC 1950, 2.2: the method, and a check of the first two bytes. */
function isZlib(bytes: Buffer): boolean {
  const [first = 0, second = 0] = bytes;
  return (first & 0x0f) === 8 && first >> 4 <= 7 && (first * 256 + second) % 31 === 0;
}

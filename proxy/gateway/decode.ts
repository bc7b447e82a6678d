/**
 * Answers that come compressed though they were asked for plain: decoded, since usage is read off
 * the bytes, and passed on decoded. Bounded in size and in ratio, so that a bomb fails its server
 * and not ours.
 */
import {
  createBrotliDecompress,
  createGunzip,
  createInflate,
  createZstdDecompress,
  constants as zlib,
} from "node:zlib";

export interface Decoder {
  push(chunk: Buffer): void;
  /** The server has said all; `onEnd` or `onError` follows. */
  end(): void;
  /** Nothing is told any more. */
  stop(): void;
}

export interface Decoded {
  onData(chunk: Buffer): void;
  onEnd(): void;
  onError(error: Error): void;
}

/** Text of a model repeats itself less than this, by far. */
const RATIO_MAX = 200;
/** Below it a ratio says nothing: a short text of one letter is no bomb. */
const RATIO_FREE_BYTES = 1024 * 1024;

/** Whether bytes under this header are the answer's own. */
export function isPlain(encoding: unknown): boolean {
  return encoding === undefined || encoding === "" || encoding === "identity";
}

/**
 * Null for an encoding that is not known, and for several at once, which no model server sends.
 *
 * @param bytesMax the most that is decoded.
 */
export function createDecoder(encoding: unknown, bytesMax: number, to: Decoded): Decoder | null {
  const found = inflaterOf(encoding);
  if (found === null) return null;
  const inflater = found;
  let bytesIn = 0;
  let bytesOut = 0;
  let isOver = false;
  inflater.on("data", (chunk: Buffer) => {
    bytesOut += chunk.length;
    if (isOver) return;
    const isBomb = bytesOut > RATIO_FREE_BYTES && bytesOut > bytesIn * RATIO_MAX;
    if (isBomb || bytesOut > bytesMax) fail(new Error("the compressed answer grows too large"));
    else to.onData(chunk);
  });
  inflater.on("end", () => {
    if (isOver) return;
    isOver = true;
    to.onEnd();
  });
  inflater.on("error", (cause) => {
    fail(new Error("the answer is not compressed as its header says", { cause }));
  });
  return { push, end: () => void inflater.end(), stop };

  function push(chunk: Buffer): void {
    bytesIn += chunk.length;
    if (!isOver) inflater.write(chunk);
  }

  function fail(error: Error): void {
    if (isOver) return;
    stop();
    to.onError(error);
  }

  function stop(): void {
    isOver = true;
    inflater.destroy();
  }
}

function inflaterOf(encoding: unknown) {
  // Each event of a stream is flushed by its server, and is to pass at once.
  switch (typeof encoding === "string" ? encoding.trim().toLowerCase() : "") {
    case "gzip":
    case "x-gzip":
      return createGunzip({ flush: zlib.Z_SYNC_FLUSH });
    case "deflate":
      return createInflate({ flush: zlib.Z_SYNC_FLUSH });
    case "br":
      return createBrotliDecompress({ flush: zlib.BROTLI_OPERATION_FLUSH });
    case "zstd":
      return createZstdDecompress({ flush: zlib.ZSTD_e_flush });
    default:
      return null;
  }
}

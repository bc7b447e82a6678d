/**
 * Bodies as gzip, at a cost that fits a call: small ones are stored as they are inside a gzip's
 * frame (a compressor's memory alone costs more than the call they belong to; PostgreSQL compresses
 * its rows itself), larger ones are compressed fast, on another thread.
 */
import { promisify } from "node:util";
import { crc32, gzip } from "node:zlib";

const compress = promisify(gzip);
const STORED_MAX = 8_192;
const HEADER = Buffer.from([0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 0xff]);
/** Of a stored block, and of the frame's end. */
const BLOCK_HEAD_BYTES = 5;
const TRAILER_BYTES = 8;

/** What `gunzip` makes `bytes` of again. */
export async function toGzip(bytes: Buffer): Promise<Buffer> {
  return bytes.length <= STORED_MAX ? storedGzip(bytes) : compress(bytes, { level: 1 });
}

/** RFC 1952 around one stored block of RFC 1951. @throws RangeError over 65,535 bytes */
export function storedGzip(bytes: Buffer): Buffer {
  if (bytes.length > 0xffff) throw new RangeError("storedGzip: at most 65535 bytes");
  const blockAt = HEADER.length;
  const bytesAt = blockAt + BLOCK_HEAD_BYTES;
  const framed = Buffer.allocUnsafe(bytesAt + bytes.length + TRAILER_BYTES);
  HEADER.copy(framed);
  framed[blockAt] = 1;
  framed.writeUInt16LE(bytes.length, blockAt + 1);
  framed.writeUInt16LE(~bytes.length & 0xffff, blockAt + 3);
  bytes.copy(framed, bytesAt);
  framed.writeUInt32LE(crc32(bytes), bytesAt + bytes.length);
  framed.writeUInt32LE(bytes.length, bytesAt + bytes.length + 4);
  return framed;
}

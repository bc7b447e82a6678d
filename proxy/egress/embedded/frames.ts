/** Where the messages of a WebSocket end (RFC 6455, 5.2), without looking into them. */

export interface Frames {
  /** Whole messages and control frames, as they came; null: more than `bytesMax` of one. */
  push(chunk: Buffer): Buffer[] | null;
  /** Of a message that is not whole yet. */
  heldCount(): number;
}

const FINAL = 0x80;
const MASKED = 0x80;
const CONTROL = 0x08;

export function createFrames(bytesMax: number): Frames {
  /** `room[start, end)` is held; a chunk that ends with a message is never copied. */
  let room: Buffer = Buffer.alloc(0);
  let start = 0;
  let end = 0;
  let isRoomOurs = false;
  /** Of what is held: what belongs to frames that are whole, of a message that is not. */
  let readCount = 0;
  let isInMessage = false;
  return { push, heldCount: () => end - start };

  function push(chunk: Buffer): Buffer[] | null {
    hold(chunk);
    const whole: Buffer[] = [];
    for (;;) {
      const held = room.subarray(start, end);
      const length = frameLength(held, readCount);
      if (length === null) break;
      if (length > bytesMax) return null;
      if (held.length - readCount < length) break;
      const first = held[readCount] ?? 0;
      readCount += length;
      if ((first & CONTROL) === 0) isInMessage = (first & FINAL) === 0;
      if (isInMessage) continue;
      whole.push(held.subarray(0, readCount));
      start += readCount;
      readCount = 0;
    }
    return end - start > bytesMax ? null : whole;
  }

  /** Room is made twice as large as is needed: of many small chunks each is copied but twice. */
  function hold(chunk: Buffer): void {
    const heldCount = end - start;
    if (heldCount === 0) {
      room = chunk;
      start = 0;
      end = chunk.length;
      isRoomOurs = false;
      return;
    }
    if (!isRoomOurs || end + chunk.length > room.length) {
      const larger = Buffer.allocUnsafe(2 * (heldCount + chunk.length));
      room.copy(larger, 0, start, end);
      room = larger;
      start = 0;
      end = heldCount;
      isRoomOurs = true;
    }
    chunk.copy(room, end);
    end += chunk.length;
  }
}

/** With its head; null while that has not come. */
function frameLength(bytes: Buffer, at: number): number | null {
  const second = bytes[at + 1];
  if (second === undefined) return null;
  const maskCount = (second & MASKED) === 0 ? 0 : 4;
  const short = second & 0x7f;
  if (short < 126) return 2 + maskCount + short;
  const lengthCount = short === 126 ? 2 : 8;
  if (bytes.length < at + 2 + lengthCount) return null;
  const length = short === 126 ? bytes.readUInt16BE(at + 2) : Number(bytes.readBigUInt64BE(at + 2));
  return 2 + lengthCount + maskCount + length;
}

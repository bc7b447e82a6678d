/** Where the messages of a WebSocket end (RFC 6455, 5.2), without looking into them. */

export interface Frames {
  /** Whole messages and control frames, as they came; null: more than `bytesMax` of one. */
  push(chunk: Buffer): Buffer[] | null;
}

const FINAL = 0x80;
const MASKED = 0x80;
const CONTROL = 0x08;

export function createFrames(bytesMax: number): Frames {
  let held: Buffer = Buffer.alloc(0);
  /** Of `held`: what belongs to frames that are whole, of a message that is not. */
  let readCount = 0;
  let isInMessage = false;
  return { push };

  function push(chunk: Buffer): Buffer[] | null {
    held = held.length === 0 ? chunk : Buffer.concat([held, chunk]);
    const whole: Buffer[] = [];
    for (;;) {
      const length = frameLength(held, readCount);
      if (length === null) break;
      if (length > bytesMax) return null;
      if (held.length - readCount < length) break;
      const first = held[readCount] ?? 0;
      readCount += length;
      if ((first & CONTROL) === 0) isInMessage = (first & FINAL) === 0;
      if (isInMessage) continue;
      whole.push(held.subarray(0, readCount));
      held = held.subarray(readCount);
      readCount = 0;
    }
    return held.length > bytesMax ? null : whole;
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

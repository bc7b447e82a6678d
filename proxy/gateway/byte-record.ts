/**
 * The beginning of what passes, in one growing buffer: a stream's chunks, each kept as it came,
 * would take five times the memory of what they hold.
 */
export interface ByteRecord {
  add(chunk: Buffer): void;
  bytes(): Buffer;
  /** How much more passed than was kept. */
  beyondBytes(): number;
}

const FIRST_BYTES = 2_048;

export function createByteRecord(bytesMax: number): ByteRecord {
  let kept: Buffer = Buffer.alloc(0);
  let length = 0;
  let beyond = 0;
  return { add, bytes: () => kept.subarray(0, length), beyondBytes: () => beyond };

  function add(chunk: Buffer): void {
    const room = bytesMax - length;
    if (chunk.length > room) {
      beyond += chunk.length - room;
      if (room > 0) keep(chunk.subarray(0, room));
      return;
    }
    keep(chunk);
  }

  function keep(chunk: Buffer): void {
    if (length + chunk.length > kept.length) {
      const wanted = Math.max(FIRST_BYTES, 2 * kept.length, length + chunk.length);
      // Not from the shared pool, which a small part of it would keep alive.
      const grown = Buffer.allocUnsafeSlow(Math.min(wanted, bytesMax));
      kept.copy(grown, 0, 0, length);
      kept = grown;
    }
    chunk.copy(kept, length);
    length += chunk.length;
  }
}

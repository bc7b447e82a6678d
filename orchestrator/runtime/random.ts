/** Randomness as a dependency: nothing but this file draws it. */
import { randomBytes, randomFillSync } from "node:crypto";

export interface Random {
  /** `length` bytes, unpredictable from `systemRandom`, repeatable from `seededRandom`. */
  bytes(length: number): Uint8Array;
  /** An integer from 0 (inclusive) to `limit` (exclusive, at most 2^32). */
  below(limit: number): number;
}

/** Drawn ahead: one call of the system for hundreds of ids. */
const POOL_BYTES = 8_192;
const POOLED_MAX = 64;

export const systemRandom: Random = createSystemRandom();

function createSystemRandom(): Random {
  const pool = new Uint8Array(POOL_BYTES);
  let at = POOL_BYTES;
  return { bytes, below: (limit) => belowOf(() => randomBytes(4).readUInt32LE(0), limit) };

  /** No byte of the pool is given out twice, or stays in it. */
  function bytes(length: number): Uint8Array {
    if (length > POOLED_MAX) return randomBytes(length);
    if (at + length > POOL_BYTES) {
      randomFillSync(pool);
      at = 0;
    }
    const drawn = pool.slice(at, at + length);
    pool.fill(0, at, at + length);
    at += length;
    return drawn;
  }
}

/** xorshift128 (Marsaglia 2003), seeded by splitmix32: for assignment and tests, never for keys. */
export function seededRandom(seed: number): Random {
  let mix = seed >>> 0;
  const state = Uint32Array.from({ length: 4 }, () => {
    mix = (mix + 0x9e3779b9) >>> 0;
    let z = mix;
    z = Math.imul(z ^ (z >>> 16), 0x21f0aaad);
    z = Math.imul(z ^ (z >>> 15), 0x735a2d97);
    return (z ^ (z >>> 15)) >>> 0;
  });

  function next(): number {
    const [x = 0, y = 0, z = 0, w = 1] = state;
    const t = (x ^ (x << 11)) >>> 0;
    const drawn = (w ^ (w >>> 19) ^ t ^ (t >>> 8)) >>> 0;
    state.set([y, z, w, drawn]);
    return drawn;
  }

  return {
    bytes: (length) => Uint8Array.from({ length }, () => next() & 0xff),
    below: (limit) => belowOf(next, limit),
  };
}

/** Draws again what would favour the low results of a plain modulo. */
function belowOf(drawUint32: () => number, limit: number): number {
  if (!Number.isSafeInteger(limit) || limit < 1 || limit > 2 ** 32) {
    throw new RangeError("below: limit must be an integer from 1 to 2^32");
  }
  const fair = 2 ** 32 - (2 ** 32 % limit);
  let drawn = drawUint32();
  while (drawn >= fair) drawn = drawUint32();
  return drawn % limit;
}

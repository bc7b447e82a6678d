/**
 * Arrays as PostgreSQL takes them in binary (`array_recv` and the types' own `…_recv`), for
 * statements of many rows: as text each value would be escaped, which took longer than all else of
 * such a statement.
 */

export type ArrayType = "text" | "bigint" | "integer" | "boolean" | "timestamptz";

/** Of `timestamptz`: milliseconds since 1970. A text may be given as parts of its UTF-8. */
export type Element = string | readonly Buffer[] | number | boolean | null;

const OIDS = { text: 25, bigint: 20, integer: 23, boolean: 16, timestamptz: 1184 } as const;
/** 2000-01-01, from which the server counts. */
const EPOCH_MS = 946_684_800_000;
const HEAD_BYTES = 20;
/** Enough for a number, and for what is not ASCII of a few texts. */
const ELEMENT_BYTES = 16;
const FIRST_BYTES = 1_024;
const WORD = 2 ** 32;
/** Integers of these many bytes are from -limit to below it. */
const INTEGER_LIMIT = 2 ** 31;
const BIGINT_LIMIT = 2 ** 63;

/** A value that is none of its type: what the server would have refused, had it been written. */
export class UnfitElement extends Error {}

/**
 * The value of a parameter that is cast to an array of `type`. `name`: what it is, for a refusal.
 *
 * @throws UnfitElement for a number that the type does not hold, or an element of another type.
 */
export function binaryArray(
  type: ArrayType,
  elements: readonly Element[],
  name: string = type,
): Buffer {
  let bytes = Buffer.allocUnsafe(elements.reduce(addLength, FIRST_BYTES));
  let at = HEAD_BYTES;
  let hasNull = false;
  for (const element of elements) {
    if (element === null) {
      hasNull = true;
      makeRoom(4);
      at = bytes.writeInt32BE(-1, at);
    } else if ((typeof element === "object" || typeof element === "string") !== (type === "text")) {
      throw unfit(element);
    } else if (typeof element === "object") {
      const start = at + 4;
      makeRoom(element.reduce(addBytes, 4));
      at = start;
      for (const part of element) at += part.copy(bytes, at);
      bytes.writeInt32BE(at - start, start - 4);
    } else if (typeof element === "string") {
      // Three bytes a unit at most; most texts have one.
      makeRoom(4 + element.length);
      let length = bytes.write(element, at + 4);
      // Near the end it may have been cut before a character.
      if (at + 4 + length + 3 >= bytes.length) {
        makeRoom(4 + 3 * element.length);
        length = bytes.write(element, at + 4);
      }
      bytes.writeInt32BE(length, at);
      at += 4 + length;
    } else {
      makeRoom(12);
      at = writeNumber(element);
    }
  }
  bytes.writeInt32BE(elements.length === 0 ? 0 : 1, 0);
  bytes.writeInt32BE(hasNull ? 1 : 0, 4);
  bytes.writeInt32BE(OIDS[type], 8);
  bytes.writeInt32BE(elements.length, 12);
  bytes.writeInt32BE(1, 16);
  return bytes.subarray(0, elements.length === 0 ? 12 : at);

  function makeRoom(wanted: number): void {
    if (at + wanted <= bytes.length) return;
    const grown = Buffer.allocUnsafe(Math.max(2 * bytes.length, at + wanted));
    bytes.copy(grown, 0, 0, at);
    bytes = grown;
  }

  function unfit(element: Element): UnfitElement {
    const told = typeof element === "number" ? element : `a ${typeof element}`;
    return new UnfitElement(`${name}: ${told} is no ${type}`);
  }

  function writeNumber(element: number | boolean): number {
    if (typeof element === "boolean" || type === "boolean") {
      if (typeof element !== type) throw unfit(element);
      bytes.writeInt32BE(1, at);
      return bytes.writeUInt8(Number(element), at + 4);
    }
    const value = type === "timestamptz" ? (element - EPOCH_MS) * 1_000 : element;
    const limit = type === "integer" ? INTEGER_LIMIT : BIGINT_LIMIT;
    if (!Number.isInteger(value) || value < -limit || value >= limit) throw unfit(element);
    if (type === "integer") {
      bytes.writeInt32BE(4, at);
      return bytes.writeInt32BE(value, at + 4);
    }
    bytes.writeInt32BE(8, at);
    const high = Math.floor(value / WORD);
    bytes.writeInt32BE(high, at + 4);
    return bytes.writeUInt32BE(value - high * WORD, at + 8);
  }
}

function addLength(sum: number, element: Element): number {
  if (typeof element === "string") return sum + element.length + ELEMENT_BYTES;
  if (typeof element !== "object" || element === null) return sum + ELEMENT_BYTES;
  return element.reduce(addBytes, sum + ELEMENT_BYTES);
}

function addBytes(sum: number, { length }: Buffer): number {
  return sum + length;
}

/**
 * Byte strings looked for in a stream, over the borders of its chunks. What is given on at once is
 * all but the bytes at the end that may be the beginning of one: a stream of events is not held up.
 */
import type { Scrub } from "../guard.ts";

export interface Scrubber {
  /** What may go on now. */
  push(chunk: Buffer): Buffer;
  /** The rest, when no more comes. */
  end(): Buffer;
}

export interface Watch {
  /** What may go on now; null: one of them is in it, and nothing of this chunk may go on. */
  push(chunk: Buffer): Buffer | null;
  end(): Buffer;
}

const NOTHING = Buffer.alloc(0);

/** Puts placeholders in the place of values; the longest first, where one holds another. */
export function createScrubber(scrubs: readonly Scrub[]): Scrubber {
  const needles = scrubs
    .filter(({ value }) => value !== "")
    .toSorted((a, b) => b.value.length - a.value.length)
    .map(({ value, placeholder }) => ({
      value: Buffer.from(value),
      placeholder: Buffer.from(placeholder),
    }));
  const values = needles.map(({ value }) => value);
  let held: Buffer = NOTHING;
  return { push, end };

  function push(chunk: Buffer): Buffer {
    const text = held.length === 0 ? chunk : Buffer.concat([held, chunk]);
    const pieces: Buffer[] = [];
    let at = 0;
    for (;;) {
      const found = earliest(text, at);
      if (found === null) break;
      pieces.push(text.subarray(at, found.at), found.needle.placeholder);
      at = found.at + found.needle.value.length;
    }
    const keep = beginningAtEnd(text.subarray(at), values);
    held = Buffer.from(text.subarray(text.length - keep));
    const rest = text.subarray(at, text.length - keep);
    return pieces.length === 0 ? rest : Buffer.concat([...pieces, rest]);
  }

  function earliest(text: Buffer, from: number) {
    let best: { at: number; needle: (typeof needles)[number] } | null = null;
    for (const needle of needles) {
      const at = text.indexOf(needle.value, from);
      if (at !== -1 && (best === null || at < best.at)) best = { at, needle };
    }
    return best;
  }

  function end(): Buffer {
    const rest = held;
    held = NOTHING;
    return rest;
  }
}

/** The text of a header, scrubbed. */
export function scrubText(text: string, scrubs: readonly Scrub[]): string {
  let scrubbed = text;
  for (const { value, placeholder } of scrubs) {
    if (value !== "") scrubbed = scrubbed.replaceAll(value, placeholder);
  }
  return scrubbed;
}

/** Lets through all but these byte strings (latin1). */
export function createWatch(given: readonly string[]): Watch {
  const values = given.filter((text) => text !== "").map((text) => Buffer.from(text, "latin1"));
  let held: Buffer = NOTHING;
  return { push, end };

  function push(chunk: Buffer): Buffer | null {
    if (values.length === 0) return chunk;
    const text = held.length === 0 ? chunk : Buffer.concat([held, chunk]);
    if (values.some((value) => text.includes(value))) return null;
    const keep = beginningAtEnd(text, values);
    if (keep === 0) {
      held = NOTHING;
      return text;
    }
    held = Buffer.from(text.subarray(text.length - keep));
    return text.subarray(0, text.length - keep);
  }

  function end(): Buffer {
    const rest = held;
    held = NOTHING;
    return rest;
  }
}

/** How many bytes at the end of `text` may be the beginning of one of the values. */
function beginningAtEnd(text: Buffer, values: readonly Buffer[]): number {
  let most = 0;
  for (const value of values) {
    const first = value[0] ?? 0;
    let at = text.indexOf(first, Math.max(0, text.length - value.length + 1));
    while (at !== -1 && text.length - at > most) {
      const length = text.length - at;
      if (text.compare(value, 0, length, at) === 0) most = length;
      at = text.indexOf(first, at + 1);
    }
  }
  return most;
}

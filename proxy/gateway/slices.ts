/**
 * Reservations that grow with an answer: a stream of an own model begins with its input and a first
 * slice of its output reserved, and further slices are reserved ahead of it, each as large as all
 * before together. So a large ceiling holds back from others only a small multiple of what is used.
 *
 * Invariant: `reach` is true only for output that is reserved. Once the whole ceiling is, that is
 * all that the server may write, and a count of bytes must not cut an answer that is paid for.
 */
import type { HeldReservation } from "./reservations.ts";

/**
 * Reserves `wantedTokens` of output, or as much of it as is affordable; null when not even
 * `leastTokens` are, or nobody can tell. Never rejects.
 */
export type ReserveOutput = (
  wantedTokens: number,
  leastTokens: number,
) => Promise<{ reservations: HeldReservation[]; outputTokens: number } | null>;

export interface Slices {
  /**
   * Whether so many output tokens, of all answers together, are reserved; asks for more in time.
   *
   * @param isExact whether they are the server's own count; else they are bytes.
   */
  reach(tokens: number, isExact: boolean): boolean;
  /** Resolves when the extension that is under way is decided; at once when there is none. */
  decided(): Promise<void>;
  /** How many output tokens are reserved. */
  paidTokens(): number;
  /** Begins no more; every reservation that was made, once none is under way. */
  close(): Promise<HeldReservation[]>;
}

/** Doubling, from a thousand tokens these are more than any model's context. */
const SLICES_MAX = 16;
/** An extension is asked for while this much, or a quarter of all, is left. */
const AHEAD_TOKENS = 512;
/** More than a vocabulary's longest runs: a server beyond it does not keep its ceiling. */
const BYTES_PER_TOKEN_MAX = 64;
/** A smaller slice is not worth its two writes. */
const SLICE_TOKENS_MIN = 16;

/**
 * @param first what is held already, for `firstTokens` of output.
 * @param ceilingTokens of all answers together: what is written into the request.
 */
export function createSlices(
  reserve: ReserveOutput,
  first: readonly HeldReservation[],
  firstTokens: number,
  ceilingTokens: number,
): Slices {
  const held = [...first];
  let paid = firstTokens;
  let made = 1;
  let running: Promise<void> | null = null;
  let isClosed = false;
  /** Beyond so many generated tokens an extension is due. */
  let dueAt = dueFor(0);
  return { reach, decided, paidTokens: () => paid, close };

  function reach(tokens: number, isExact: boolean): boolean {
    if (tokens > dueAt) extend(tokens);
    if (isExact || paid < ceilingTokens) return tokens <= paid;
    return tokens <= ceilingTokens * BYTES_PER_TOKEN_MAX;
  }

  function extend(generated: number): void {
    if (running !== null || isClosed || made >= SLICES_MAX || paid >= ceilingTokens) return;
    const wanted = Math.min(ceilingTokens - paid, paid);
    running = reserve(wanted, Math.min(wanted, SLICE_TOKENS_MIN)).then((extension) => {
      running = null;
      if (extension !== null) {
        held.push(...extension.reservations);
        paid += extension.outputTokens;
        made++;
      }
      dueAt = dueFor(generated);
    });
  }

  /** After a refusal it is asked again when half of what was left then is used, and so on. */
  function dueFor(generated: number): number {
    const left = paid - generated;
    const ahead = Math.max(AHEAD_TOKENS, Math.floor(paid / 4));
    return left > ahead ? paid - ahead : paid - Math.floor(left / 2) - 1;
  }

  async function decided(): Promise<void> {
    await running;
  }

  async function close(): Promise<HeldReservation[]> {
    isClosed = true;
    await running;
    return held;
  }
}

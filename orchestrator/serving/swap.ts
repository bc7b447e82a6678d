/**
 * Whose turn it is on GPUs that do not hold everything that is up. A unit is what is awake
 * together: a pair, or one side of a pair whose models alternate. Pure.
 *
 * A unit that works keeps its turn until another has waited for long, so that swaps are few; who
 * has waited longest is next, so that nobody starves.
 */
import type { EpochMs } from "../runtime/clock.ts";

export interface Unit {
  readonly id: string;
  readonly pair: string;
  readonly isAwake: boolean;
  /** It is where it should be, but for what failed: ready where awake, else off the GPUs. */
  readonly isSettled: boolean;
  /** It answers calls, or did a moment ago. */
  readonly isBusy: boolean;
  /** Since when somebody waits for it; null: nobody does. */
  readonly waitingSinceMs: EpochMs | null;
  /** All of it was given up: it gets no turn. */
  readonly isFailed: boolean;
  /** From asleep to answering. */
  readonly swapMs: number;
}

export interface SwapOptions {
  /**
   * A busy unit keeps its turn for this long, or four times its own swap where that is longer. An
   * idle one keeps it from another pair for this long, or once its own swap.
   */
  turnMinMs: number;
  /** What another waits before a busy unit gives way to it. */
  waitMaxMs: number;
}

export const SWAP_DEFAULTS: SwapOptions = { turnMinMs: 20_000, waitMaxMs: 30_000 };

/** A turn is at least so many times as long as what it takes to begin. */
const TURNS_A_SWAP = 4;

/** The unit that alone is awake from now on; null: all stays as it is. */
export function nextTurn(
  units: readonly Unit[],
  { nowMs, turnSinceMs }: { nowMs: EpochMs; turnSinceMs: EpochMs },
  options: SwapOptions,
): string | null {
  const usable = units.filter(({ isFailed }) => !isFailed);
  const awake = usable.filter(({ isAwake }) => isAwake);
  const current =
    awake.find(({ isBusy }) => isBusy) ?? awake.find(({ isSettled }) => isSettled) ?? awake[0];
  // Two were given a turn at the same moment: one keeps it.
  if (current !== undefined && awake.length > 1) return current.id;
  const [next] = usable
    .filter(({ isAwake }) => !isAwake)
    .toSorted((one, other) => (isBefore(one, other) ? -1 : 1));
  if (next === undefined) return null;
  if (current === undefined) return next.id;
  if (!current.isSettled || next.waitingSinceMs === null) return null;
  return keptMs(current, next, { nowMs, turnSinceMs }, options) === 0 ? next.id : null;
}

/** How long the turn of `current` is still kept from `other`. */
function keptMs(
  current: Unit,
  other: Unit,
  { nowMs, turnSinceMs }: { nowMs: EpochMs; turnSinceMs: EpochMs },
  options: SwapOptions,
): number {
  const hadMs = nowMs - turnSinceMs;
  if (!current.isBusy) {
    // The sides of one pair call each other; another pair is let in when the swap has paid.
    if (current.pair === other.pair) return 0;
    return Math.max(0, Math.max(options.turnMinMs, current.swapMs) - hadMs);
  }
  const turnMs = Math.max(options.turnMinMs, TURNS_A_SWAP * current.swapMs);
  const waitedMs = other.waitingSinceMs === null ? 0 : nowMs - other.waitingSinceMs;
  return Math.max(0, turnMs - hadMs, options.waitMaxMs - waitedMs);
}

/**
 * Until a unit answers, from what is known: how long its turn is still kept from it, and its swap.
 * Null where one before it is in the middle of a change whose end nobody knows.
 */
export function forecastWaitMs(
  units: readonly Unit[],
  id: string,
  { nowMs, turnSinceMs }: { nowMs: EpochMs; turnSinceMs: EpochMs },
  options: SwapOptions,
): number | null {
  const unit = units.find((each) => each.id === id);
  if (unit === undefined || unit.isFailed) return null;
  if (unit.isAwake) return unit.isSettled ? 0 : null;
  const current = units.find(({ isAwake, isFailed }) => isAwake && !isFailed);
  if (current === undefined) return unit.swapMs;
  const kept = keptMs(current, unit, { nowMs, turnSinceMs }, options);
  if (!current.isBusy) return kept + unit.swapMs;
  if (!current.isSettled) return null;
  const before = units.filter(
    (each) => !each.isAwake && !each.isFailed && each.id !== id && isBefore(each, unit),
  );
  const others = before.map(({ swapMs }) => {
    return swapMs + Math.max(options.turnMinMs, TURNS_A_SWAP * swapMs, options.waitMaxMs);
  });
  return others.reduce((sum, ms) => sum + ms, kept + unit.swapMs);
}

/** Who has waited longer; of those who wait for nothing, any order that stays. */
function isBefore(one: Unit, other: Unit): boolean {
  const never = Number.MAX_SAFE_INTEGER;
  const [a, b] = [one.waitingSinceMs ?? never, other.waitingSinceMs ?? never];
  return a === b ? one.id < other.id : a < b;
}

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
  readonly isAwake: boolean;
  /** It is where it should be: ready where it is awake, off the GPUs where it is not. */
  readonly isSettled: boolean;
  /** It answers calls, or did a moment ago. */
  readonly isBusy: boolean;
  /** Since when somebody waits for it; null: nobody does. */
  readonly waitingSinceMs: EpochMs | null;
  /** It was given up: it gets no turn. */
  readonly isFailed: boolean;
  /** From asleep to answering. */
  readonly swapMs: number;
}

export interface SwapOptions {
  /** A busy unit keeps its turn for this long, or four times its own swap where that is longer. */
  turnMinMs: number;
  /** What another waits before a busy unit gives way to it. */
  waitMaxMs: number;
}

export const SWAP_DEFAULTS: SwapOptions = { turnMinMs: 20_000, waitMaxMs: 30_000 };

/** A turn is at least so many times as long as what it takes to begin. */
const TURNS_A_SWAP = 4;

/** The unit whose turn begins now; null: all stays as it is. */
export function nextTurn(
  units: readonly Unit[],
  { nowMs, turnSinceMs }: { nowMs: EpochMs; turnSinceMs: EpochMs },
  options: SwapOptions,
): string | null {
  const usable = units.filter(({ isFailed }) => !isFailed);
  const current = usable.find(({ isAwake }) => isAwake);
  const [next] = usable
    .filter(({ isAwake }) => !isAwake)
    .toSorted((one, other) => (isBefore(one, other) ? -1 : 1));
  if (next === undefined) return null;
  if (current === undefined) return next.id;
  if (!current.isSettled || next.waitingSinceMs === null) return null;
  if (!current.isBusy) return next.id;
  const turnMs = Math.max(options.turnMinMs, TURNS_A_SWAP * current.swapMs);
  const isTired = nowMs - turnSinceMs >= turnMs;
  return isTired && nowMs - next.waitingSinceMs >= options.waitMaxMs ? next.id : null;
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
  if (current === undefined || !current.isBusy) return unit.swapMs;
  if (!current.isSettled) return null;
  const turnMs = Math.max(options.turnMinMs, TURNS_A_SWAP * current.swapMs);
  const waited = unit.waitingSinceMs === null ? 0 : nowMs - unit.waitingSinceMs;
  const kept = Math.max(0, turnMs - (nowMs - turnSinceMs), options.waitMaxMs - waited);
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

/**
 * What a trial will probably still cost, from what is known of it and of trials like it. Pure.
 *
 * An interval is stated with its confidence, and only where there is evidence for it:
 * - Trials of the same task, agent and pair that ended by themselves, and cost more than this one
 *   has so far: of n exchangeable totals and one more, the next lies between the least and the
 *   greatest with probability (n - 1) / (n + 1). At least three.
 * - Else the trial's own calls: seen at a time that is in no way special, what is left of a thing
 *   is between a third and three times what is past with probability one half (Gott, Nature 363,
 *   315, 1993). A call's price grows with its context: least squares over the calls so far.
 * - Else nothing, said as such.
 *
 * A pair that is not loaded must be loaded again, and whoever waits for it the longest pays: the
 * upper end has that, the lower end has not.
 */
import { ceilDiv, type Nanos } from "../money.ts";

export interface Evidence {
  /** Settled costs of the trial's calls, oldest first. */
  callCostsNanos: readonly Nanos[];
  /** What swaps of models cost it so far. */
  swapNanos?: Nanos;
  /** What finished trials of the same task, agent and pair cost in all, swaps included. */
  finishedTotalsNanos: readonly Nanos[];
  /** What it may be charged for loading its pair again; 0: it is loaded, or nobody knows. */
  nextSwapNanos?: Nanos;
}

export type Forecast =
  | {
      outcome: "range";
      /** Still to be spent, beyond what was. */
      lowNanos: Nanos;
      highNanos: Nanos;
      confidencePercent: number;
      basis: "finished_trials" | "own_calls";
      /** How many trials, or calls. */
      evidenceCount: number;
    }
  | { outcome: "not_enough_evidence" };

const TRIALS_MIN = 3;
const CALLS_MIN = 3;
const OWN_CONFIDENCE_PERCENT = 50;
const LEFT_FACTOR = 3n;

/** What the trial will still cost to its end. */
export function forecastToFinish({
  callCostsNanos,
  swapNanos = 0n,
  finishedTotalsNanos,
  nextSwapNanos = 0n,
}: Evidence): Forecast {
  const spentNanos = callCostsNanos.reduce((sum, cost) => sum + cost, swapNanos);
  const comparable = finishedTotalsNanos
    .filter((total) => total > spentNanos)
    .toSorted((a, b) => (a < b ? -1 : 1));
  const [least, greatest] = [comparable[0], comparable.at(-1)];
  if (comparable.length >= TRIALS_MIN && least !== undefined && greatest !== undefined) {
    const count = comparable.length;
    return {
      outcome: "range",
      lowNanos: least - spentNanos,
      highNanos: greatest - spentNanos + nextSwapNanos,
      confidencePercent: Math.floor((100 * (count - 1)) / (count + 1)),
      basis: "finished_trials",
      evidenceCount: count,
    };
  }
  if (callCostsNanos.length < CALLS_MIN) return { outcome: "not_enough_evidence" };
  const count = BigInt(callCostsNanos.length);
  return {
    outcome: "range",
    lowNanos: costOfNext(callCostsNanos, ceilDiv(count, LEFT_FACTOR)),
    highNanos: costOfNext(callCostsNanos, count * LEFT_FACTOR) + nextSwapNanos,
    confidencePercent: OWN_CONFIDENCE_PERCENT,
    basis: "own_calls",
    evidenceCount: callCostsNanos.length,
  };
}

/**
 * What to add to a budget so that the trial probably finishes: the forecast's upper end, or as
 * much again as was spent where there is none; less what is there, and never less than the next
 * call lacks. Rounded up to a multiple of `stepNanos`, and never nothing.
 */
export function suggestTopUp(
  forecast: Forecast,
  money: {
    spentNanos: Nanos;
    availableNanos: Nanos;
    missingNanos: Nanos;
    stepNanos: Nanos;
  },
): Nanos {
  const { spentNanos, availableNanos, missingNanos, stepNanos } = money;
  const wanted = forecast.outcome === "range" ? forecast.highNanos : spentNanos;
  const lacking = wanted > availableNanos ? wanted - availableNanos : 0n;
  const least = lacking > missingNanos ? lacking : missingNanos;
  return ceilDiv(least > 0n ? least : 1n, stepNanos) * stepNanos;
}

/** The next `count` calls on the line through those so far; on their mean where that falls. */
function costOfNext(costs: readonly Nanos[], count: bigint): Nanos {
  const n = BigInt(costs.length);
  const sum = costs.reduce((total, cost) => total + cost, 0n);
  // With x = 2i - (n - 1), which sums to 0, the slope for one x is Sxy / Sxx: integers only.
  let sxy = 0n;
  let sxx = 0n;
  for (const [index, cost] of costs.entries()) {
    const x = 2n * BigInt(index) - (n - 1n);
    sxy += x * cost;
    sxx += x * x;
  }
  const growth = sxy > 0n ? sxy : 0n;
  // The x of the next calls: n + 1, n + 3, … in sum.
  const distance = count * (n + 1n) + count * (count - 1n);
  return (count * sum) / n + (growth * distance) / sxx;
}

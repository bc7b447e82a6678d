/** How much of the time workers were there: pure. */
import type { EpochMs } from "../runtime/clock.ts";

export const AVAILABILITY_TARGET = 0.99;
export const AVAILABILITY_WINDOW_MS = 30 * 86_400_000;

export interface Observed {
  joinedAtMs: EpochMs;
  /** When it said goodbye; null while it is there, or should be. */
  leftAtMs: EpochMs | null;
  /** `endedAtMs` null: it is silent still. */
  outages: readonly { startedAtMs: EpochMs; endedAtMs: EpochMs | null }[];
}

/**
 * The part of the observed time within `window` that these workers answered, from 0 to 1: of each,
 * from when it joined (or the window's start) to when it left (or the window's end). Outages that
 * overlap count once. Null when nothing was observed.
 */
export function availability(
  workers: readonly Observed[],
  window: { startMs: EpochMs; endMs: EpochMs },
): number | null {
  let observedMs = 0;
  let silentMs = 0;
  for (const { joinedAtMs, leftAtMs, outages } of workers) {
    const startMs = Math.max(joinedAtMs, window.startMs);
    const endMs = Math.min(leftAtMs ?? window.endMs, window.endMs);
    if (endMs <= startMs) continue;
    observedMs += endMs - startMs;
    let countedToMs = startMs;
    for (const outage of outages.toSorted((a, b) => a.startedAtMs - b.startedAtMs)) {
      const fromMs = Math.max(outage.startedAtMs, countedToMs);
      const toMs = Math.min(outage.endedAtMs ?? endMs, endMs);
      if (toMs <= fromMs) continue;
      silentMs += toMs - fromMs;
      countedToMs = toMs;
    }
  }
  return observedMs === 0 ? null : (observedMs - silentMs) / observedMs;
}

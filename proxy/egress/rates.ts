/** How often rules were used: a bucket for each rule of each trial, which fills by the clock. */
import type { Clock, EpochMs } from "../../orchestrator/runtime/clock.ts";

const MINUTE_MS = 60_000;
const BUCKETS_MAX = 20_000;

export function createRates(clock: Clock) {
  const buckets = new Map<string, { left: number; atMs: EpochMs }>();
  return { take };

  /** Takes one of `perMinute`; how many milliseconds until there is one, 0 when there was. */
  function take(key: string, perMinute: number): number {
    const now = clock.now();
    const { left: before, atMs } = buckets.get(key) ?? { left: perMinute, atMs: now };
    const passedMs = Math.max(0, now - atMs);
    const left = Math.min(perMinute, before + (passedMs * perMinute) / MINUTE_MS);
    if (buckets.size >= BUCKETS_MAX) buckets.clear();
    buckets.set(key, { left: left >= 1 ? left - 1 : left, atMs: now });
    return left >= 1 ? 0 : Math.ceil(((1 - left) * MINUTE_MS) / perMinute);
  }
}

/** What was read a moment ago, so that a hot path need not read it for each call. */
import type { Clock, EpochMs } from "./clock.ts";

const KEYS_MAX = 10_000;

/**
 * `load`, remembered by its key for `keptMs`. Those who ask at once share one load; one that fails
 * is not kept.
 */
export function createKept<Key, Value>(
  load: (key: Key) => Promise<Value>,
  keptMs: number,
  clock: Clock,
): (key: Key) => Promise<Value> {
  const kept = new Map<Key, { value: Promise<Value>; untilMs: EpochMs }>();

  return (key) => {
    const now = clock.now();
    const known = kept.get(key);
    // A clock that was set back must not make it last.
    if (known !== undefined && now < known.untilMs && now >= known.untilMs - keptMs) {
      return known.value;
    }
    if (kept.size >= KEYS_MAX) kept.clear();
    const value = load(key);
    const entry = { value, untilMs: now + keptMs };
    kept.set(key, entry);
    value.catch(() => {
      if (kept.get(key) === entry) kept.delete(key);
    });
    return value;
  };
}

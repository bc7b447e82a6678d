/** Waiting for what another process does: looks again until it holds, or fails by a deadline. */
import assert from "node:assert/strict";

const LOOK_EVERY_MS = 5;

/** The first value of `look` that `holds`; fails with the last one after `withinMs`. */
export async function eventually<Value>(
  look: () => Promise<Value> | Value,
  holds: (value: Value) => boolean,
  withinMs = 10_000,
): Promise<Value> {
  const endMs = performance.now() + withinMs;
  for (;;) {
    const value = await look();
    if (holds(value)) return value;
    if (performance.now() > endMs)
      assert.fail(`not in time; the last was ${JSON.stringify(value)}`);
    await new Promise((resolve) => setTimeout(resolve, LOOK_EVERY_MS));
  }
}

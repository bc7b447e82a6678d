/** Goal: a key's calls are counted in and out; a budget that is gone stays gone until resumed. */
import assert from "node:assert/strict";
import test from "node:test";
import { systemClock } from "../../../orchestrator/runtime/clock.ts";
import { createKeyStates } from "../../../proxy/gateway/key-state.ts";

const FACTS = {
  unit: "money",
  budget: "account_1",
  requiredNanos: 2n,
  availableNanos: 1n,
} as const;

test("calls of a key are limited, each key for itself", () => {
  const states = createKeyStates(2, systemClock);
  assert.deepEqual(
    [states.enter("key_a"), states.enter("key_a"), states.enter("key_a")],
    [true, true, false],
  );
  assert.equal(states.enter("key_b"), true);
  assert.equal(states.inFlight(), 3);
  states.leave("key_a");
  assert.equal(states.enter("key_a"), true);
  for (const key of ["key_a", "key_a", "key_b"] as const) states.leave(key);
  assert.equal(states.inFlight(), 0);
});

test("exhaustion is first once, and the ledger is asked again once a second", () => {
  const clock = { ms: 10_000, now: () => clock.ms };
  const states = createKeyStates(1, clock);
  assert.equal(states.exhaust("key_a", FACTS), true);
  assert.equal(states.exhaust("key_a", FACTS), false);
  assert.equal(states.exhaustion("key_a")?.requiredNanos, 2n);
  assert.equal(states.exhaustion("key_b"), null);

  const dueAt = (ms: number) => {
    clock.ms = ms;
    return states.isDue("key_a");
  };
  assert.deepEqual(
    [10_999, 11_000, 11_001, 12_000].map(dueAt),
    [false, true, false, true],
    "a key's calls ask once a second, all together",
  );
  assert.equal(dueAt(5_000), true, "a clock that was set back does not put it off");
  assert.equal(states.isDue("key_b"), false);
  states.restore("key_a");
  assert.equal(states.exhaustion("key_a"), null);
  assert.equal(states.exhaust("key_a", FACTS), true);
});

/** Goal: a key's calls are counted in and out; a budget that is gone stays gone until resumed. */
import assert from "node:assert/strict";
import test from "node:test";
import { createKeyStates } from "../../../proxy/gateway/key-state.ts";

const FACTS = {
  unit: "money",
  budget: "account_1",
  requiredNanos: 2n,
  availableNanos: 1n,
} as const;

test("calls of a key are limited, each key for itself", () => {
  const states = createKeyStates(2);
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

test("exhaustion is first once, and ends with its trial's resumption", () => {
  const states = createKeyStates(1);
  assert.equal(states.exhaust("key_a", "trial_1", FACTS), true);
  assert.equal(states.exhaust("key_a", "trial_1", FACTS), false);
  assert.equal(states.exhaustion("key_a")?.requiredNanos, 2n);
  states.resume("trial_2");
  assert.notEqual(states.exhaustion("key_a"), null);
  states.resume("trial_1");
  assert.equal(states.exhaustion("key_a"), null);
});

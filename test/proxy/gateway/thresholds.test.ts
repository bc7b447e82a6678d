/** Goal: each mark is told once, in any order of looks, and again after a top-up. */
import assert from "node:assert/strict";
import test from "node:test";
import { createThresholds } from "../../../proxy/gateway/thresholds.ts";

function balance(spentNanos: bigint, fundedNanos = 100n) {
  const availableNanos = fundedNanos - spentNanos;
  const rest = { owner: "trial/1", currency: "CAD", reservedNanos: 0n, availableNanos };
  return { accountId: "account_1" as const, spentNanos, fundedNanos, ...rest };
}

test("marks", () => {
  const thresholds = createThresholds();
  assert.deepEqual(thresholds.passed(balance(79n), 79n), []);
  assert.deepEqual(thresholds.passed(balance(92n), 13n), [80, 90]);
  assert.deepEqual(thresholds.passed(balance(85n), 3n), []);
  assert.deepEqual(thresholds.passed(balance(93n), 1n), []);
  assert.deepEqual(thresholds.passed(balance(100n), 7n), [95]);
  assert.deepEqual(thresholds.passed(balance(110n, 200n), 10n), []);
  assert.deepEqual(thresholds.passed(balance(170n, 200n), 60n), [80]);
});

test("a first look knows what the call before it had spent", () => {
  assert.deepEqual(createThresholds().passed(balance(96n), 1n), []);
  assert.deepEqual(createThresholds().passed(balance(96n), 10n), [90, 95]);
});

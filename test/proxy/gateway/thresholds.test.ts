/** Goal: each mark is told once, in any order of looks, and again after a top-up. */
import assert from "node:assert/strict";
import test from "node:test";
import { createThresholds } from "../../../proxy/gateway/thresholds.ts";

const BUDGET = "account_1" as const;

function balance(spentNanos: bigint, fundedNanos = 100n) {
  const availableNanos = fundedNanos - spentNanos;
  return { spentNanos, fundedNanos, reservedNanos: 0n, availableNanos };
}

test("marks", () => {
  const thresholds = createThresholds();
  assert.deepEqual(thresholds.passed(BUDGET, balance(79n), 79n), [50]);
  assert.deepEqual(thresholds.passed(BUDGET, balance(92n), 13n), [80, 90]);
  assert.deepEqual(thresholds.passed(BUDGET, balance(85n), 3n), []);
  assert.deepEqual(thresholds.passed(BUDGET, balance(93n), 1n), []);
  assert.deepEqual(thresholds.passed(BUDGET, balance(100n), 7n), [95, 100]);
  assert.deepEqual(thresholds.passed(BUDGET, balance(110n, 200n), 10n), []);
  assert.deepEqual(thresholds.passed(BUDGET, balance(170n, 200n), 60n), [80]);
});

test("a first look knows what the call before it had spent", () => {
  assert.deepEqual(createThresholds().passed(BUDGET, balance(96n), 1n), []);
  assert.deepEqual(createThresholds().passed(BUDGET, balance(96n), 10n), [90, 95]);
});

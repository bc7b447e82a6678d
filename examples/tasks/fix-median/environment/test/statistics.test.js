import assert from "node:assert/strict";
import { test } from "node:test";
import { mean, median, spread } from "../src/statistics.js";

test("mean", () => {
  assert.equal(mean([1, 2, 3, 6]), 3);
});

test("median of an odd number of values is the middle one", () => {
  assert.equal(median([9, 1, 5]), 5);
});

test("median of an even number of values is the mean of the middle two", () => {
  assert.equal(median([4, 1, 3, 2]), 2.5);
});

test("spread", () => {
  assert.equal(spread([4, -1, 3]), 5);
});

test("no values is an error", () => {
  for (const statistic of [mean, median, spread]) assert.throws(() => statistic([]), RangeError);
});

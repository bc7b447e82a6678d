import assert from "node:assert/strict";
import { join } from "node:path";
import { test } from "node:test";
import { pathToFileURL } from "node:url";

const source = pathToFileURL(join(process.cwd(), "src/statistics.js"));
const { mean, median, spread } = await import(source.href);

test("an even number of values", () => {
  assert.equal(median([4, 1, 3, 2]), 2.5);
  assert.equal(median([1, 2]), 1.5);
});

test("an odd number of values", () => {
  assert.equal(median([7]), 7);
  assert.equal(median([9, 1, 5]), 5);
});

test("values are ordered as numbers, not as words", () => {
  assert.equal(median([10, 9, 100]), 10);
  assert.equal(median([-10, 2, -1, 30]), 0.5);
});

test("the list that was given stays as it was", () => {
  const values = [3, 1, 2];
  median(values);
  assert.deepEqual(values, [3, 1, 2]);
});

test("the rest still works", () => {
  assert.throws(() => median([]), RangeError);
  assert.equal(mean([1, 2, 3]), 2);
  assert.equal(spread([1, 5]), 4);
});

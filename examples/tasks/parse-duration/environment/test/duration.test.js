import assert from "node:assert/strict";
import { test } from "node:test";
import { parseDuration } from "../src/duration.js";

test("one unit", () => {
  assert.equal(parseDuration("250ms"), 250);
  assert.equal(parseDuration("2d"), 172_800_000);
});

test("several units", () => {
  assert.equal(parseDuration("1h30m"), 5_400_000);
});

test("what is no duration", () => {
  assert.throws(() => parseDuration("soon"), RangeError);
});

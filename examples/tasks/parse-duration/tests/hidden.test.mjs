import assert from "node:assert/strict";
import { join } from "node:path";
import { test } from "node:test";
import { pathToFileURL } from "node:url";

const source = pathToFileURL(join(process.cwd(), "src/duration.js"));
const { parseDuration } = await import(source.href);

test("several units", () => {
  assert.equal(parseDuration("1h30m"), 5_400_000);
  assert.equal(parseDuration("1d2h3m4s5ms"), 93_784_005);
});

test("in any order, with spaces", () => {
  assert.equal(parseDuration("30m 1h"), 5_400_000);
  assert.equal(parseDuration(" 2s "), 2_000);
});

test("decimal numbers", () => {
  assert.equal(parseDuration("1.5h"), 5_400_000);
});

test("a text that is not wholly a duration", () => {
  for (const text of ["", "soon", "1h later", "in 5m", "10", "1x"]) {
    assert.throws(() => parseDuration(text), RangeError, text);
  }
});

/** Goal: texts are cut on characters' edges, never lost, and counted by a rule tests can repeat. */
import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { pieces, textPrefix, tokensOf } from "../../../models/scripted/dialect.ts";

const text = fc.string({ unit: "binary", maxLength: 400 });

test("pieces make up the text, and are at least three where it has three characters", () => {
  fc.assert(
    fc.property(text, (whole) => {
      const cut = pieces(whole);
      assert.equal(cut.join(""), whole);
      assert.ok(cut.every((piece) => piece !== ""));
      assert.ok(cut.length >= Math.min(3, Array.from(whole).length));
    }),
  );
});

test("a prefix fits, is a prefix, and one more character would not fit", () => {
  fc.assert(
    fc.property(text, fc.nat(500), (whole, bytes) => {
      const prefix = textPrefix(whole, bytes);
      assert.ok(whole.startsWith(prefix));
      assert.ok(Buffer.byteLength(prefix) <= bytes);
      const [next = ""] = whole.slice(prefix.length);
      assert.ok(next === "" || Buffer.byteLength(prefix + next) > bytes);
    }),
  );
});

test("a token is four bytes, rounded up", () => {
  assert.deepEqual([0, 1, 4, 5].map(tokensOf), [0, 1, 1, 2]);
});

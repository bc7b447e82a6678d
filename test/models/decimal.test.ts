/** Goal: a decimal is read and written without losing a digit. */
import assert from "node:assert/strict";
import test from "node:test";
import fc from "fast-check";
import { decimalText, readDecimal } from "../../models/decimal.ts";

test("what is written is read again, every digit of it", () => {
  fc.assert(
    fc.property(fc.bigInt({ min: 0n, max: 9n * 10n ** 17n }), (billionths) => {
      assert.equal(readDecimal(decimalText(billionths)), billionths);
    }),
  );
  assert.equal(decimalText(3_000_000_000n), "3");
  assert.equal(decimalText(3_000_000_000n, 2), "3.00");
  assert.equal(decimalText(3_100_000_001n, 2), "3.100000001");
});

test("what is no decimal is a defect of who checked it", () => {
  for (const text of ["", "-1", "1e3", "1.", ".5", "0.0000000001", "1,5", " 1"]) {
    assert.throws(() => readDecimal(text), RangeError, text);
  }
});

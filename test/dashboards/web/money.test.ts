/** The browser's money says what the ledger's says; both are exact. */
import assert from "node:assert/strict";
import test from "node:test";
import fc from "fast-check";
import { formatNanos, NANOS_MAX, parseUnits } from "../../../orchestrator/money.ts";

interface BrowserMoney {
  parseUnits(text: string): bigint | null;
  formatMoney(amount: bigint | string, currency: string): string;
  formatDigits(nanos: bigint, decimals: number): string;
  columnDecimals(amounts: readonly (bigint | string)[], currency: string): number;
  percentOf(part: bigint, whole: bigint): number;
  sumNanos(amounts: readonly (bigint | string)[]): bigint;
}
const path = new URL("../../../dashboards/web/app/money.js", import.meta.url);
const money: BrowserMoney = await import(path.href);

const anyNanos = fc.bigInt({ min: 0n, max: NANOS_MAX });
const currency = fc.constantFrom("CAD", "JPY", "KWD", "TOK");

test("formats every amount as the command line does", () => {
  const small = fc.bigInt({ min: 0n, max: 2_000_000_000n });
  fc.assert(
    fc.property(fc.oneof(small, anyNanos), currency, (nanos, code) => {
      assert.equal(money.formatMoney(String(nanos), code), formatNanos(nanos, code));
    }),
  );
});

test("reads what a person types as the command line does", () => {
  const typed = fc.oneof(
    fc.stringMatching(/^\d{1,11}(\.\d{0,10})?$/),
    fc.string({ maxLength: 8 }),
    fc.constantFrom("-1", "1e3", "", ".", " 1", "9999999999.999999999"),
  );
  fc.assert(
    fc.property(typed, (text) => {
      assert.equal(money.parseUnits(text), parseUnits(text));
    }),
  );
});

test("digits of nine decimals read back as the same amount", () => {
  const readable = fc.bigInt({ min: 0n, max: NANOS_MAX });
  fc.assert(
    fc.property(readable, (nanos) => {
      assert.equal(money.parseUnits(money.formatDigits(nanos, 9)), nanos);
    }),
  );
});

test("a column has the decimals that its smallest amount needs", () => {
  assert.equal(money.columnDecimals([], "CAD"), 2);
  assert.equal(money.columnDecimals(["1200000000", "0"], "CAD"), 2);
  assert.equal(money.columnDecimals(["1200000000", "420000", 0n], "CAD"), 5);
  assert.equal(money.columnDecimals([1n], "CAD"), 9);
});

test("sums past what a number holds", () => {
  assert.equal(money.sumNanos(["9007199254740993", 2n]), 9_007_199_254_740_995n);
  assert.equal(money.sumNanos([]), 0n);
});

test("a share stays between 0 and 100", () => {
  assert.equal(money.percentOf(1n, 3n), 33.33);
  assert.equal(money.percentOf(5n, 0n), 0);
  assert.equal(money.percentOf(NANOS_MAX, 1n), 100);
  assert.equal(money.percentOf(-1n, 10n), 0);
});

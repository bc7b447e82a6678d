/**
 * Goal (R20): no amount is ever off by more than the rounding promised, and none is a float.
 *
 * Method: fast-check draws amounts, prices and token counts up to what the columns hold, and each
 * result is compared with exact rational arithmetic on bigints. Replay: SEED=n; MONEY_CASES=n for
 * more of what calls cost.
 */
import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import {
  ceilDiv,
  formatNanos,
  minorUnitNanos,
  NANOS_MAX,
  NANOS_PER_UNIT,
  parseUnits,
  tokenCost,
} from "../../orchestrator/money.ts";

const SEED = Number(process.env["SEED"] ?? 20_261_121);
const CASES = Number(process.env["MONEY_CASES"] ?? 100_000);
const nanos = fc.bigInt({ min: 0n, max: NANOS_MAX });

test(`R20: ${CASES} costs round up, by less than one nano-unit, SEED=${SEED}`, () => {
  const tokens = fc.nat({ max: 1_000_000_000 });
  const price = fc.bigInt({ min: 0n, max: 10n ** 15n });
  fc.assert(
    fc.property(tokens, price, (count, nanosPerMillion) => {
      const cost = tokenCost(count, nanosPerMillion);
      // cost − 1 < count × price ÷ 10^6 <= cost, both sides times 10^6.
      const exact = BigInt(count) * nanosPerMillion;
      assert.ok(cost * 1_000_000n >= exact);
      assert.ok(cost * 1_000_000n - exact < 1_000_000n);
    }),
    { seed: SEED, numRuns: CASES },
  );
});

test("a call costs at most one nano-unit more in parts than as a whole", () => {
  fc.assert(
    fc.property(fc.nat(), fc.nat(), fc.bigInt({ min: 0n, max: 10n ** 12n }), (a, b, price) => {
      const parts = tokenCost(a, price) + tokenCost(b, price);
      const whole = tokenCost(a + b, price);
      assert.ok(parts === whole || parts === whole + 1n);
    }),
    { seed: SEED },
  );
});

test("counts and amounts that are none are refused", () => {
  for (const tokens of [-1, 0.5, Number.NaN, 2 ** 53]) {
    assert.throws(() => tokenCost(tokens, 1n), RangeError);
  }
  assert.throws(() => ceilDiv(-1n, 1n), RangeError);
  assert.throws(() => ceilDiv(1n, 0n), RangeError);
});

test(`what is written in full is read back exactly, SEED=${SEED}`, () => {
  fc.assert(
    fc.property(nanos, (amount) => {
      const decimals = String(amount % NANOS_PER_UNIT).padStart(9, "0");
      assert.equal(parseUnits(`${amount / NANOS_PER_UNIT}.${decimals}`), amount);
    }),
    { seed: SEED, numRuns: 10_000 },
  );
});

test(`what people are shown is never more than the amount, SEED=${SEED}`, () => {
  fc.assert(
    fc.property(fc.oneof(nanos, fc.bigInt({ min: 0n, max: 10n ** 10n })), (amount) => {
      const [shown = "", currency] = formatNanos(amount, "CAD").split(" ");
      assert.equal(currency, "CAD");
      const read = parseUnits(shown);
      assert.ok(read !== null && read <= amount);
      // Cut by less than a cent, and below one unit by less than a hundredth.
      const cut = amount - read;
      assert.ok(cut < NANOS_PER_UNIT / 100n);
      assert.ok(cut === 0n || amount >= NANOS_PER_UNIT || cut * 100n < amount);
      assert.equal(formatNanos(-amount, "CAD"), amount === 0n ? "0.00 CAD" : `-${shown} CAD`);
    }),
    { seed: SEED, numRuns: 10_000 },
  );
});

test("amounts for people", () => {
  const table: [bigint, string, string][] = [
    [0n, "CAD", "0.00 CAD"],
    [12_500_000_000n, "CAD", "12.50 CAD"],
    [1_999_999_999n, "CAD", "1.99 CAD"],
    [420_000n, "CAD", "0.00042 CAD"],
    [119_000_000n, "CAD", "0.119 CAD"],
    [119_999_999n, "CAD", "0.119 CAD"],
    [500_000_000n, "CAD", "0.50 CAD"],
    [120_100_000n, "CAD", "0.12 CAD"],
    [12_345n, "TOK", "12,345 tokens"],
    [-1n, "TOK", "-1 token"],
    [0n, "TOK", "0 tokens"],
    [1n, "CAD", "0.000000001 CAD"],
    [1_500_000_000n, "JPY", "1 JPY"],
    [NANOS_MAX, "USD", "9223372036.85 USD"],
  ];
  for (const [amount, currency, text] of table) assert.equal(formatNanos(amount, currency), text);
});

test("the smallest coin of a currency", () => {
  assert.equal(minorUnitNanos("CAD"), 10_000_000n);
  assert.equal(minorUnitNanos("JPY"), 1_000_000_000n);
  assert.equal(minorUnitNanos("KWD"), 1_000_000n);
});

test("text that is no amount is null", () => {
  for (const text of ["", " 1", "1 ", "-1", "+1", "1e3", "1,5", ".5", "1.", "0x1", "NaN"]) {
    assert.equal(parseUnits(text), null, text);
  }
  assert.equal(parseUnits("0.0000000001"), null);
  assert.equal(parseUnits("9223372036.854775807"), NANOS_MAX);
  assert.equal(parseUnits("9223372036.854775808"), null);
  assert.equal(parseUnits("99999999999"), null);
});

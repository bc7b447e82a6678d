/**
 * Goal (R20): no conversion and no charge loses or makes money, whoever rounds.
 *
 * Method: amounts, prices, token counts and rates are drawn by one seed, and what the code says is
 * held against exact fractions of bigints. In CI 20,000 draws; MONEY_CASES=1000000 is the full run.
 * Replay: SEED=n.
 */
import assert from "node:assert/strict";
import { test } from "node:test";
import { convertAmount } from "../../../orchestrator/ledger/fx.ts";
import type { Conversion, DatedRate } from "../../../orchestrator/ledger/ledger.ts";
import { minorUnitNanos, NANOS_PER_UNIT, tokenCost } from "../../../orchestrator/money.ts";
import { type Random, seededRandom } from "../../../orchestrator/runtime/random.ts";
import { auditLedger } from "../../support/audit.ts";
import { amounts, openTestLedger } from "../../support/ledger.ts";

const SEED = Number(process.env["SEED"] ?? 20_261_121);
const CASES = Number(process.env["MONEY_CASES"] ?? 20_000);
const USD_TO_CAD = {
  from: "USD",
  to: "CAD",
  rateNanos: 1_400_000_001n,
  effectiveFrom: "2026-01-01",
};

test(`${CASES} prices × tokens / rate against exact fractions, SEED=${SEED}`, () => {
  const random = seededRandom(SEED);
  let exchangeScaled = 0n;
  let exactScaled = 0n;
  for (let index = 0; index < CASES; index++) {
    const tokens = random.below(2_000_000);
    const nanosPerMillion = below(random, 10n ** 12n);
    const cost = tokenCost(tokens, nanosPerMillion);
    // cost − 1 < tokens × price ÷ 10^6 <= cost, both sides times 10^6.
    const exact = BigInt(tokens) * nanosPerMillion;
    assert.ok(cost * 1_000_000n >= exact && cost * 1_000_000n - exact < 1_000_000n);

    const rateNanos = 1n + below(random, 200n * NANOS_PER_UNIT);
    const kind = random.below(2) === 0 ? "charge" : "income";
    const step = [1n, minorUnitNanos("CAD"), minorUnitNanos("JPY")][random.below(3)] ?? 1n;
    const converted = convertAmount(kind, cost, rateNanos, step);
    const { convertedNanos, exchangeNanos, roundingNanos } = converted;
    // The exact value is scaled ÷ 10^9; up for a charge, down for an income, by under one step.
    const scaled = cost * rateNanos;
    const off = convertedNanos * NANOS_PER_UNIT - scaled;
    if (kind === "charge") {
      assert.ok(off >= 0n && off < step * NANOS_PER_UNIT);
      assert.equal(convertedNanos, exchangeNanos + roundingNanos);
    } else {
      assert.ok(off <= 0n && -off < step * NANOS_PER_UNIT);
      assert.equal(convertedNanos, exchangeNanos - roundingNanos);
    }
    assert.equal(convertedNanos % step, 0n);
    assert.ok(roundingNanos >= 0n && roundingNanos <= step);
    exchangeScaled += exchangeNanos * NANOS_PER_UNIT;
    exactScaled += scaled;
  }
  // The residual: the exchange accounts differ from the exact values by under a nano-unit a case.
  const residual = exactScaled - exchangeScaled;
  assert.ok(residual >= 0n && residual < BigInt(CASES) * NANOS_PER_UNIT);
});

test("what cannot be converted is refused", () => {
  assert.throws(() => convertAmount("charge", -1n, 1n), RangeError);
  assert.throws(() => convertAmount("charge", 1n, 0n), RangeError);
  assert.throws(() => convertAmount("income", 1n, 1n, 0n), RangeError);
});

test("a charge and an income in another currency, and who has the rounding", async () => {
  await using fixture = await openTestLedger();
  const { ledger, ids } = fixture;
  const open = (kind: "funding" | "spend" | "budget", owner: string, currency: string) =>
    ledger.open({ id: ids.next("account"), kind, owner, currency, mustNotExceed: false });
  const cad = await open("spend", "project/a", "CAD");
  const usd = await open("spend", "provider/b", "USD");
  const customer = await open("funding", "customer/c", "USD");
  const budget = await open("budget", "project/a", "CAD");

  const charge: Conversion = {
    id: ids.next("transfer"),
    kind: "charge",
    from: cad,
    to: usd,
    amountNanos: 7n,
    rate: USD_TO_CAD,
  };
  // 7 × 1.400000001 = 9.800000007: 9 from the exchange, and 1 of rounding.
  assert.deepEqual(await ledger.convert(charge), {
    outcome: "converted",
    convertedNanos: 10n,
    roundingNanos: 1n,
  });
  assert.deepEqual(await ledger.convert(charge), { outcome: "already_converted" });

  const income: Conversion = {
    id: ids.next("transfer"),
    kind: "income",
    from: customer,
    to: budget,
    amountNanos: 3_000_000_000n,
    rate: USD_TO_CAD,
    roundTo: "minor",
  };
  // 4.200000003 CAD: 4.20 to the budget.
  assert.deepEqual(await ledger.convert(income), {
    outcome: "converted",
    convertedNanos: 4_200_000_000n,
    roundingNanos: 3n,
  });
  assert.equal(amounts(await ledger.balance(budget)).fundedNanos, 4_200_000_000n);
  const own = async (kind: "exchange" | "rounding", currency: string) => {
    const id = await ledger.findAccount(kind, `${kind}/${currency}`);
    assert.ok(id !== null);
    return amounts(await ledger.balance(id)).availableNanos;
  };
  assert.equal(await own("exchange", "USD"), 3_000_000_000n - 7n);
  assert.equal(await own("exchange", "CAD"), 9n - 4_200_000_003n);
  assert.equal(await own("rounding", "CAD"), 1n + 3n);
  const [line] = await ledger.statement(usd, { limit: 1 });
  assert.equal(line?.note, "USD to CAD at 1.400000001 of 2026-01-01");
  await auditLedger(fixture.database);
});

test("a rate that does not fit, a budget that pays, and no account are refused", async () => {
  await using fixture = await openTestLedger();
  const { ledger, ids } = fixture;
  const { budget: cad, spend } = await fixture.openBudget(10n);
  const { spend: usd } = await fixture.openBudget(10n, [], "USD");
  const { spend: tokens } = await fixture.openBudget(10n, [], "TOK");
  const convert = (over: Partial<Conversion>, rate: Partial<DatedRate> = {}) =>
    ledger.convert({
      id: ids.next("transfer"),
      kind: "charge",
      from: spend,
      to: usd,
      amountNanos: 7n,
      rate: { ...USD_TO_CAD, ...rate },
      ...over,
    });
  const unfit = { outcome: "rate_does_not_fit" };
  assert.deepEqual(await convert({}, { from: "EUR" }), unfit);
  assert.deepEqual(await convert({}, { from: "CAD", to: "USD" }), unfit);
  assert.deepEqual(await convert({ to: tokens }, { from: "TOK" }), unfit);
  const missing = { outcome: "account_not_found" };
  assert.deepEqual(await convert({ to: ids.next("account") }), missing);
  assert.deepEqual(await convert({ from: cad }), missing);
  const huge = convert({ amountNanos: 2n ** 62n }, { rateNanos: 10n ** 18n });
  await assert.rejects(huge, { code: "invalid_request" });
  await assert.rejects(convert({ amountNanos: 0n }), RangeError);
  await auditLedger(fixture.database);
});

function below(random: Random, limit: bigint): bigint {
  return ((BigInt(random.below(2 ** 31)) << 31n) | BigInt(random.below(2 ** 31))) % limit;
}

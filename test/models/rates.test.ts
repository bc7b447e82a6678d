/** Goal: a charge is the exact sum, each part rounded up, at the tier its input reaches. */
import assert from "node:assert/strict";
import test from "node:test";
import fc from "fast-check";
import type { Price } from "../../models/prices.ts";
import { dearest, gpuMs, ratesAt, ratesUpTo, readRates, usageCost } from "../../models/rates.ts";

const PRICE: Price = {
  version: "m@2026-01-01",
  currency: "CAD",
  inputNanosPerMillion: "3000000",
  cacheReadNanosPerMillion: "300000",
  cacheWriteNanosPerMillion: "3750000",
  longCacheWriteNanosPerMillion: "6000000",
  outputNanosPerMillion: "15000000",
};
const TIERED: Price = {
  ...PRICE,
  tiers: [
    {
      aboveInputTokens: 200_000,
      inputNanosPerMillion: "6000000",
      cacheReadNanosPerMillion: "600000",
      cacheWriteNanosPerMillion: "7500000",
      longCacheWriteNanosPerMillion: "12000000",
      outputNanosPerMillion: "22500000",
    },
  ],
};
const NONE = {
  inputTokens: 0,
  cacheReadTokens: 0,
  cacheWriteTokens: 0,
  longCacheWriteTokens: 0,
  outputTokens: 0,
};

function rates(price: Price) {
  const read = readRates(price, "CAD");
  assert.ok(read !== null);
  return read;
}

test("a price is read exactly or not at all", () => {
  assert.deepEqual(rates(PRICE).base, {
    inputNanos: 3_000_000n,
    cacheReadNanos: 300_000n,
    cacheWriteNanos: 3_750_000n,
    longCacheWriteNanos: 6_000_000n,
    outputNanos: 15_000_000n,
  });
  assert.equal(readRates(PRICE, "USD"), null);
  assert.equal(readRates({ ...PRICE, version: "" }, "CAD"), null);
  for (const text of ["", "-1", "1.5", "1e3", " 1", "9".repeat(19)]) {
    for (const kind of ["input", "cacheRead", "cacheWrite", "longCacheWrite", "output"]) {
      const broken = { ...PRICE, [`${kind}NanosPerMillion`]: text };
      assert.equal(readRates(broken, "CAD"), null, `${kind} ${text}`);
    }
  }
});

test("tiers that do not rise, or are no price, make it none", () => {
  const [tier] = TIERED.tiers ?? [];
  assert.ok(tier !== undefined);
  for (const aboveInputTokens of [0, -1, 1.5, Number.NaN]) {
    const tiers: Price["tiers"] = [{ ...tier, aboveInputTokens }];
    assert.equal(readRates({ ...TIERED, tiers }, "CAD"), null, String(aboveInputTokens));
  }
  assert.equal(readRates({ ...TIERED, tiers: [tier, tier] }, "CAD"), null);
  const broken = [{ ...tier, outputNanosPerMillion: "x" }];
  assert.equal(readRates({ ...TIERED, tiers: broken }, "CAD"), null);
});

test("a key made before long cache writes had a price pays 8/5 of the short one", () => {
  const { longCacheWriteNanosPerMillion: _, ...old } = PRICE;
  assert.equal(rates(old).base.longCacheWriteNanos, 6_000_000n);
});

test("the whole call is charged at the tier its whole input is above", () => {
  const price = rates(TIERED);
  const at = { ...NONE, inputTokens: 150_000, cacheReadTokens: 30_000, cacheWriteTokens: 20_000 };
  assert.equal(usageCost({ ...at, outputTokens: 10 }, price), 450_000n + 9_000n + 75_000n + 150n);
  const above = { ...at, cacheReadTokens: 30_001, outputTokens: 10 };
  assert.equal(usageCost(above, price), 900_000n + 18_001n + 150_000n + 225n);
  assert.equal(ratesAt(price, 200_000), price.base);
  assert.equal(ratesUpTo(price, 200_000).outputNanos, 15_000_000n);
  assert.equal(ratesUpTo(price, 200_001).outputNanos, 22_500_000n);
});

test("the dearest of several is the dearest of each kind", () => {
  const { base } = rates(PRICE);
  const other = { ...base, inputNanos: 9_000_000n, outputNanos: 1n };
  assert.deepEqual(dearest([base, other]), { ...base, inputNanos: 9_000_000n });
});

test("a charge is the exact sum, over it by less than one nano-unit a kind of token", () => {
  const nanos = fc.bigInt({ min: 0n, max: 100_000_000_000n });
  const tokens = fc.nat(5_000_000);
  fc.assert(
    fc.property(
      fc.tuple(nanos, nanos, nanos, nanos, nanos),
      fc.tuple(tokens, tokens, tokens, tokens, tokens),
      (paid, counts) => {
        const [inputNanos, cacheReadNanos, cacheWriteNanos, longCacheWriteNanos, outputNanos] =
          paid;
        const [inputTokens, cacheReadTokens, short, longCacheWriteTokens, outputTokens] = counts;
        const base = {
          ...{ inputNanos, cacheReadNanos, cacheWriteNanos, longCacheWriteNanos, outputNanos },
        };
        const usage = { inputTokens, cacheReadTokens, longCacheWriteTokens, outputTokens };
        const cacheWriteTokens = short + longCacheWriteTokens;
        const cost = usageCost({ ...usage, cacheWriteTokens }, { base, tiers: [] });
        // Millionths of a nano-unit: integers, so this side has no rounding at all.
        const exact = paid.reduce((sum, rate, kind) => sum + rate * BigInt(counts[kind] ?? 0), 0n);
        const over = cost * 1_000_000n - exact;
        assert.ok(over >= 0n && over < 5_000_000n);
      },
    ),
    { numRuns: 5_000 },
  );
});

test("GPU time is counted where the price is made of it", () => {
  const gpu = { inputMsPerMillion: "100000", cacheReadMsPerMillion: "0", outputMsPerMillion: "1" };
  const usage = { ...NONE, inputTokens: 15, cacheReadTokens: 1_000, outputTokens: 1 };
  assert.equal(gpuMs(usage, { gpu }), 2, "1.5 and a little, rounded up");
  assert.equal(gpuMs({ ...NONE, inputTokens: 5, cacheWriteTokens: 5 }, { gpu }), 1);
  assert.equal(gpuMs(usage, {}), null);
});

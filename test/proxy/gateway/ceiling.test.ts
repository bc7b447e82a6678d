/** Goal: the bounds hold for what they bound, whatever the price, its tiers and the cache. */
import assert from "node:assert/strict";
import test from "node:test";
import fc from "fast-check";
import { type PriceRates, type Rates, ratesUpTo, usageCost } from "../../../models/rates.ts";
import { tokenCost } from "../../../orchestrator/money.ts";
import {
  affordableOutput,
  inputCeiling,
  inputCost,
  outputThatFits,
} from "../../../proxy/gateway/ceiling.ts";

const FREE: Rates = {
  inputNanos: 0n,
  cacheReadNanos: 0n,
  cacheWriteNanos: 0n,
  longCacheWriteNanos: 0n,
  outputNanos: 0n,
};

test("input is bounded by its bytes and by the context", () => {
  assert.equal(inputCeiling(1_000, false, 100_000), 2_024);
  assert.equal(inputCeiling(1_000_000, false, 100_000), 100_000);
  assert.equal(inputCeiling(10, true, 100_000), 100_000);
});

test("output fits beside the prompt, with a floor", () => {
  const model = { contextTokens: 10_000, maxOutputTokens: 4_000 };
  assert.equal(outputThatFits(300, model, 256), 4_000);
  assert.equal(outputThatFits(27_000, model, 256), 1_000);
  assert.equal(outputThatFits(90_000, model, 256), 256);
});

test("what is affordable is never more than the money", () => {
  const rates = { ...FREE, outputNanos: 3_000_000n };
  assert.equal(affordableOutput(10n, rates, 1), 3);
  assert.equal(affordableOutput(10n, rates, 2), 1);
  assert.equal(affordableOutput(-1n, rates, 1), 0);
  assert.equal(affordableOutput(0n, FREE, 1), Number.MAX_SAFE_INTEGER);
});

test("an hour in a cache is bounded where the dialect can ask for one", () => {
  const rates = { ...FREE, inputNanos: 1_000_000n, longCacheWriteNanos: 2_000_000n };
  assert.equal(inputCost("openai.chat", 10, rates), 13n);
  assert.equal(inputCost("anthropic.messages", 10, rates), 23n);
  assert.equal(inputCost("anthropic.messages", 10, FREE), 0n);
});

const nanos = fc.oneof(
  fc.bigInt({ min: 0n, max: 20n }),
  fc.bigInt({ min: 0n, max: 100_000_000_000n }),
);
const rates: fc.Arbitrary<Rates> = fc.record({
  inputNanos: nanos,
  cacheReadNanos: nanos,
  cacheWriteNanos: nanos,
  longCacheWriteNanos: nanos,
  outputNanos: nanos,
});
const price: fc.Arbitrary<PriceRates> = fc.record({
  base: rates,
  tiers: fc
    .uniqueArray(fc.integer({ min: 1, max: 3_000 }), { maxLength: 3 })
    .chain((above) => fc.tuple(...[...above].sort((a, b) => a - b).map(tierAbove))),
});
function tierAbove(aboveInputTokens: number) {
  return rates.map((tier) => ({ aboveInputTokens, rates: tier }));
}

/** Usage within bounds: so many tokens of input of all kinds, so many of output. */
const bounded = fc
  .record({ inputMax: fc.nat(4_000), outputMax: fc.nat(4_000) })
  .chain(({ inputMax, outputMax }) =>
    fc.record({
      inputMax: fc.constant(inputMax),
      outputMax: fc.constant(outputMax),
      used: fc.nat(inputMax),
      shares: fc.tuple(fc.nat(100), fc.nat(100), fc.nat(100), fc.nat(100)),
      outputTokens: fc.nat(outputMax),
    }),
  );

test("usage within its bounds never costs more than the ceiling", () => {
  const wire = fc.constantFrom("openai.chat" as const, "anthropic.messages" as const);
  fc.assert(
    fc.property(price, bounded, wire, (paid, { inputMax, outputMax, ...given }, dialect) => {
      const { used, shares, outputTokens } = given;
      const whole = shares.reduce((sum, share) => sum + share, 0) || 1;
      const [cacheReadTokens = 0, short = 0, long = 0] = shares.map((share) =>
        Math.floor((used * share) / whole),
      );
      const longCacheWriteTokens = dialect === "anthropic.messages" ? long : 0;
      const cacheWriteTokens = short + longCacheWriteTokens;
      const inputTokens = used - cacheReadTokens - cacheWriteTokens;
      const counts = { inputTokens, cacheReadTokens, cacheWriteTokens, longCacheWriteTokens };
      const most = ratesUpTo(paid, inputMax);
      const ceiling = inputCost(dialect, inputMax, most) + tokenCost(outputMax, most.outputNanos);
      assert.ok(usageCost({ ...counts, outputTokens }, paid) <= ceiling);
      // And what a smaller budget affords is covered by it.
      const left = ceiling - inputCost(dialect, inputMax, most);
      const affordable = affordableOutput(left, most, 1);
      assert.ok(affordable >= outputMax);
    }),
    { numRuns: 5_000 },
  );
});

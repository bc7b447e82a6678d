/** Goal: by its own prices a trial costs what it was charged; by others, their arithmetic. */
import assert from "node:assert/strict";
import test from "node:test";
import fc from "fast-check";
import { readRates, usageCost } from "../../../models/rates.ts";
import type { PriceSnapshot } from "../../../orchestrator/keys/keys.ts";
import { type ChargedCall, repriceCalls } from "../../../orchestrator/trials/reprice.ts";

const PRICE: PriceSnapshot = {
  version: "m@2026-01-01,USD/CAD@2025-01-01",
  currency: "CAD",
  inputNanosPerMillion: "3000000",
  cacheReadNanosPerMillion: "300000",
  cacheWriteNanosPerMillion: "3750000",
  longCacheWriteNanosPerMillion: "6000000",
  outputNanosPerMillion: "15000000",
};
const CHEAP: PriceSnapshot = {
  ...PRICE,
  version: "n@2026-02-01",
  outputNanosPerMillion: "5000000",
};
const COUNTS = {
  inputTokens: 10,
  cacheReadTokens: 0,
  cacheWriteTokens: 0,
  longCacheWriteTokens: 0,
  outputTokens: 100,
};
const CALL: ChargedCall = {
  id: "call_1",
  side: "normal",
  startedAtMs: Date.parse("2026-03-01T00:00:00Z"),
  atMs: Date.parse("2026-03-01T00:00:00Z"),
  counts: COUNTS,
  costNanos: 1_530n,
  isEstimated: false,
  priceVersion: PRICE.version,
  price: PRICE,
};
const NOTHING = { ...COUNTS, inputTokens: 0, outputTokens: 0 };

function reprice(calls: ChargedCall[], other: PriceSnapshot | null = null) {
  const ask = other === null ? null : () => ({ model: "n", price: other });
  const result = repriceCalls(calls, "CAD", ask);
  assert.ok(result.outcome === "repriced", result.outcome);
  return result.repricing;
}

test("another price shows both, and the difference, call by call", () => {
  const { calls, ...totals } = reprice([CALL, { ...CALL, id: "call_2", isEstimated: true }], CHEAP);
  assert.deepEqual(totals, {
    currency: "CAD",
    charged_nanos: "3060",
    repriced_nanos: "1060",
    difference_nanos: "-2000",
    estimated_count: 1,
    reservation_count: 0,
  });
  assert.deepEqual(calls[0], {
    call_id: "call_1",
    side: "normal",
    started_at: "2026-03-01T00:00:00.000Z",
    input_tokens: 10,
    output_tokens: 100,
    is_estimated: false,
    basis: "usage",
    charged: { model: "m", price_version: PRICE.version, cost_nanos: "1530" },
    repriced: { model: "n", price_version: CHEAP.version, cost_nanos: "530" },
    difference_nanos: "-1000",
  });
});

test("the other price is asked for the model of the version, at the wished time", () => {
  const asked: unknown[] = [];
  const atMs = Date.parse("2026-06-01T00:00:00Z");
  repriceCalls([{ ...CALL, side: "thinking", atMs }], "CAD", (question) => {
    asked.push(question);
    return { model: question.model, price: CHEAP };
  });
  assert.deepEqual(asked, [{ side: "thinking", model: "m", atMs }]);
});

test("a call without a price under the other book is named, with its time", () => {
  const { atMs } = CALL;
  for (const price of [null, { ...CHEAP, currency: "USD" }]) {
    const result = repriceCalls([CALL], "CAD", () => ({ model: "n", price }));
    assert.deepEqual(result, { outcome: "unpriced", model: "n", atMs });
  }
});

test("what brought nothing costs nothing by any price", () => {
  const released = { ...CALL, counts: NOTHING, costNanos: 0n };
  for (const other of [null, CHEAP]) {
    const { repriced_nanos: cost, calls } = reprice([released], other);
    assert.deepEqual([cost, calls[0]?.basis], ["0", "nothing"]);
  }
});

test("a reservation that was charged whole is kept by its own price, and marked", () => {
  const expired = { ...CALL, costNanos: 9_000n, isEstimated: true };
  const own = reprice([expired]);
  assert.deepEqual([own.repriced_nanos, own.reservation_count], ["9000", 1]);
  const other = reprice([expired], CHEAP);
  assert.deepEqual([other.repriced_nanos, other.calls[0]?.basis], ["530", "reservation"]);
  // Its key is gone, and its price with it: nothing is made up.
  assert.equal(reprice([{ ...expired, price: null }]).repriced_nanos, "9000");
});

test("by its own prices every trial costs exactly what it was charged", () => {
  const text = fc.bigInt({ min: 0n, max: 100_000_000_000n }).map(String);
  const kinds = {
    inputNanosPerMillion: text,
    cacheReadNanosPerMillion: text,
    cacheWriteNanosPerMillion: text,
    longCacheWriteNanosPerMillion: text,
    outputNanosPerMillion: text,
  };
  const tier = fc.record({ aboveInputTokens: fc.integer({ min: 1, max: 5_000_000 }), ...kinds });
  const price = fc.record({
    version: fc.constant("m@2026-01-01"),
    currency: fc.constant("CAD"),
    ...kinds,
    tiers: fc.array(tier, { maxLength: 1 }),
  });
  const tokens = fc.nat(5_000_000);
  const call = fc.record({
    counts: fc
      .tuple(tokens, tokens, tokens, tokens, tokens)
      .map(([inputTokens, cacheReadTokens, short, longCacheWriteTokens, outputTokens]) => ({
        ...{ inputTokens, cacheReadTokens, longCacheWriteTokens, outputTokens },
        cacheWriteTokens: short + longCacheWriteTokens,
      })),
    price,
    isCapped: fc.boolean(),
  });
  fc.assert(
    fc.property(fc.array(call, { maxLength: 8 }), (made) => {
      const calls = made.map(({ counts, price: paid, isCapped }): ChargedCall => {
        const rates = readRates(paid, "CAD");
        assert.ok(rates !== null);
        const cost = usageCost(counts, rates);
        return { ...CALL, counts, price: paid, costNanos: isCapped ? cost / 2n : cost };
      });
      const charged = calls.reduce((sum, { costNanos }) => sum + costNanos, 0n);
      const { repriced_nanos: cost, difference_nanos: difference } = reprice(calls);
      assert.deepEqual([cost, difference], [String(charged), "0"]);
    }),
    { numRuns: 500 },
  );
});

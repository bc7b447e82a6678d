/** Goal: a forecast is an interval with its confidence, or an honest "not enough evidence". */
import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { forecastToFinish, suggestTopUp } from "../../../orchestrator/trials/forecast.ts";

const nothing = { callCostsNanos: [], finishedTotalsNanos: [] };

test("trials like it say what is left, and how sure that is", () => {
  const forecast = forecastToFinish({
    callCostsNanos: [40n, 60n],
    finishedTotalsNanos: [500n, 90n, 150n, 300n],
  });
  // The one that cost 90 is no evidence of a trial that has cost 100.
  assert.deepEqual(forecast, {
    outcome: "range",
    lowNanos: 50n,
    highNanos: 400n,
    confidencePercent: 50,
    basis: "finished_trials",
    evidenceCount: 3,
  });
});

test("without them its own calls do: a third to three times as many again", () => {
  assert.deepEqual(forecastToFinish({ ...nothing, callCostsNanos: [10n, 10n, 10n] }), {
    outcome: "range",
    lowNanos: 10n,
    highNanos: 90n,
    confidencePercent: 50,
    basis: "own_calls",
    evidenceCount: 3,
  });
  // 10, 20, 30, then 40 for the next, and 40 + 50 + … + 120 for the next nine.
  const growing = forecastToFinish({ ...nothing, callCostsNanos: [10n, 20n, 30n] });
  assert.ok(growing.outcome === "range");
  assert.deepEqual([growing.lowNanos, growing.highNanos], [40n, 720n]);
});

test("swaps count as any cost, and one that is still to come is in the upper end", () => {
  const forecast = forecastToFinish({
    ...{ callCostsNanos: [40n, 60n], swapNanos: 30n, nextSwapNanos: 7n },
    finishedTotalsNanos: [500n, 120n, 150n, 300n],
  });
  // The one that cost 120 is no evidence of a trial that has cost 130.
  assert.ok(forecast.outcome === "range");
  const { lowNanos, highNanos, evidenceCount } = forecast;
  assert.deepEqual([lowNanos, highNanos, evidenceCount], [20n, 377n, 3]);
  const own = { ...nothing, callCostsNanos: [10n, 10n, 10n], swapNanos: 30n, nextSwapNanos: 7n };
  const alone = forecastToFinish(own);
  assert.ok(alone.outcome === "range");
  assert.deepEqual([alone.lowNanos, alone.highNanos], [10n, 97n]);
});

test("two calls and two trials are not enough evidence", () => {
  assert.deepEqual(
    forecastToFinish({ callCostsNanos: [10n, 20n], finishedTotalsNanos: [100n, 200n] }),
    { outcome: "not_enough_evidence" },
  );
  assert.deepEqual(forecastToFinish(nothing), { outcome: "not_enough_evidence" });
});

test("whatever the costs, low is at most high and neither is negative", () => {
  const amounts = fc.array(fc.bigInt({ min: 0n, max: 10n ** 15n }), { maxLength: 40 });
  fc.assert(
    fc.property(amounts, amounts, (callCostsNanos, finishedTotalsNanos) => {
      const forecast = forecastToFinish({ callCostsNanos, finishedTotalsNanos });
      if (forecast.outcome !== "range") return;
      assert.ok(forecast.lowNanos >= 0n);
      assert.ok(forecast.lowNanos <= forecast.highNanos);
      assert.ok(forecast.confidencePercent >= 50 && forecast.confidencePercent < 100);
    }),
  );
});

test("a top-up covers the upper end less what is there, and the next call at least", () => {
  const range = forecastToFinish({ ...nothing, callCostsNanos: [10n ** 9n, 10n ** 9n, 10n ** 9n] });
  const money = {
    spentNanos: 3n * 10n ** 9n,
    availableNanos: 5n * 10n ** 8n,
    missingNanos: 1n,
    stepNanos: 10_000_000n,
  };
  assert.equal(suggestTopUp(range, money), 8_500_000_000n);
  const unknown = forecastToFinish(nothing);
  assert.equal(suggestTopUp(unknown, money), 2_500_000_000n);
  assert.equal(suggestTopUp(unknown, { ...money, missingNanos: 2_500_000_001n }), 2_510_000_000n);
  const none = { spentNanos: 0n, availableNanos: 0n, missingNanos: 0n, stepNanos: 10_000_000n };
  assert.equal(suggestTopUp(unknown, none), 10_000_000n);
});

/** Goal: the bounds hold for what they bound; bill.test.ts checks them against the bill. */
import assert from "node:assert/strict";
import test from "node:test";
import {
  affordableOutput,
  inputCeiling,
  outputThatFits,
  readRates,
} from "../../../proxy/gateway/ceiling.ts";
import { PRICE } from "../../support/gateway.ts";

test("a price is read exactly or not at all", () => {
  assert.deepEqual(readRates(PRICE, "CAD"), {
    inputNanos: 1_000_000n,
    cacheReadNanos: 500_000n,
    cacheWriteNanos: 1_000_000n,
    outputNanos: 2_000_000n,
  });
  assert.equal(readRates(PRICE, "USD"), null);
  for (const inputNanosPerMillion of ["", "-1", "1.5", "1e3", " 1", "9".repeat(19)]) {
    assert.equal(readRates({ ...PRICE, inputNanosPerMillion }, "CAD"), null);
  }
});

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
  const rates = {
    inputNanos: 0n,
    cacheReadNanos: 0n,
    cacheWriteNanos: 0n,
    outputNanos: 3_000_000n,
  };
  assert.equal(affordableOutput(10n, rates, 1), 3);
  assert.equal(affordableOutput(10n, rates, 2), 1);
  assert.equal(affordableOutput(-1n, rates, 1), 0);
  assert.equal(affordableOutput(0n, { ...rates, outputNanos: 0n }, 1), Number.MAX_SAFE_INTEGER);
});

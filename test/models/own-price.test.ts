/** Goal: a price of own GPUs is the exact rational, rounded up once, and refuses what is none. */
import assert from "node:assert/strict";
import test from "node:test";
import fc from "fast-check";
import { ownPrice } from "../../models/own-price.ts";
import type { GpuTerms } from "../../orchestrator/contract/prices.ts";

const TERMS: GpuTerms = {
  rate_per_gpu_hour: "3.60",
  gpus: 2,
  input_tokens_per_second: "10000",
  output_tokens_per_second: "1000",
  utilisation: "0.5",
  source: "a benchmark",
};
const fault = (field: string, message: string) => new Error(`${field}: ${message}`);

test("hours paid over tokens served", () => {
  const price = ownPrice(TERMS, fault);
  assert.equal(price.hourNanos, 7_200_000_000n);
  // 7.20 an hour is 0.002 a second, in which 500 tokens come: 4 a million.
  assert.equal(price.output.nanosPerMillion, 4_000_000_000n);
  assert.equal(price.input.nanosPerMillion, 400_000_000n);
  assert.deepEqual(price.cacheRead, price.input);
  // A million at 500 a second are 2,000 s of two GPUs.
  assert.equal(price.output.gpuMsPerMillion, 4_000_000n);
});

test("energy is part of the hour, without a rounding of its own", () => {
  const energy = { watts_per_gpu: "700", price_per_kwh: "0.10" };
  assert.equal(ownPrice({ ...TERMS, energy }, fault).hourNanos, 7_340_000_000n);
  const least = { watts_per_gpu: "0.000000001", price_per_kwh: "0.000000001" };
  const none = { ...TERMS, rate_per_gpu_hour: "0", gpus: 1 };
  assert.equal(ownPrice({ ...none, energy: least }, fault).hourNanos, 1n, "rounded up to be seen");
  // 10^-21 an hour over 0.5 tokens a second, exactly: under a nano-unit, so one.
  const slow = { ...none, output_tokens_per_second: "1" };
  assert.equal(ownPrice({ ...slow, energy: least }, fault).output.nanosPerMillion, 1n);
});

test("what is no speed and no share is refused by its field", () => {
  const refuse = (more: Partial<GpuTerms>, message: RegExp) =>
    assert.throws(() => ownPrice({ ...TERMS, ...more }, fault), { message });
  refuse({ utilisation: "0" }, /^utilisation: must be more than 0$/);
  refuse({ utilisation: "1.01" }, /^utilisation: must be at most 1$/);
  refuse({ output_tokens_per_second: "0" }, /^output_tokens_per_second: must be more than 0$/);
  refuse({ cache_read_tokens_per_second: "0" }, /^cache_read_tokens_per_second: /);
  refuse({ input_tokens_per_second: "0.000000001" }, /over 10\^9 units/);
});

test("every price is the exact rational, over it by less than one nano-unit", () => {
  // Of the sizes that GPUs and servers have; larger sums than a price may have are refused.
  const decimal = (max: bigint) => fc.bigInt({ min: 1n, max });
  const inputs = fc.tuple(
    decimal(100_000_000_000n),
    fc.integer({ min: 1, max: 64 }),
    fc.bigInt({ min: 1_000_000_000n, max: 100_000_000_000_000n }),
    fc.bigInt({ min: 10_000_000n, max: 1_000_000_000n }),
  );
  fc.assert(
    fc.property(inputs, ([rate, gpus, speed, share]) => {
      const terms = {
        ...TERMS,
        gpus,
        rate_per_gpu_hour: text(rate),
        output_tokens_per_second: text(speed),
        utilisation: text(share),
      };
      const { nanosPerMillion, gpuMsPerMillion } = ownPrice(terms, fault).output;
      // Cross-multiplied: price x (3600 x speed x share) against rate x GPUs x 10^6, no division.
      const served = speed * share;
      const exact = rate * BigInt(gpus) * 1_000_000n * 10n ** 18n;
      const over = nanosPerMillion * 3_600n * served - exact;
      assert.ok(over >= 0n && over < 3_600n * served);
      const exactMs = BigInt(gpus) * 1_000_000n * 1_000n * 10n ** 18n;
      const overMs = gpuMsPerMillion * served - exactMs;
      assert.ok(overMs >= 0n && overMs < served);
    }),
    { numRuns: 2_000 },
  );
});

function text(billionths: bigint): string {
  const digits = String(billionths).padStart(10, "0");
  return `${digits.slice(0, -9)}.${digits.slice(-9)}`;
}

/** Goal: a person can check a price with a calculator, from the steps alone. */
import assert from "node:assert/strict";
import test from "node:test";
import { explainPrice, listPrices } from "../../models/explain.ts";
import { parsePriceBook } from "../../models/prices.ts";

const BOOK = parsePriceBook(
  `
fx:
  - { from: USD, to: CAD, rate: "1.333333333", effective_from: "2026-01-01", source: a bank }
prices:
  - { model: m, currency: USD, effective_from: "2025-01-01", source: old, input: "9", output: "9" }
  - model: m
    currency: USD
    effective_from: "2026-01-01"
    source: a list
    input: "2"
    output: "3"
    tiers: [{ above_input_tokens: 1000, input: "4", output: "6" }]
  - model: own
    currency: CAD
    effective_from: "2026-01-01"
    source: our GPUs
    gpu:
      rate_per_gpu_hour: "3.60"
      energy: { watts_per_gpu: "700", price_per_kwh: "0.10" }
      gpus: 2
      input_tokens_per_second: "10000"
      output_tokens_per_second: "700"
      utilisation: "0.5"
      source: a benchmark
`,
  "prices.yaml",
);
const NOW_MS = Date.parse("2026-06-01T00:00:00Z");

test("a price in another currency shows the entry, the rate and each product", () => {
  const report = explainPrice(BOOK, "m", "CAD", NOW_MS);
  assert.equal(report?.price.version, "m@2026-01-01,USD/CAD@2026-01-01");
  assert.equal(report?.price.output_nanos_per_million, "3999999999");
  assert.deepEqual(report?.price.tiers[0]?.above_input_tokens, 1000);
  const steps = report?.steps.map(({ what, calculation }) => `${what}: ${calculation}`) ?? [];
  assert.equal(steps[0], "entry: m in USD, in force from 2026-01-01");
  assert.match(steps[1] ?? "", /^a million tokens: input 2\.00 USD; cache read 2\.00 USD; /);
  assert.match(steps[2] ?? "", /^above 1000 tokens of input, all of the call: input 4\.00 USD/);
  assert.ok(steps.includes("output: 3.00 USD x 1.333333333 = 3.999999999 CAD a million tokens"));
  assert.ok(steps.some((step) => step.startsWith("output, above 1000: 6.00 USD x 1.333333333")));
  assert.deepEqual(
    report?.entries.map((entry) => [entry.effective_from, entry.is_in_force]),
    [
      ["2026-01-01", true],
      ["2025-01-01", false],
    ],
  );
  const sources = report?.steps.flatMap(({ source }) => source ?? []);
  assert.deepEqual(sources, ["a list", "a bank"]);
});

test("a price of own GPUs shows the hour and what it is divided by", () => {
  const report = explainPrice(BOOK, "own", "CAD", NOW_MS);
  assert.equal(report?.price.output_nanos_per_million, "5825396826");
  // 10^6 tokens at 350 a second, of two GPUs: 5,714.285714... s, rounded up to the millisecond.
  assert.equal(report?.price.gpu?.output_gpu_ms_per_million, "5714286");
  assert.deepEqual(
    report?.steps.map(({ what, calculation }) => `${what}: ${calculation}`),
    [
      "entry: own in CAD, in force from 2026-01-01",
      "an hour: (3.60 + 700 W / 1000 x 0.10 per kWh) x 2 GPUs = 7.34 CAD",
      "input: 7.34 x 10^6 / (3600 s x 10000 tokens/s x 0.5) = 0.407777778 CAD a million tokens, rounded up",
      "cache read: 7.34 x 10^6 / (3600 s x 10000 tokens/s x 0.5) = 0.407777778 CAD a million tokens, rounded up",
      "output: 7.34 x 10^6 / (3600 s x 700 tokens/s x 0.5) = 5.825396826 CAD a million tokens, rounded up",
    ],
  );
});

test("the list has what is priced then, in that currency, by name", () => {
  const names = (currency: string, atMs: number) =>
    listPrices(BOOK, currency, atMs).map(({ model }) => model);
  assert.deepEqual(names("CAD", NOW_MS), ["m", "own"]);
  assert.deepEqual(names("USD", NOW_MS), ["m"]);
  assert.deepEqual(names("CAD", Date.parse("2025-06-01")), []);
  assert.equal(explainPrice(BOOK, "own", "USD", NOW_MS), null);
});

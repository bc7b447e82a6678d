/** Goal: a price is exact, dated, converted upwards, and absent rather than guessed. */
import assert from "node:assert/strict";
import test from "node:test";
import { parsePriceBook, priceAt } from "../../models/prices.ts";

const BOOK = `
fx:
  - { from: USD, to: CAD, rate: "1.333333333", effective_from: "2026-01-01", source: s }
  - { from: USD, to: CAD, rate: "1.5", effective_from: "2026-03-01", source: s }
prices:
  - { model: m, currency: USD, effective_from: "2026-01-01", source: s, input: "0.000000001", output: "3" }
  - { model: m, currency: USD, effective_from: "2026-02-01", source: s, input: "2", cache_read: "0.2", output: "4" }
  - { model: n, currency: CAD, effective_from: "2026-01-01", source: s, input: "1", output: "1" }
`;
const at = (date: string) => Date.parse(`${date}T00:00:00Z`);

test("the newest entry in force decides, and names itself", () => {
  const book = parsePriceBook(BOOK, "prices.yaml");
  assert.equal(priceAt(book, "m", "USD", at("2025-12-31")), null);
  assert.equal(priceAt(book, "m", "USD", at("2026-01-31"))?.version, "m@2026-01-01");
  assert.deepEqual(priceAt(book, "m", "USD", at("2026-02-01")), {
    version: "m@2026-02-01",
    currency: "USD",
    inputNanosPerMillion: "2000000000",
    cacheReadNanosPerMillion: "200000000",
    cacheWriteNanosPerMillion: "2000000000",
    longCacheWriteNanosPerMillion: "3200000000",
    outputNanosPerMillion: "4000000000",
  });
});

test("a conversion rounds up and is part of the version", () => {
  const book = parsePriceBook(BOOK, "prices.yaml");
  const price = priceAt(book, "m", "CAD", at("2026-01-02"));
  assert.equal(price?.version, "m@2026-01-01,USD/CAD@2026-01-01");
  assert.equal(price?.inputNanosPerMillion, "2");
  assert.equal(price?.outputNanosPerMillion, "3999999999");
  assert.equal(priceAt(book, "m", "CAD", at("2026-03-01"))?.outputNanosPerMillion, "6000000000");
});

test("no price, no rate, no guess", () => {
  const book = parsePriceBook(BOOK, "prices.yaml");
  assert.equal(priceAt(book, "unknown", "CAD", at("2026-03-01")), null);
  assert.equal(priceAt(book, "n", "USD", at("2026-03-01")), null);
});

test("what own GPUs cost by a newer plan replaces what was assumed in another currency", () => {
  const gpu = (rate: string) =>
    `gpu: { rate_per_gpu_hour: "${rate}", gpus: 1, input_tokens_per_second: "1000", ` +
    'output_tokens_per_second: "100", utilisation: "1", source: s }';
  const entry = (currency: string, from: string, terms: string) =>
    `  - { model: m, currency: ${currency}, effective_from: "${from}", source: s, ${terms} }`;
  const inputOf = (...entries: string[]) => {
    const fx = '{ from: USD, to: CAD, rate: "1.5", effective_from: "2026-01-01", source: s }';
    const text = `fx: [${fx}]\nprices:\n${entries.join("\n")}\n`;
    return priceAt(parsePriceBook(text, "prices.yaml"), "m", "CAD", at("2026-05-01"))
      ?.inputNanosPerMillion;
  };
  const plan = entry("USD", "2026-03-01", gpu("3.60"));
  assert.equal(inputOf(entry("CAD", "2026-02-01", gpu("7.20")), plan), "1500000000");
  assert.equal(inputOf(entry("CAD", "2026-04-01", gpu("7.20")), plan), "2000000000");
  const list = entry("CAD", "2026-02-01", 'input: "9", output: "9"');
  assert.equal(inputOf(list, plan), "9000000000");
});

test("a wrong book is told by file, line and field", () => {
  const faults: [string, RegExp][] = [
    [BOOK.replace('input: "2"', "input: 2.5"), /^prices\.yaml:7: prices\.1\.input: /],
    [BOOK.replace('"1.5"', '"0"'), /^prices\.yaml:4: fx\.1\.rate: must be more than 0$/],
    [BOOK.replace("2026-02-01", "2026-02-31T99:00:00Z"), /effective_from: .*is no date$/],
    [BOOK.replace("2026-02-01", "2026-01-01"), /^prices\.yaml:7: prices\.1: a second entry for m/],
    [
      BOOK.replace("source: s }", "source: s, note: x }"),
      /^prices\.yaml:3: fx\.0\.note: unknown key$/,
    ],
  ];
  for (const [text, message] of faults) {
    assert.throws(() => parsePriceBook(text, "prices.yaml"), { name: "CatalogError", message });
  }
});

test("a price has long cache writes, tiers, and GPU time, or says what is wrong", () => {
  const entry = (terms: string) => `
fx: []
prices:
  - { model: m, currency: CAD, effective_from: "2026-01-01", source: s, ${terms} }
`;
  const gpu =
    'gpu: { rate_per_gpu_hour: "3.60", gpus: 1, input_tokens_per_second: "1000", ' +
    'output_tokens_per_second: "100", utilisation: "1", source: s }';
  const price = (terms: string) =>
    priceAt(parsePriceBook(entry(terms), "prices.yaml"), "m", "CAD", at("2026-02-01"));

  assert.equal(price('input: "1", output: "1"')?.longCacheWriteNanosPerMillion, "1600000000");
  const stated = price('input: "1", cache_write: "1.25", cache_write_long: "2", output: "1"');
  assert.equal(stated?.longCacheWriteNanosPerMillion, "2000000000");
  const tier = '{ above_input_tokens: 9, input: "2", cache_write: "2.5", output: "3" }';
  assert.deepEqual(price(`input: "1", output: "1", tiers: [${tier}]`)?.tiers, [
    {
      aboveInputTokens: 9,
      inputNanosPerMillion: "2000000000",
      cacheReadNanosPerMillion: "2000000000",
      cacheWriteNanosPerMillion: "2500000000",
      longCacheWriteNanosPerMillion: "4000000000",
      outputNanosPerMillion: "3000000000",
    },
  ]);
  assert.deepEqual(price(gpu), {
    version: "m@2026-01-01",
    currency: "CAD",
    inputNanosPerMillion: "1000000000",
    cacheReadNanosPerMillion: "1000000000",
    cacheWriteNanosPerMillion: "1000000000",
    longCacheWriteNanosPerMillion: "1000000000",
    outputNanosPerMillion: "10000000000",
    gpu: {
      inputMsPerMillion: "1000000",
      cacheReadMsPerMillion: "1000000",
      outputMsPerMillion: "10000000",
    },
  });

  const faults: [string, RegExp][] = [
    ['input: "1"', /^prices\.yaml:4: prices\.0: give input and output, or gpu$/],
    [`${gpu}, output: "1"`, /prices\.0\.output: cannot stand beside gpu/],
    [`${gpu}, tiers: [${tier}]`, /prices\.0\.tiers: cannot stand beside gpu/],
    [gpu.replace('utilisation: "1"', 'utilisation: "2"'), /gpu\.utilisation: must be at most 1$/],
    [gpu.replace("gpus: 1", "gpus: 0"), /prices\.0\.gpu\.gpus: /],
    [
      `input: "1", output: "1", tiers: [${tier}, ${tier}]`,
      /tiers\.1\.above_input_tokens: must be more/,
    ],
  ];
  for (const [terms, message] of faults) {
    assert.throws(() => price(terms), { name: "CatalogError", message }, terms);
  }
});

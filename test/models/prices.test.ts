/** Goal: a price is exact, dated, converted upwards, and absent rather than guessed. */
import assert from "node:assert/strict";
import test from "node:test";
import fc from "fast-check";
import { parseDecimal, parsePriceBook, priceAt } from "../../models/prices.ts";

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

test("decimals are read exactly", () => {
  for (const text of ["", "-1", "1e3", "1.", ".5", "0.0000000001", "1,5", " 1"]) {
    assert.equal(parseDecimal(text), null, text);
  }
  fc.assert(
    fc.property(fc.bigInt({ min: 0n, max: 10n ** 18n - 1n }), (nanos) => {
      const digits = String(nanos).padStart(10, "0");
      const text = `${BigInt(digits.slice(0, -9))}.${digits.slice(-9)}`;
      assert.equal(parseDecimal(text), nanos);
    }),
  );
});

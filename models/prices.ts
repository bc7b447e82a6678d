/**
 * The price book: what a million tokens of a model cost, since when, and by whose word. Pure.
 *
 * Prices are decimal text, read as integers of nano-units: no amount is ever a float. A model
 * without a price in force is refused, so `priceAt` answers null and never guesses.
 */
import { Type } from "typebox";
import { readYaml } from "./yaml-file.ts";

const Decimal = Type.String({ pattern: "^[0-9]{1,9}([.][0-9]{1,9})?$" });
const Instant = Type.String({
  pattern: "^[0-9]{4}-[0-9]{2}-[0-9]{2}(T[0-9]{2}:[0-9]{2}:[0-9]{2}Z)?$",
});
const Currency = Type.String({ pattern: "^[A-Z]{3}$" });
const Source = Type.String({ minLength: 1, maxLength: 500 });

const Book = Type.Object(
  {
    fx: Type.Array(
      Type.Object(
        { from: Currency, to: Currency, rate: Decimal, effective_from: Instant, source: Source },
        { additionalProperties: false },
      ),
    ),
    prices: Type.Array(
      Type.Object(
        {
          model: Type.String({ minLength: 1, maxLength: 200 }),
          currency: Currency,
          effective_from: Instant,
          source: Source,
          input: Decimal,
          cache_read: Type.Optional(Decimal),
          cache_write: Type.Optional(Decimal),
          output: Decimal,
        },
        { additionalProperties: false },
      ),
    ),
  },
  { additionalProperties: false },
);

export interface PriceEntry {
  model: string;
  currency: string;
  /** As written; with `model` it names the entry. */
  effectiveFrom: string;
  effectiveFromMs: number;
  source: string;
  inputNanosPerMillion: bigint;
  cacheReadNanosPerMillion: bigint;
  cacheWriteNanosPerMillion: bigint;
  outputNanosPerMillion: bigint;
}

export interface FxRate {
  from: string;
  to: string;
  /** Units of `to` for one of `from`, times 10^9. */
  rateNanos: bigint;
  effectiveFrom: string;
  effectiveFromMs: number;
  source: string;
}

export interface PriceBook {
  prices: readonly PriceEntry[];
  fx: readonly FxRate[];
}

/** A price as a virtual key carries it (orchestrator/keys, PriceSnapshot): integers as text. */
export interface Price extends TokenPrices {
  version: string;
  currency: string;
  tiers?: readonly (TokenPrices & { aboveInputTokens: number })[];
  gpu?: { inputMsPerMillion: string; cacheReadMsPerMillion: string; outputMsPerMillion: string };
}

export interface TokenPrices {
  inputNanosPerMillion: string;
  cacheReadNanosPerMillion: string;
  cacheWriteNanosPerMillion: string;
  longCacheWriteNanosPerMillion?: string;
  outputNanosPerMillion: string;
}

/** A decimal amount as nano-units, or null: signs, exponents and a tenth decimal are refused. */
export function parseDecimal(text: string): bigint | null {
  const match = /^(\d{1,9})(?:\.(\d{1,9}))?$/.exec(text);
  if (match === null) return null;
  const [, units = "0", decimals = ""] = match;
  return BigInt(units) * 1_000_000_000n + BigInt(decimals.padEnd(9, "0"));
}

/** @throws CatalogError naming file, line and field. */
export function parsePriceBook(text: string, fileName: string): PriceBook {
  const { value, fault } = readYaml(text, fileName, Book);
  const seen = new Set<string>();

  const fx = value.fx.map((row, index): FxRate => {
    once(["fx", index], `${row.from}/${row.to}`, row.effective_from);
    const rateNanos = parseDecimal(row.rate) ?? 0n;
    if (rateNanos === 0n) throw fault(["fx", index, "rate"], "must be more than 0");
    const effectiveFromMs = instant(["fx", index, "effective_from"], row.effective_from);
    const { from, to, source } = row;
    return { from, to, rateNanos, effectiveFrom: row.effective_from, effectiveFromMs, source };
  });
  const prices = value.prices.map((row, index): PriceEntry => {
    once(["prices", index], `${row.model} in ${row.currency}`, row.effective_from);
    const effectiveFromMs = instant(["prices", index, "effective_from"], row.effective_from);
    return priceEntry({ ...row, effectiveFromMs });
  });
  return { prices, fx };

  function once(path: (string | number)[], what: string, from: string): void {
    const key = `${what} ${from}`;
    if (seen.has(key)) throw fault(path, `a second entry for ${what} from ${from}`);
    seen.add(key);
  }

  function instant(path: (string | number)[], written: string): number {
    const atMs = Date.parse(written);
    if (Number.isNaN(atMs)) throw fault(path, `"${written}" is no date`);
    return atMs;
  }
}

/**
 * An entry from decimal text that its schema has checked. A cache price that is not stated is the
 * input price: never less than what a provider without a discount would charge.
 */
export function priceEntry(row: {
  model: string;
  currency: string;
  effective_from: string;
  effectiveFromMs: number;
  source: string;
  input: string;
  cache_read?: string;
  cache_write?: string;
  output: string;
}): PriceEntry {
  return {
    model: row.model,
    currency: row.currency,
    effectiveFrom: row.effective_from,
    effectiveFromMs: row.effectiveFromMs,
    source: row.source,
    inputNanosPerMillion: decimal(row.input),
    cacheReadNanosPerMillion: decimal(row.cache_read ?? row.input),
    cacheWriteNanosPerMillion: decimal(row.cache_write ?? row.input),
    outputNanosPerMillion: decimal(row.output),
  };
}

/**
 * The price of `model` in `currency` at `atMs`: the newest entry in force in that currency, else
 * the newest in another one converted at the newest rate in force, rounded up. Null when unpriced.
 */
export function priceAt(
  book: PriceBook,
  model: string,
  currency: string,
  atMs: number,
): Price | null {
  const inForce = book.prices
    .filter((entry) => entry.model === model && entry.effectiveFromMs <= atMs)
    .sort((a, b) => b.effectiveFromMs - a.effectiveFromMs);
  const own = inForce.find((entry) => entry.currency === currency);
  if (own !== undefined) {
    return snapshot(own, currency, `${model}@${own.effectiveFrom}`, (nanos) => nanos);
  }
  for (const entry of inForce) {
    const rate = book.fx
      .filter((row) => row.from === entry.currency && row.to === currency)
      .filter((row) => row.effectiveFromMs <= atMs)
      .sort((a, b) => b.effectiveFromMs - a.effectiveFromMs)[0];
    if (rate === undefined) continue;
    const version = `${model}@${entry.effectiveFrom},${rate.from}/${rate.to}@${rate.effectiveFrom}`;
    return snapshot(entry, currency, version, (nanos) => convert(nanos, rate.rateNanos));
  }
  return null;
}

function snapshot(
  entry: PriceEntry,
  currency: string,
  version: string,
  inCurrency: (nanos: bigint) => bigint,
): Price {
  return {
    version,
    currency,
    inputNanosPerMillion: String(inCurrency(entry.inputNanosPerMillion)),
    cacheReadNanosPerMillion: String(inCurrency(entry.cacheReadNanosPerMillion)),
    cacheWriteNanosPerMillion: String(inCurrency(entry.cacheWriteNanosPerMillion)),
    outputNanosPerMillion: String(inCurrency(entry.outputNanosPerMillion)),
  };
}

function convert(nanos: bigint, rateNanos: bigint): bigint {
  return (nanos * rateNanos + 999_999_999n) / 1_000_000_000n;
}

function decimal(text: string): bigint {
  const nanos = parseDecimal(text);
  if (nanos === null) throw new RangeError(`priceEntry: "${text}" is no decimal amount`);
  return nanos;
}

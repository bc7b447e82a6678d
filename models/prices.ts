/**
 * The price book: what a million tokens of a model cost, since when, and by whose word. Pure.
 *
 * Prices are decimal text, read as integers of nano-units: no amount is ever a float. A model
 * without a price in force is refused, so `priceAt` answers null and never guesses.
 */
import { Type } from "typebox";
import { CurrencyCode } from "../orchestrator/contract/money.ts";
import {
  DecimalText,
  type GpuTerms,
  PriceTerms,
  type PriceTierTerms,
} from "../orchestrator/contract/prices.ts";
import { ceilDiv, type Nanos } from "../orchestrator/money.ts";
import { readDecimal } from "./decimal.ts";
import { type OwnPrice, ownPrice } from "./own-price.ts";
import { readYaml } from "./yaml-file.ts";

const Instant = Type.String({
  pattern: "^[0-9]{4}-[0-9]{2}-[0-9]{2}(T[0-9]{2}:[0-9]{2}:[0-9]{2}Z)?$",
});
const Source = Type.String({ minLength: 1, maxLength: 500 });
// No "@" or ",": a price's version is made of names with these between them.
const ModelName = Type.String({ pattern: "^[A-Za-z0-9][A-Za-z0-9._:/-]{0,199}$" });

const Book = Type.Object(
  {
    fx: Type.Array(
      Type.Object(
        {
          from: CurrencyCode,
          to: CurrencyCode,
          rate: DecimalText,
          effective_from: Instant,
          source: Source,
        },
        { additionalProperties: false },
      ),
    ),
    prices: Type.Array(
      Type.Object(
        {
          model: ModelName,
          currency: CurrencyCode,
          effective_from: Instant,
          source: Source,
          ...PriceTerms.properties,
        },
        { additionalProperties: false },
      ),
    ),
  },
  { additionalProperties: false },
);

/** Nano-units for a million tokens, as `KindTexts` has them as text. */
export interface EntryRates {
  inputNanosPerMillion: Nanos;
  cacheReadNanosPerMillion: Nanos;
  cacheWriteNanosPerMillion: Nanos;
  longCacheWriteNanosPerMillion: Nanos;
  outputNanosPerMillion: Nanos;
}

export interface PriceEntry extends EntryRates {
  model: string;
  currency: string;
  /** As written; with `model` it names the entry. */
  effectiveFrom: string;
  effectiveFromMs: number;
  source: string;
  tiers: readonly (EntryRates & { aboveInputTokens: number })[];
  /** How the rates were computed, where the model runs on own GPUs. */
  own: { terms: GpuTerms; price: OwnPrice } | null;
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

/** @throws CatalogError naming file, line and field. */
export function parsePriceBook(text: string, fileName: string): PriceBook {
  const { value, fault } = readYaml(text, fileName, Book);
  const seen = new Set<string>();

  const fx = value.fx.map((row, index): FxRate => {
    once(["fx", index], `${row.from}/${row.to}`, row.effective_from);
    const rateNanos = readDecimal(row.rate);
    if (rateNanos === 0n) throw fault(["fx", index, "rate"], "must be more than 0");
    const effectiveFromMs = instant(["fx", index, "effective_from"], row.effective_from);
    const { from, to, source } = row;
    return { from, to, rateNanos, effectiveFrom: row.effective_from, effectiveFromMs, source };
  });
  const prices = value.prices.map((row, index): PriceEntry => {
    const { model, currency, effective_from: effectiveFrom, source, ...terms } = row;
    once(["prices", index], `${model} in ${currency}`, effectiveFrom);
    const effectiveFromMs = instant(["prices", index, "effective_from"], effectiveFrom);
    const head = { model, currency, effectiveFrom, effectiveFromMs, source };
    return priceEntry(head, terms, (path, message) => fault(["prices", index, ...path], message));
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
 * An entry from terms that their schema has checked. A cache price that is not stated is the input
 * price, and an hour in a cache 8/5 of the short one, which no provider exceeds.
 *
 * @param fault makes the error of a field that is wrong; what it makes is thrown.
 */
export function priceEntry(
  head: Pick<PriceEntry, "model" | "currency" | "effectiveFrom" | "effectiveFromMs" | "source">,
  { gpu, tiers = [], ...kinds }: PriceTerms,
  fault: (path: (string | number)[], message: string) => Error,
): PriceEntry {
  const { input, output } = kinds;
  if (gpu !== undefined) {
    const [beside] = [...Object.keys(kinds), ...(tiers.length > 0 ? ["tiers"] : [])];
    if (beside !== undefined) throw fault([beside], "cannot stand beside gpu: give one of them");
    const price = ownPrice(gpu, (field, message) => fault(["gpu", field], message));
    const inputNanosPerMillion = price.input.nanosPerMillion;
    return {
      ...head,
      inputNanosPerMillion,
      cacheReadNanosPerMillion: price.cacheRead.nanosPerMillion,
      cacheWriteNanosPerMillion: inputNanosPerMillion,
      longCacheWriteNanosPerMillion: inputNanosPerMillion,
      outputNanosPerMillion: price.output.nanosPerMillion,
      tiers: [],
      own: { terms: gpu, price },
    };
  }
  if (input === undefined || output === undefined) {
    throw fault([], "give input and output, or gpu");
  }
  const rising = tiers.map((tier, index) => {
    const { above_input_tokens: aboveInputTokens } = tier;
    if (aboveInputTokens <= (tiers[index - 1]?.above_input_tokens ?? 0)) {
      throw fault(["tiers", index, "above_input_tokens"], "must be more than the tier's before it");
    }
    return { aboveInputTokens, ...entryRates(tier) };
  });
  return { ...head, ...entryRates({ ...kinds, input, output }), tiers: rising, own: null };
}

function entryRates(kinds: Omit<PriceTierTerms, "above_input_tokens">): EntryRates {
  const inputNanosPerMillion = readDecimal(kinds.input);
  const cacheWrite = kinds.cache_write;
  const long = kinds.cache_write_long;
  const cacheWriteNanosPerMillion =
    cacheWrite === undefined ? inputNanosPerMillion : readDecimal(cacheWrite);
  return {
    inputNanosPerMillion,
    cacheReadNanosPerMillion: readDecimal(kinds.cache_read ?? kinds.input),
    cacheWriteNanosPerMillion,
    longCacheWriteNanosPerMillion:
      long === undefined ? ceilDiv(cacheWriteNanosPerMillion * 8n, 5n) : readDecimal(long),
    outputNanosPerMillion: readDecimal(kinds.output),
  };
}

/** Which entry prices a model, and which exchange rate it is taken at, if any. */
export interface PriceSource {
  entry: PriceEntry;
  fx: FxRate | null;
}

/**
 * What prices `model` in `currency` at `atMs`: the newest entry in force in that currency, else
 * the newest in another one with the newest exchange rate in force. Of what own GPUs cost the
 * newest counts in whatever currency: the plan that a model is served by replaces what was assumed.
 * Null when unpriced.
 */
export function findPrice(
  book: PriceBook,
  model: string,
  currency: string,
  atMs: number,
): PriceSource | null {
  const inForce = book.prices
    .filter((entry) => entry.model === model && entry.effectiveFromMs <= atMs)
    .sort((a, b) => b.effectiveFromMs - a.effectiveFromMs);
  const same = inForce.find((entry) => entry.currency === currency);
  for (const entry of inForce) {
    if (same !== undefined && !replaces(entry, same)) continue;
    const [fx] = book.fx
      .filter((row) => row.from === entry.currency && row.to === currency)
      .filter((row) => row.effectiveFromMs <= atMs)
      .sort((a, b) => b.effectiveFromMs - a.effectiveFromMs);
    if (fx !== undefined) return { entry, fx };
  }
  return same === undefined ? null : { entry: same, fx: null };
}

function replaces(entry: PriceEntry, same: PriceEntry): boolean {
  const isOfOwnGpus = entry.own !== null && same.own !== null;
  return isOfOwnGpus && entry.effectiveFromMs > same.effectiveFromMs;
}

/** The price that `findPrice` finds, every rate converted and rounded up. Null when unpriced. */
export function priceAt(
  book: PriceBook,
  model: string,
  currency: string,
  atMs: number,
): Price | null {
  const source = findPrice(book, model, currency, atMs);
  return source === null ? null : priceFrom(source);
}

export function priceFrom({ entry, fx }: PriceSource): Price {
  const rate = fx === null ? "" : `,${fx.from}/${fx.to}@${fx.effectiveFrom}`;
  const { tiers, own } = entry;
  return {
    version: `${entry.model}@${entry.effectiveFrom}${rate}`,
    currency: fx?.to ?? entry.currency,
    ...converted(entry, fx),
    ...(tiers.length === 0
      ? {}
      : {
          tiers: tiers.map((tier) => ({
            aboveInputTokens: tier.aboveInputTokens,
            ...converted(tier, fx),
          })),
        }),
    ...(own === null
      ? {}
      : {
          gpu: {
            inputMsPerMillion: String(own.price.input.gpuMsPerMillion),
            cacheReadMsPerMillion: String(own.price.cacheRead.gpuMsPerMillion),
            outputMsPerMillion: String(own.price.output.gpuMsPerMillion),
          },
        }),
  };
}

function converted(rates: EntryRates, fx: FxRate | null): TokenPrices {
  const text = (nanos: Nanos) => String(fx === null ? nanos : convert(nanos, fx));
  return {
    inputNanosPerMillion: text(rates.inputNanosPerMillion),
    cacheReadNanosPerMillion: text(rates.cacheReadNanosPerMillion),
    cacheWriteNanosPerMillion: text(rates.cacheWriteNanosPerMillion),
    longCacheWriteNanosPerMillion: text(rates.longCacheWriteNanosPerMillion),
    outputNanosPerMillion: text(rates.outputNanosPerMillion),
  };
}

/** An amount at an exchange rate, rounded up to 1 nano-unit. */
export function convert(nanos: Nanos, { rateNanos }: FxRate): Nanos {
  return ceilDiv(nanos * rateNanos, 1_000_000_000n);
}

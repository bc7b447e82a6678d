/** How a price comes about, a step at a time, for a person to check with a calculator. Pure. */
import type { ModelPrice, PriceReport, PriceStep } from "../orchestrator/contract/prices.ts";
import { NANOS_PER_UNIT, type Nanos } from "../orchestrator/money.ts";
import { decimalText } from "./decimal.ts";
import type { Speed } from "./own-price.ts";
import {
  convert,
  type EntryRates,
  type FxRate,
  findPrice,
  type Price,
  type PriceBook,
  type PriceEntry,
  priceFrom,
  type TokenPrices,
} from "./prices.ts";

const KINDS = [
  ["input", "inputNanosPerMillion"],
  ["cache read", "cacheReadNanosPerMillion"],
  ["cache write", "cacheWriteNanosPerMillion"],
  ["cache write, an hour", "longCacheWriteNanosPerMillion"],
  ["output", "outputNanosPerMillion"],
] as const satisfies readonly (readonly [string, keyof EntryRates])[];

/** Null when the model has no price in that currency then. */
export function explainPrice(
  book: PriceBook,
  model: string,
  currency: string,
  atMs: number,
): Omit<PriceReport, "at"> | null {
  const found = findPrice(book, model, currency, atMs);
  if (found === null) return null;
  const { entry, fx } = found;
  const entries = book.prices
    .filter((other) => other.model === model)
    .sort((a, b) => b.effectiveFromMs - a.effectiveFromMs)
    .map((other) => ({
      currency: other.currency,
      effective_from: other.effectiveFrom,
      source: other.source,
      is_in_force: other === entry,
    }));
  const steps = [entryStep(entry), ...rateSteps(entry), ...(fx === null ? [] : fxSteps(entry, fx))];
  return { price: modelPrice(model, priceFrom(found)), steps, entries };
}

/** Every model of the book that has a price in that currency then, by name. */
export function listPrices(book: PriceBook, currency: string, atMs: number): ModelPrice[] {
  const models = [...new Set(book.prices.map(({ model }) => model))].sort();
  return models.flatMap((model) => {
    const found = findPrice(book, model, currency, atMs);
    return found === null ? [] : [modelPrice(model, priceFrom(found))];
  });
}

export function modelPrice(model: string, price: Price): ModelPrice {
  const { version, currency, tiers = [], gpu } = price;
  return {
    model,
    currency,
    version,
    ...rates(price),
    tiers: tiers.map((tier) => ({ above_input_tokens: tier.aboveInputTokens, ...rates(tier) })),
    gpu:
      gpu === undefined
        ? null
        : {
            input_gpu_ms_per_million: gpu.inputMsPerMillion,
            cache_read_gpu_ms_per_million: gpu.cacheReadMsPerMillion,
            output_gpu_ms_per_million: gpu.outputMsPerMillion,
          },
  };
}

function rates(price: TokenPrices) {
  return {
    input_nanos_per_million: price.inputNanosPerMillion,
    cache_read_nanos_per_million: price.cacheReadNanosPerMillion,
    cache_write_nanos_per_million: price.cacheWriteNanosPerMillion,
    long_cache_write_nanos_per_million:
      price.longCacheWriteNanosPerMillion ?? price.cacheWriteNanosPerMillion,
    output_nanos_per_million: price.outputNanosPerMillion,
  };
}

function entryStep({ model, currency, effectiveFrom, source }: PriceEntry): PriceStep {
  return {
    what: "entry",
    calculation: `${model} in ${currency}, in force from ${effectiveFrom}`,
    source,
  };
}

/** As the entry states them, or as its GPUs' hours make them. */
function rateSteps(entry: PriceEntry): PriceStep[] {
  if (entry.own !== null) return gpuSteps(entry, entry.own);
  const stated = (of: EntryRates) =>
    KINDS.map(([kind, key]) => `${kind} ${amount(of[key], entry.currency)}`).join("; ");
  return [
    { what: "a million tokens", calculation: stated(entry), source: null },
    ...entry.tiers.map((tier) => ({
      what: `above ${tier.aboveInputTokens} tokens of input, all of the call`,
      calculation: stated(tier),
      source: null,
    })),
  ];
}

function gpuSteps(
  { currency }: PriceEntry,
  { terms, price }: NonNullable<PriceEntry["own"]>,
): PriceStep[] {
  const { gpus, energy, utilisation, rate_per_gpu_hour: rate } = terms;
  const power =
    energy === undefined
      ? rate
      : `(${rate} + ${energy.watts_per_gpu} W / 1000 x ${energy.price_per_kwh} per kWh)`;
  const hour = decimalText(price.hourNanos, 2);
  const speed = (kind: string, { tokensPerSecond, nanosPerMillion }: Speed): PriceStep => ({
    what: kind,
    calculation:
      `${hour} x 10^6 / (3600 s x ${tokensPerSecond} tokens/s x ${utilisation})` +
      ` = ${amount(nanosPerMillion, currency)} a million tokens, rounded up`,
    source: null,
  });
  return [
    {
      what: "an hour",
      calculation: `${power} x ${gpus} GPU${gpus === 1 ? "" : "s"} = ${hour} ${currency}`,
      source: `tokens per second and utilisation: ${terms.source}`,
    },
    speed("input", price.input),
    speed("cache read", price.cacheRead),
    speed("output", price.output),
  ];
}

function fxSteps(entry: PriceEntry, fx: FxRate): PriceStep[] {
  const rate = decimalText(fx.rateNanos, 2);
  const each = (what: string, nanos: Nanos): PriceStep => {
    const isExact = (nanos * fx.rateNanos) % NANOS_PER_UNIT === 0n;
    const product = `${amount(nanos, fx.from)} x ${rate} = ${amount(convert(nanos, fx), fx.to)}`;
    const calculation = `${product} a million tokens${isExact ? "" : ", rounded up"}`;
    return { what, calculation, source: null };
  };
  const kinds = (of: EntryRates, suffix: string) =>
    KINDS.map(([kind, key]) => each(`${kind}${suffix}`, of[key]));
  return [
    {
      what: "exchange",
      calculation: `1 ${fx.from} = ${rate} ${fx.to}, in force from ${fx.effectiveFrom}`,
      source: fx.source,
    },
    ...kinds(entry, ""),
    ...entry.tiers.flatMap((tier) => kinds(tier, `, above ${tier.aboveInputTokens}`)),
  ];
}

/** Every digit: a rounded amount could not be checked. */
function amount(nanos: Nanos, currency: string): string {
  return `${decimalText(nanos, 2)} ${currency}`;
}

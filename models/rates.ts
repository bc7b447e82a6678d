/**
 * What tokens cost at a price, exactly. Pure.
 *
 * Every kind of token is charged at its own rate and rounded up to 1 nano-unit, so a call costs
 * under 5 nano-units more than the exact sum, and never less. A price with tiers charges the whole
 * call at the tier its input reaches, as providers with a long-context price do.
 */
import { ceilDiv, type Nanos, tokenCost } from "../orchestrator/money.ts";
import type { Price, TokenPrices } from "./prices.ts";

/** Nano-units for a million tokens of each kind. */
export interface Rates {
  inputNanos: Nanos;
  cacheReadNanos: Nanos;
  cacheWriteNanos: Nanos;
  /** Of what a cache keeps for an hour. */
  longCacheWriteNanos: Nanos;
  outputNanos: Nanos;
}

/** A price that is known to be one: every charge is computed from this. */
export interface PriceRates {
  base: Rates;
  /** Ascending; the last one that a call's input is above is the call's. */
  tiers: readonly { aboveInputTokens: number; rates: Rates }[];
}

/** The tokens of a call that are charged. `cacheWriteTokens` includes the long ones. */
export interface TokenCounts {
  inputTokens: number;
  cacheReadTokens: number;
  cacheWriteTokens: number;
  longCacheWriteTokens: number;
  outputTokens: number;
}

/** Null when it is no price in `currency`: such a model is refused, never served for nothing. */
export function readRates(price: Price, currency: string): PriceRates | null {
  if (price.version === "" || price.currency !== currency) return null;
  const base = tokenRates(price);
  if (base === null) return null;
  const tiers: { aboveInputTokens: number; rates: Rates }[] = [];
  for (const tier of price.tiers ?? []) {
    const { aboveInputTokens } = tier;
    const rates = tokenRates(tier);
    const before = tiers.at(-1)?.aboveInputTokens ?? 0;
    if (rates === null || !Number.isSafeInteger(aboveInputTokens)) return null;
    if (aboveInputTokens <= before) return null;
    tiers.push({ aboveInputTokens, rates });
  }
  return { base, tiers };
}

/** The rates of a call with `inputTokens` of input, of every kind together. */
export function ratesAt({ base, tiers }: PriceRates, inputTokens: number): Rates {
  return tiers.findLast((tier) => inputTokens > tier.aboveInputTokens)?.rates ?? base;
}

/** The dearest rate of each kind that a call with at most `inputTokens` of input can meet. */
export function ratesUpTo({ base, tiers }: PriceRates, inputTokens: number): Rates {
  const reached = tiers.filter((tier) => inputTokens > tier.aboveInputTokens);
  return dearest([base, ...reached.map(({ rates }) => rates)]);
}

/** The dearest rate of each kind: what covers a call whoever of several providers answers it. */
export function dearest(several: readonly Rates[]): Rates {
  const [first] = several;
  // Nearly every call: one provider, one tier.
  if (first !== undefined && several.length === 1) return first;
  const most = (kind: keyof Rates) =>
    several.map((rates) => rates[kind]).toSorted((a, b) => (a < b ? 1 : -1))[0] ?? 0n;
  return {
    inputNanos: most("inputNanos"),
    cacheReadNanos: most("cacheReadNanos"),
    cacheWriteNanos: most("cacheWriteNanos"),
    longCacheWriteNanos: most("longCacheWriteNanos"),
    outputNanos: most("outputNanos"),
  };
}

/** What `usage` costs. @throws RangeError when a count is none, a defect of the caller. */
export function usageCost(usage: TokenCounts, price: PriceRates): Nanos {
  const { inputTokens, cacheReadTokens, cacheWriteTokens, longCacheWriteTokens } = usage;
  const rates = ratesAt(price, inputTokens + cacheReadTokens + cacheWriteTokens);
  return (
    tokenCost(inputTokens, rates.inputNanos) +
    tokenCost(cacheReadTokens, rates.cacheReadNanos) +
    tokenCost(cacheWriteTokens - longCacheWriteTokens, rates.cacheWriteNanos) +
    tokenCost(longCacheWriteTokens, rates.longCacheWriteNanos) +
    tokenCost(usage.outputTokens, rates.outputNanos)
  );
}

/**
 * GPU-milliseconds (time, times GPUs) of a call to an own model, as its price counts them, rounded
 * up. Null where the price is by the token alone.
 */
export function gpuMs(usage: TokenCounts, { gpu }: Pick<Price, "gpu">): number | null {
  if (gpu === undefined) return null;
  const total =
    BigInt(usage.inputTokens + usage.cacheWriteTokens) * BigInt(gpu.inputMsPerMillion) +
    BigInt(usage.cacheReadTokens) * BigInt(gpu.cacheReadMsPerMillion) +
    BigInt(usage.outputTokens) * BigInt(gpu.outputMsPerMillion);
  return Number(ceilDiv(total, 1_000_000n));
}

function tokenRates(prices: TokenPrices): Rates | null {
  const texts = [
    prices.inputNanosPerMillion,
    prices.cacheReadNanosPerMillion,
    prices.cacheWriteNanosPerMillion,
    prices.longCacheWriteNanosPerMillion ?? longCacheWrite(prices.cacheWriteNanosPerMillion),
    prices.outputNanosPerMillion,
  ];
  if (!texts.every((text) => /^\d{1,18}$/.test(text))) return null;
  const [inputNanos = 0n, cacheReadNanos = 0n, cacheWriteNanos = 0n, longCacheWriteNanos = 0n] =
    texts.map(BigInt);
  return {
    inputNanos,
    cacheReadNanos,
    cacheWriteNanos,
    longCacheWriteNanos,
    outputNanos: BigInt(prices.outputNanosPerMillion),
  };
}

/**
 * Where a price does not say what an hour in a cache costs: 8/5 of five minutes, the ratio of the
 * one provider that sells both (2 to 1.25 times the input).
 */
function longCacheWrite(shortText: string): string {
  return /^\d{1,18}$/.test(shortText) ? String(ceilDiv(BigInt(shortText) * 8n, 5n)) : shortText;
}

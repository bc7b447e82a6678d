/**
 * The most a call may cost, proven before it is forwarded, and what it did cost. Pure.
 *
 * Input: a byte-level vocabulary spends at least one byte of text on a token, and a message's JSON
 * frame is longer than what a chat template puts in its place; so tokens <= bytes + the template's
 * own preamble. Where the bytes do not carry the input, the model's context is the bound.
 * Output: the ceiling is written into the request, so the server itself keeps it.
 */
import type { Wire } from "../../orchestrator/contract/agents.ts";
import type { PriceSnapshot } from "../../orchestrator/keys/keys.ts";
import { ceilDiv, type Nanos, tokenCost } from "../../orchestrator/money.ts";
import type { Usage } from "./usage.ts";

export interface Rates {
  inputNanos: Nanos;
  cacheReadNanos: Nanos;
  cacheWriteNanos: Nanos;
  outputNanos: Nanos;
}

/** What a chat template adds by itself: a default system text and the preamble of tools. */
const TEMPLATE_TOKENS = 1_024;
/** A cache entry kept for an hour costs 8/5 of one kept for five minutes (Anthropic's list). */
const LONG_CACHE_NUMERATOR = 8n;
const LONG_CACHE_DENOMINATOR = 5n;
/** Bytes of a prompt for one token, at the least that prose and code have: for fitting only. */
const BYTES_PER_TOKEN = 3;

/** Null when the snapshot is no price: such a model is refused, never served for nothing. */
export function readRates(price: PriceSnapshot, currency: string): Rates | null {
  if (price.version === "" || price.currency !== currency) return null;
  const texts = [
    price.inputNanosPerMillion,
    price.cacheReadNanosPerMillion,
    price.cacheWriteNanosPerMillion,
    price.outputNanosPerMillion,
  ];
  if (!texts.every((text) => /^\d{1,18}$/.test(text))) return null;
  const [inputNanos = 0n, cacheReadNanos = 0n, cacheWriteNanos = 0n, outputNanos = 0n] =
    texts.map(BigInt);
  return { inputNanos, cacheReadNanos, cacheWriteNanos, outputNanos };
}

/** The most input tokens a request of `byteCount` bytes can be billed for. */
export function inputCeiling(
  byteCount: number,
  hasOutsideInput: boolean,
  contextTokens: number,
): number {
  if (hasOutsideInput) return contextTokens;
  return Math.min(byteCount + TEMPLATE_TOKENS, contextTokens);
}

/** The output that fits beside the prompt, its size estimated: the server decides exactly. */
export function outputThatFits(
  byteCount: number,
  model: { contextTokens: number; maxOutputTokens: number },
  outputTokensMin: number,
): number {
  const left = model.contextTokens - Math.ceil(byteCount / BYTES_PER_TOKEN);
  return Math.min(model.maxOutputTokens, Math.max(left, outputTokensMin));
}

/** The most that `inputTokens` can cost, however a cache splits them. */
export function inputCost(wire: Wire, inputTokens: number, rates: Rates): Nanos {
  const { inputNanos, cacheReadNanos, cacheWriteNanos } = rates;
  // Only Anthropic's dialect can ask for an hour.
  const writeNanos =
    wire === "anthropic.messages"
      ? ceilDiv(cacheWriteNanos * LONG_CACHE_NUMERATOR, LONG_CACHE_DENOMINATOR)
      : cacheWriteNanos;
  const dearestFirst = [inputNanos, cacheReadNanos, writeNanos].sort((a, b) => (a < b ? 1 : -1));
  const [most = 0n] = dearestFirst;
  // The bill rounds up each of its four parts; the bound only this one.
  return most === 0n ? 0n : tokenCost(inputTokens, most) + 3n;
}

/** How many output tokens, of each of `choices` answers, `nanos` pay for. */
export function affordableOutput(nanos: Nanos, rates: Rates, choices: number): number {
  if (nanos < 0n) return 0;
  if (rates.outputNanos === 0n) return Number.MAX_SAFE_INTEGER;
  const tokens = (nanos * 1_000_000n) / (rates.outputNanos * BigInt(choices));
  return tokens > BigInt(Number.MAX_SAFE_INTEGER) ? Number.MAX_SAFE_INTEGER : Number(tokens);
}

/** What `usage` costs: each kind of token at its own price, rounded up. */
export function usageCost(usage: Usage, rates: Rates): Nanos {
  const longExtra = ceilDiv(
    BigInt(usage.longCacheWriteTokens) *
      rates.cacheWriteNanos *
      (LONG_CACHE_NUMERATOR - LONG_CACHE_DENOMINATOR),
    1_000_000n * LONG_CACHE_DENOMINATOR,
  );
  return (
    tokenCost(usage.inputTokens, rates.inputNanos) +
    tokenCost(usage.cacheReadTokens, rates.cacheReadNanos) +
    tokenCost(usage.cacheWriteTokens, rates.cacheWriteNanos) +
    longExtra +
    tokenCost(usage.outputTokens, rates.outputNanos)
  );
}

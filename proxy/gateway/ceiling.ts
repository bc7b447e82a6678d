/**
 * The most a call may cost, proven before it is forwarded. Pure.
 *
 * Input: a byte-level vocabulary spends at least one byte of text on a token, and a message's JSON
 * frame is longer than what a chat template puts in its place; so tokens <= bytes + the template's
 * own preamble. Where the bytes do not carry the input, the model's context is the bound.
 * Output: the ceiling is written into the request, so the server itself keeps it.
 */
import type { Rates } from "../../models/rates.ts";
import type { Wire } from "../../orchestrator/contract/agents.ts";
import { type Nanos, tokenCost } from "../../orchestrator/money.ts";

/** What a chat template adds by itself: a default system text and the preamble of tools. */
const TEMPLATE_TOKENS = 1_024;
/** Bytes of a prompt for one token, at the least that prose and code have: for fitting only. */
const BYTES_PER_TOKEN = 3;

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

/**
 * The most that `inputTokens` can cost, however a cache splits them.
 *
 * @param rates the dearest the call can meet: `ratesUpTo(price, inputTokens)`.
 */
export function inputCost(wire: Wire, inputTokens: number, rates: Rates): Nanos {
  const { inputNanos, cacheReadNanos, cacheWriteNanos, longCacheWriteNanos } = rates;
  // Only Anthropic's dialect can ask for an hour.
  const longNanos = wire === "anthropic.messages" ? longCacheWriteNanos : 0n;
  const kinds = [inputNanos, cacheReadNanos, cacheWriteNanos, longNanos];
  const most = kinds.reduce((found, rate) => (rate > found ? rate : found));
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

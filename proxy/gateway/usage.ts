/**
 * What a model server says it used, in each dialect's words, brought to one: nothing counted
 * twice. OpenAI's prompt tokens include the cached ones, Anthropic's input does not. Pure.
 */
import type { Wire } from "../../orchestrator/contract/agents.ts";

export interface Usage {
  /** Input neither read from a cache nor put in one. */
  inputTokens: number;
  cacheReadTokens: number;
  cacheWriteTokens: number;
  /** The part of `cacheWriteTokens` that is kept for an hour, at a higher price. */
  longCacheWriteTokens: number;
  /** All output, reasoning included. */
  outputTokens: number;
  reasoningTokens: number;
}

export const NO_USAGE: Usage = {
  inputTokens: 0,
  cacheReadTokens: 0,
  cacheWriteTokens: 0,
  longCacheWriteTokens: 0,
  outputTokens: 0,
  reasoningTokens: 0,
};

/** Every token of a call, of input and output. */
export function totalTokens(usage: Usage): number {
  const { inputTokens, cacheReadTokens, cacheWriteTokens, outputTokens } = usage;
  return inputTokens + cacheReadTokens + cacheWriteTokens + outputTokens;
}

/** No call uses this many tokens: a larger count is a defect of the server, not a bill. */
const TOKENS_MAX = 1_000_000_000;

/**
 * Reads a dialect's usage object. Fields that are absent keep their value of `before`: Anthropic
 * sends them in parts, and repeats them as running totals. Null when any count is no count.
 */
export function readUsage(wire: Wire, value: unknown, before: Usage = NO_USAGE): Usage | null {
  if (!isRecord(value)) return null;
  switch (wire) {
    case "openai.chat":
    case "openai.completions":
      return openai(
        value["prompt_tokens"],
        value["completion_tokens"],
        value["prompt_tokens_details"],
        value["completion_tokens_details"],
      );
    case "openai.embeddings":
      // There is no output, and so no count of it.
      return openai(value["prompt_tokens"], 0, value["prompt_tokens_details"], null);
    case "openai.responses":
      return openai(
        value["input_tokens"],
        value["output_tokens"],
        value["input_tokens_details"],
        value["output_tokens_details"],
      );
    case "anthropic.messages":
      return anthropic(value, before);
  }
}

function openai(
  input: unknown,
  output: unknown,
  inputDetails: unknown,
  outputDetails: unknown,
): Usage | null {
  const prompt = count(input);
  const completion = count(output);
  const cached = count(detail(inputDetails, "cached_tokens") ?? 0);
  const reasoning = count(detail(outputDetails, "reasoning_tokens") ?? 0);
  if (prompt === null || completion === null || cached === null || reasoning === null) return null;
  if (cached > prompt || reasoning > completion) return null;
  return {
    ...NO_USAGE,
    inputTokens: prompt - cached,
    cacheReadTokens: cached,
    outputTokens: completion,
    reasoningTokens: reasoning,
  };
}

function anthropic(value: Record<string, unknown>, before: Usage): Usage | null {
  const input = count(value["input_tokens"] ?? before.inputTokens);
  const read = count(value["cache_read_input_tokens"] ?? before.cacheReadTokens);
  const write = count(value["cache_creation_input_tokens"] ?? before.cacheWriteTokens);
  const longWrite = count(
    detail(value["cache_creation"], "ephemeral_1h_input_tokens") ?? before.longCacheWriteTokens,
  );
  const output = count(value["output_tokens"] ?? before.outputTokens);
  if (input === null || read === null || write === null || output === null) return null;
  if (longWrite === null || longWrite > write) return null;
  return {
    inputTokens: input,
    cacheReadTokens: read,
    cacheWriteTokens: write,
    longCacheWriteTokens: longWrite,
    outputTokens: output,
    reasoningTokens: 0,
  };
}

function count(value: unknown): number | null {
  const isCount = Number.isSafeInteger(value) && (value as number) >= 0;
  return isCount && (value as number) <= TOKENS_MAX ? (value as number) : null;
}

function detail(details: unknown, key: string): unknown {
  return isRecord(details) ? (details[key] ?? undefined) : undefined;
}

function isRecord(value: unknown): value is Record<string, unknown> {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

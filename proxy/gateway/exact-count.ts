/**
 * Asks a provider how many tokens a text is, where it can say: Anthropic's `count_tokens`, and the
 * `/tokenize` of vLLM. It costs a round trip, so it is asked only where the bound of bytes does not
 * do: when the budget does not cover it, or a server says nothing of what it used.
 */
import type { Wire } from "../../orchestrator/contract/agents.ts";
import { askUpstream } from "./ask.ts";
import type { Candidate } from "./attempts.ts";
import type { CallRequest } from "./request.ts";
import type { Upstream, UpstreamPath } from "./upstream.ts";

/** The bytes of a request that its count depends on, by the counter's own words for them. */
const COUNTED: Readonly<Record<string, readonly string[]>> = {
  "openai.chat": ["messages", "tools", "chat_template_kwargs"],
  "openai.completions": ["prompt"],
  "anthropic.messages": [
    ...["messages", "system", "tools", "tool_choice", "thinking"],
    ...["output_config", "output_format"],
  ],
};
/** What adds no input, or only less. With anything else beside, no count is taken for exact. */
const FREE: ReadonlySet<string> = new Set([
  ...["model", "max_tokens", "max_completion_tokens", "min_tokens", "stream", "stream_options"],
  ...["n", "best_of", "echo", "stop", "stop_sequences", "seed", "ignore_eos"],
  ...["temperature", "top_p", "top_k", "min_p", "presence_penalty", "frequency_penalty"],
  ...["repetition_penalty", "logit_bias", "logprobs", "top_logprobs", "response_format"],
  ...["tool_choice", "parallel_tool_calls", "reasoning_effort", "context_management"],
  ...["user", "metadata", "store", "service_tier", "cache_control"],
]);
const TIMEOUT_MS = 5_000;
/** Special tokens that a count may leave out. */
const MARGIN_TOKENS = 64;

/** The most input that the request is billed for by any of them; null when one cannot say. */
export async function countInput(
  upstream: Upstream,
  candidates: readonly Candidate[],
  request: CallRequest,
): Promise<number | null> {
  const counts = await Promise.all(candidates.map((one) => countOf(upstream, one, request)));
  return counts.reduce<number | null>(
    (most, count) => (most === null || count === null ? null : Math.max(most, count)),
    0,
  );
}

/** The tokens of a text that the model wrote; null when its provider cannot say. */
export async function countText(
  upstream: Upstream,
  { provider, upstreamName }: Candidate,
  text: string,
): Promise<number | null> {
  if (provider.hasTokenize !== true) return null;
  const body = { model: upstreamName, prompt: text, add_special_tokens: false };
  const answer = await ask(upstream, provider, "/tokenize", Buffer.from(JSON.stringify(body)));
  return tokensIn(answer, "count");
}

async function countOf(
  upstream: Upstream,
  { provider, upstreamName }: Candidate,
  request: CallRequest,
): Promise<number | null> {
  const path = counterOf(request.wire, provider, request);
  if (path === null) return null;
  const answer = await ask(upstream, provider, path, bodyOf(request, upstreamName));
  if (path === "/tokenize") {
    const count = tokensIn(answer, "count");
    return count === null ? null : count + MARGIN_TOKENS;
  }
  const count = tokensIn(answer, "input_tokens");
  // "The token count should be considered an estimate" (its documentation): a fiftieth more.
  return count === null ? null : Math.ceil(count * 1.02) + MARGIN_TOKENS;
}

/**
 * Who counts it; null for what its counter does not see: images for vLLM, stored conversations,
 * and whatever else a server may make input of (`documents`, for one).
 */
function counterOf(
  wire: Wire,
  provider: Candidate["provider"],
  request: CallRequest,
): UpstreamPath | null {
  const counted = COUNTED[wire] ?? [];
  const keys = [...request.object.members.keys()];
  if (!keys.every((key) => FREE.has(key) || counted.includes(key))) return null;
  if (wire === "anthropic.messages") {
    return provider.hasTokenCount && !request.hasOutsideInput ? "/messages/count_tokens" : null;
  }
  const isCounted = wire === "openai.chat" || (wire === "openai.completions" && isOneText(request));
  if (!isCounted || request.hasOutsideInput) return null;
  return provider.hasTokenize === true ? "/tokenize" : null;
}

function isOneText({ bytes, object }: CallRequest): boolean {
  const prompt = object.members.get("prompt");
  return prompt !== undefined && bytes[prompt.start] === 0x22;
}

/** The request's own bytes, as they are. */
function bodyOf({ wire, bytes, object }: CallRequest, upstreamName: string): Buffer {
  const parts: Buffer[] = [Buffer.from(`{"model":${JSON.stringify(upstreamName)}`)];
  for (const key of COUNTED[wire] ?? []) {
    const span = object.members.get(key);
    if (span === undefined) continue;
    parts.push(Buffer.from(`,"${key}":`), bytes.subarray(span.start, span.end));
  }
  parts.push(Buffer.from("}"));
  return Buffer.concat(parts);
}

function ask(
  upstream: Upstream,
  provider: Candidate["provider"],
  path: UpstreamPath,
  body: Buffer,
): Promise<unknown> {
  const headers = {
    "content-type": "application/json",
    "accept-encoding": "identity",
    ...(path === "/tokenize" ? {} : { "anthropic-version": "2023-06-01" }),
  };
  return askUpstream(upstream, { provider, path, body, headers }, TIMEOUT_MS);
}

function tokensIn(answer: unknown, key: string): number | null {
  const count = (answer as Record<string, unknown> | null)?.[key];
  return Number.isSafeInteger(count) && (count as number) >= 0 ? (count as number) : null;
}

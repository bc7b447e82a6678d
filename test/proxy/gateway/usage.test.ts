/** Goal: each dialect's counts come out as one, nothing counted twice, nonsense refused. */
import assert from "node:assert/strict";
import test from "node:test";
import { NO_USAGE, readUsage } from "../../../proxy/gateway/usage.ts";

test("OpenAI's prompt holds the cached part, and its completion the reasoning", () => {
  const chat = readUsage("openai.chat", {
    prompt_tokens: 100,
    completion_tokens: 20,
    prompt_tokens_details: { cached_tokens: 60 },
    completion_tokens_details: { reasoning_tokens: 15 },
  });
  const wanted = { inputTokens: 40, cacheReadTokens: 60, outputTokens: 20, reasoningTokens: 15 };
  assert.deepEqual(chat, { ...NO_USAGE, ...wanted });
  const responses = readUsage("openai.responses", {
    input_tokens: 100,
    output_tokens: 20,
    input_tokens_details: { cached_tokens: 60 },
    output_tokens_details: { reasoning_tokens: 15 },
  });
  assert.deepEqual(responses, chat);
  const plain = { prompt_tokens: 1, completion_tokens: 0, prompt_tokens_details: null };
  assert.deepEqual(readUsage("openai.chat", plain), { ...NO_USAGE, inputTokens: 1 });
});

test("Anthropic's parts add up, and come in parts", () => {
  const start = readUsage("anthropic.messages", {
    input_tokens: 2,
    cache_read_input_tokens: 5,
    cache_creation_input_tokens: 128,
    cache_creation: { ephemeral_1h_input_tokens: 100, ephemeral_5m_input_tokens: 28 },
    output_tokens: 1,
  });
  assert.deepEqual(start, {
    inputTokens: 2,
    cacheReadTokens: 5,
    cacheWriteTokens: 128,
    longCacheWriteTokens: 100,
    outputTokens: 1,
    reasoningTokens: 0,
  });
  assert.ok(start !== null);
  const end = readUsage("anthropic.messages", { output_tokens: 30 }, start);
  assert.deepEqual(end, { ...start, outputTokens: 30 });
});

test("what is no count is no usage", () => {
  for (const tokens of [-1, 1.5, 1e18, Number.NaN, "1", null, {}, true]) {
    const chat = { prompt_tokens: 1, completion_tokens: tokens };
    assert.equal(readUsage("openai.chat", chat), null, String(tokens));
    const messages = { input_tokens: 1, output_tokens: tokens ?? -1 };
    assert.equal(readUsage("anthropic.messages", messages), null, String(tokens));
  }
  for (const value of [null, [], 7, "x"]) assert.equal(readUsage("openai.responses", value), null);
});

test("completions say it as chat does, embeddings have input alone", () => {
  const usage = { prompt_tokens: 9, completion_tokens: 4, total_tokens: 13 };
  const completion = readUsage("openai.completions", usage);
  assert.deepEqual([completion?.inputTokens, completion?.outputTokens], [9, 4]);
  const vectors = readUsage("openai.embeddings", { prompt_tokens: 9, total_tokens: 9 });
  assert.deepEqual([vectors?.inputTokens, vectors?.outputTokens], [9, 0]);
  assert.equal(readUsage("openai.embeddings", { total_tokens: 9 }), null);
});

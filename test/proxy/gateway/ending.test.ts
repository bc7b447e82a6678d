/** Goal: what the client has had of a stream, with what ends it, is an answer cut at a limit. */
import assert from "node:assert/strict";
import test from "node:test";
import type { Wire } from "../../../orchestrator/contract/agents.ts";
import { createStreamEnding } from "../../../proxy/gateway/ending.ts";
import { NO_USAGE } from "../../../proxy/gateway/usage.ts";

const USAGE = { ...NO_USAGE, inputTokens: 7, cacheReadTokens: 2, outputTokens: 5 };

function end(wire: Wire, events: Record<string, unknown>[], wantsUsage = false) {
  const ending = createStreamEnding(wire);
  for (const event of events) ending.see(event);
  const text = ending.text(USAGE, wantsUsage);
  assert.ok(text.endsWith("\n\n"));
  const parts = text.split("\n\n").slice(0, -1);
  return parts.map((part) => {
    const data = part.replace(/^event: .*\n/, "").replace(/^data: /, "");
    const value = data === "[DONE]" ? data : JSON.parse(data);
    const named = /^event: (.*)\n/.exec(part)?.[1];
    if (named !== undefined) assert.equal(named, value.type);
    return value;
  });
}

test("chat: each open choice ends for its length, then usage if it is wanted", () => {
  const head = { id: "c", object: "chat.completion.chunk", created: 1, model: "m" };
  const chunk = (index: number, finish_reason: string | null) => ({
    ...head,
    choices: [{ index, delta: { content: "x" }, finish_reason }],
    usage: { prompt_tokens: 9 },
  });
  const events = [chunk(0, null), chunk(1, null), chunk(0, "stop")];
  const last = { index: 1, delta: {}, logprobs: null, finish_reason: "length" };
  assert.deepEqual(end("openai.chat", events), [{ ...head, choices: [last] }, "[DONE]"]);
  const [, usage, done] = end("openai.chat", events, true);
  assert.deepEqual(usage, {
    ...head,
    choices: [],
    usage: {
      prompt_tokens: 9,
      completion_tokens: 5,
      total_tokens: 14,
      prompt_tokens_details: { cached_tokens: 2 },
      completion_tokens_details: { reasoning_tokens: 0 },
    },
  });
  assert.equal(done, "[DONE]");
});

test("completions: a text of nothing", () => {
  const events = [{ id: "c", choices: [{ index: 0, text: "x", finish_reason: null }] }];
  const choice = { index: 0, text: "", logprobs: null, finish_reason: "length" };
  assert.deepEqual(end("openai.completions", events), [{ id: "c", choices: [choice] }, "[DONE]"]);
});

test("messages: the open block is closed, and the message stops for its tokens", () => {
  const events = [
    { type: "message_start", message: {} },
    { type: "content_block_start", index: 0 },
    { type: "content_block_stop", index: 0 },
    { type: "content_block_start", index: 1 },
    { type: "content_block_delta", index: 1, delta: {} },
  ];
  assert.deepEqual(end("anthropic.messages", events), [
    { type: "content_block_stop", index: 1 },
    {
      type: "message_delta",
      delta: { stop_reason: "max_tokens", stop_sequence: null },
      usage: { output_tokens: 5 },
    },
    { type: "message_stop" },
  ]);
});

test("responses: what is open is done as far as it came, and the response is incomplete", () => {
  const message = { id: "i1", type: "message", role: "assistant", status: "in_progress" };
  const call = { id: "i2", type: "function_call", name: "ls", arguments: "" };
  const text = { type: "response.output_text.delta", output_index: 1, content_index: 0 };
  const args = { type: "response.function_call_arguments.delta", output_index: 2 };
  const reasoning = { id: "i0", type: "reasoning" };
  const events = [
    { type: "response.created", response: { id: "r", status: "in_progress", output: [] } },
    { type: "response.output_item.done", output_index: 0, item: reasoning },
    { type: "response.output_item.added", output_index: 1, item: { ...message, content: [] } },
    { ...text, delta: "ab" },
    { ...text, delta: "c" },
    { type: "response.output_item.added", output_index: 2, item: call },
    { ...args, delta: '{"a' },
  ].map((event, at) => ({ ...event, sequence_number: at }));
  const [done, part, item, second, last] = end("openai.responses", events);
  assert.deepEqual(
    [done.type, done.text, done.item_id],
    ["response.output_text.done", "abc", "i1"],
  );
  assert.deepEqual([part.type, part.part.text], ["response.content_part.done", "abc"]);
  const content = [{ type: "output_text", text: "abc", annotations: [], logprobs: [] }];
  const whole = { ...message, status: "incomplete", content };
  assert.deepEqual([item.type, item.item], ["response.output_item.done", whole]);
  const cut = { ...call, arguments: '{"a', status: "incomplete" };
  assert.deepEqual(second.item, cut);
  assert.equal(last.type, "response.incomplete");
  assert.equal(last.sequence_number, 11);
  assert.deepEqual(last.response, {
    id: "r",
    status: "incomplete",
    incomplete_details: { reason: "max_output_tokens" },
    output: [reasoning, whole, cut],
    usage: {
      input_tokens: 9,
      input_tokens_details: { cached_tokens: 2 },
      output_tokens: 5,
      output_tokens_details: { reasoning_tokens: 0 },
      total_tokens: 14,
    },
  });
});

test("embeddings are no stream", () => {
  assert.equal(createStreamEnding("openai.embeddings").text(USAGE, true), "");
});

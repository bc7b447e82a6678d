/** Goal: without usage, what the model wrote is counted once, and all of it. */
import assert from "node:assert/strict";
import test from "node:test";
import type { Wire } from "../../../orchestrator/contract/agents.ts";
import { estimateAnswer } from "../../../proxy/gateway/estimate.ts";

const count = (wire: Wire, value: unknown) =>
  estimateAnswer(wire, Buffer.from(JSON.stringify(value)), false, 0).outputTokens;
const counted = (wire: Wire, ...events: unknown[]) => {
  const text = events.map((event) => `data: ${JSON.stringify(event)}\n\n`).join("");
  return estimateAnswer(wire, Buffer.from(text), true, 0).outputTokens;
};

test("answers in one piece", () => {
  const call = { function: { name: "ls", arguments: "{}" } };
  const message = { role: "assistant", content: "é", reasoning_content: "abc", tool_calls: [call] };
  assert.equal(count("openai.chat", { id: "x", choices: [{ message }] }), 2 + 3 + 2 + 2);
  const content = [
    { type: "text", text: "ab" },
    { type: "tool_use", id: "t", name: "ls", input: { a: 1 } },
  ];
  assert.equal(count("anthropic.messages", { content, model: "m" }), 2 + 2 + 7);
  const output = [{ type: "message", content: [{ type: "output_text", text: "abc" }] }];
  assert.equal(count("openai.responses", { output, instructions: "long" }), 3);
});

test("streams, repeats not counted again", () => {
  const chunk = (delta: unknown) => ({ choices: [{ delta }] });
  assert.equal(counted("openai.chat", chunk({ role: "assistant" }), chunk({ content: "abc" })), 3);
  const delta = { type: "response.output_text.delta", delta: "abc" };
  const done = { type: "response.output_text.done", text: "abc" };
  assert.equal(counted("openai.responses", delta, done), 3);
  const start = { type: "content_block_start", content_block: { type: "text", text: "" } };
  const part = {
    type: "content_block_delta",
    delta: { type: "input_json_delta", partial_json: "{}" },
  };
  assert.equal(
    counted("anthropic.messages", { type: "message_start", message: {} }, start, part),
    2,
  );
});

test("what was cut off or not kept counts by its bytes", () => {
  const cut = Buffer.from('data: {"choices":[{"delta":{"content":"abc"}}]}\n\ndata: {"cho');
  assert.equal(estimateAnswer("openai.chat", cut, true, 0).outputTokens, 3 + 5);
  assert.equal(estimateAnswer("openai.chat", Buffer.alloc(0), true, 99).outputTokens, 99);
  const done = estimateAnswer("openai.chat", Buffer.from("data: [DONE]\n\n"), true, 0);
  assert.deepEqual(done, { outputTokens: 0, text: "", hasOutput: false, error: null });
});

test("errors are told", () => {
  const of = (value: unknown, isStream = false) => {
    const text = JSON.stringify(value);
    const bytes = Buffer.from(isStream ? `event: error\ndata: ${text}\n\n` : text);
    return estimateAnswer("anthropic.messages", bytes, isStream, 0);
  };
  const wanted = { outputTokens: 0, text: "", hasOutput: false, error: "busy" };
  assert.deepEqual(of({ type: "error", error: { message: "busy" } }, true), wanted);
  assert.deepEqual(of({ error: "busy" }), wanted);
});

test("completions count their text, embeddings nothing", () => {
  const choices = [{ index: 0, text: "abc", logprobs: null, finish_reason: null }];
  assert.equal(count("openai.completions", { choices }), 3);
  assert.equal(counted("openai.completions", { choices }, { choices }), 6);
  const vectors = Buffer.from('{"data":[{"embedding":[0.1]}]}');
  assert.deepEqual(estimateAnswer("openai.embeddings", vectors, false, 9), {
    outputTokens: 0,
    text: null,
    hasOutput: true,
    error: null,
  });
  const failed = Buffer.from('{"error":{"message":"no"}}');
  assert.equal(estimateAnswer("openai.embeddings", failed, false, 0).hasOutput, false);
});

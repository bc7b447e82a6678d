/** Goal: completions as vLLM and OpenAI have it: the script's texts, one after the other. */
import assert from "node:assert/strict";
import { test } from "node:test";
import type { Answer } from "../../../models/scripted/dialect.ts";
import { openaiCompletions } from "../../../models/scripted/openai-completions.ts";
import { parseBody } from "./requests.ts";

const BODY = { model: "scripted-normal", stream: true, prompt: ["Fix", "it."] };
const ANSWER: Answer = {
  blocks: [
    { kind: "text", text: "Some words, " },
    { kind: "text", text: "and more." },
  ],
  stop: "length",
  usage: { inputTokens: 9, outputTokens: 6, reasoningTokens: 0 },
};

test("the prompts are what the user said", () => {
  const request = parseBody(openaiCompletions, { ...BODY, max_tokens: 7 });
  assert.deepEqual(request.turns, [{ role: "user", text: "Fix\nit." }]);
  assert.deepEqual([request.maxOutputTokens, request.usageChunks], [7, "none"]);
  for (const prompt of [undefined, 1, [[1, 2]]]) {
    assert.throws(() => parseBody(openaiCompletions, { ...BODY, prompt }), /prompt: must be text/);
  }
});

test("streamed and whole are one text, and usage comes as it was asked for", () => {
  for (const [options, usages] of [
    [{}, 0],
    [{ include_usage: true }, 1],
    [{ include_usage: true, continuous_usage_stats: true }, 5],
  ] as const) {
    const request = parseBody(openaiCompletions, { ...BODY, stream_options: options });
    const events = openaiCompletions.events(request, ANSWER);
    assert.equal(events.pop()?.data, "[DONE]");
    const chunks = events.map(({ data }) => JSON.parse(data));
    const choices = chunks.flatMap((chunk) => chunk.choices);
    assert.equal(choices.map((choice) => choice.text).join(""), "Some words, and more.");
    assert.equal(choices.at(-1).finish_reason, "length");
    const counted = chunks.flatMap((chunk) => chunk.usage?.completion_tokens ?? []);
    assert.equal(counted.length, usages);
    if (usages > 0) assert.equal(counted.at(-1), 6);
    const whole = openaiCompletions.json(request, ANSWER) as (typeof chunks)[number];
    assert.equal(whole.choices[0].text, "Some words, and more.");
    assert.equal(whole.usage.prompt_tokens, 9);
  }
});

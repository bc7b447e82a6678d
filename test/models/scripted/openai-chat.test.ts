/** Goal: chat/completions as vLLM and OpenAI have it; see `wire.ts` for what all protocols must. */
import assert from "node:assert/strict";
import { test } from "node:test";
import type { StreamEvent } from "../../../models/scripted/dialect.ts";
import { openaiChat } from "../../../models/scripted/openai-chat.ts";
import { chatBody, parseBody } from "./requests.ts";
import { ANSWER, testDialect } from "./wire.ts";

interface Chunk {
  choices: {
    delta: {
      content?: string;
      reasoning_content?: string;
      tool_calls?: { index: number; id?: string; function: { arguments: string } }[];
    };
  }[];
  usage?: { completion_tokens: number; completion_tokens_details: { reasoning_tokens: number } };
}

function chunks(events: readonly StreamEvent[]): Chunk[] {
  assert.equal(events.at(-1)?.data, "[DONE]");
  return events.slice(0, -1).map(({ data }) => JSON.parse(data) as Chunk);
}

testDialect(
  openaiChat,
  chatBody([], { stream: true }),
  (events) =>
    chunks(events).flatMap(({ choices }) =>
      choices.flatMap(({ delta }) => [
        { kind: "text", text: delta.content ?? "" },
        { kind: "thinking", text: delta.reasoning_content ?? "" },
        { kind: "tool_use", text: delta.tool_calls?.[0]?.function.arguments ?? "" },
      ]),
    ),
  { isOrdered: false },
);

test("usage comes in a chunk of its own, only when it is asked for", () => {
  const usages = (more: object) =>
    chunks(openaiChat.events(parseBody(openaiChat, chatBody([], more)), ANSWER)).map(
      ({ usage }) => usage?.completion_tokens,
    );
  assert.deepEqual(new Set(usages({})), new Set([undefined]));
  const last = usages({ stream_options: { include_usage: true } });
  assert.deepEqual(last.slice(-2), [undefined, 27]);
  assert.deepEqual(new Set(last.slice(0, -1)), new Set([undefined]));
});

test("continuous usage grows with what was written and ends at the answer's", () => {
  const options = { include_usage: true, continuous_usage_stats: true };
  const request = parseBody(openaiChat, chatBody([], { stream_options: options }));
  const sent = chunks(openaiChat.events(request, ANSWER)).map(({ usage }) => usage);
  const counts = sent.map((usage) => usage?.completion_tokens ?? -1);
  assert.deepEqual(
    counts,
    counts.toSorted((a, b) => a - b),
  );
  assert.deepEqual([counts[0], counts.at(-1)], [0, 27]);
  for (const usage of sent) {
    const reasoning = usage?.completion_tokens_details.reasoning_tokens ?? -1;
    assert.ok(reasoning <= (usage?.completion_tokens ?? -1));
  }
});

test("reads tool results that are lists of parts, and both names of the limit", () => {
  const body = {
    model: "scripted-normal",
    messages: [
      { role: "system", content: "Be brief." },
      { role: "user", content: [{ type: "text", text: "a" }, { type: "image_url" }] },
      { role: "assistant", tool_calls: [{ id: "c", function: { name: "bash" } }] },
      { role: "tool", tool_call_id: "c", content: [{ type: "text", text: "b" }] },
    ],
    max_completion_tokens: 7,
    max_tokens: 9,
    tool_choice: "none",
    tools: [{ type: "function", function: { name: "bash" } }],
  };
  const { system, turns, maxOutputTokens, tools } = parseBody(openaiChat, body);
  assert.deepEqual(
    { system, turns, maxOutputTokens, tools },
    {
      system: "Be brief.",
      turns: [
        { role: "user", text: "a" },
        { role: "assistant", text: "", toolUses: [{ id: "c", name: "bash" }] },
        { role: "tool", toolUseId: "c", text: "b", isError: null },
      ],
      maxOutputTokens: 7,
      tools: [],
    },
  );
});

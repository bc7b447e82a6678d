/** Goal: Anthropic's messages protocol; see `wire.ts` for what all protocols must do. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { anthropicMessages } from "../../../models/scripted/anthropic-messages.ts";
import { INSTRUCTION, MESSAGES_TOOLS, parseBody } from "./requests.ts";
import { testDialect } from "./wire.ts";

interface Event {
  type: string;
  index: number;
  content_block: { type: string };
  delta: { text?: string; thinking?: string; partial_json?: string };
}

const BODY = { model: "scripted-normal", max_tokens: 100, messages: [INSTRUCTION] };

testDialect(
  anthropicMessages,
  { ...BODY, stream: true, tools: MESSAGES_TOOLS },
  (events) => {
    const blocks: { kind: string; text: string }[] = [];
    for (const { event, data } of events) {
      const { type, index, content_block, delta } = JSON.parse(data) as Event;
      assert.equal(event, type);
      if (type === "content_block_start") blocks[index] = { kind: content_block.type, text: "" };
      const block = blocks[index];
      if (type === "content_block_delta" && block !== undefined) {
        block.text += delta.text ?? delta.thinking ?? delta.partial_json ?? "";
      }
    }
    return blocks;
  },
  { isOrdered: true },
);

test("reads results beside text, system messages in the history, and whether to think", () => {
  const body = {
    ...BODY,
    system: [{ type: "text", text: "You are an agent." }],
    thinking: { type: "adaptive" },
    tool_choice: { type: "none" },
    tools: MESSAGES_TOOLS,
    messages: [
      { role: "user", content: [{ type: "text", text: "a" }] },
      { role: "system", content: "Be brief." },
      {
        role: "assistant",
        content: [
          { type: "thinking", thinking: "x", signature: "y" },
          { type: "text", text: "t" },
          { type: "tool_use", id: "u", name: "Read", input: {} },
        ],
      },
      {
        role: "user",
        content: [
          { type: "tool_result", tool_use_id: "u", is_error: true, content: "gone" },
          { type: "text", text: "<system-reminder>n</system-reminder>" },
        ],
      },
    ],
  };
  const { system, turns, tools, wantsThinking, maxOutputTokens } = parseBody(
    anthropicMessages,
    body,
  );
  assert.deepEqual(
    { system, turns, tools, wantsThinking, maxOutputTokens },
    {
      system: "You are an agent.\nBe brief.",
      turns: [
        { role: "user", text: "a" },
        { role: "assistant", text: "t", toolUses: [{ id: "u", name: "Read" }] },
        { role: "tool", toolUseId: "u", text: "gone", isError: true },
        { role: "user", text: "<system-reminder>n</system-reminder>" },
      ],
      tools: [],
      wantsThinking: true,
      maxOutputTokens: 100,
    },
  );
});

test("errors have the protocol's names", () => {
  const names = [400, 401, 403, 404, 429, 500, 529, 418].map((status) => {
    const { error } = anthropicMessages.error(status, "other", "m") as { error: { type: string } };
    return error.type;
  });
  assert.deepEqual(names, [
    "invalid_request_error",
    "authentication_error",
    "permission_error",
    "not_found_error",
    "rate_limit_error",
    "api_error",
    "overloaded_error",
    "other",
  ]);
});

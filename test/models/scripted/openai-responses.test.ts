/** Goal: the responses protocol, as Codex needs it; `wire.ts` is for what all protocols must. */
import assert from "node:assert/strict";
import { test } from "node:test";
import type { Answer } from "../../../models/scripted/dialect.ts";
import { openaiResponses } from "../../../models/scripted/openai-responses.ts";
import { parseBody, RESPONSES_TOOLS } from "./requests.ts";
import { ANSWER, testDialect } from "./wire.ts";

interface Event {
  type: string;
  sequence_number: number;
  output_index: number;
  item: { type: string };
  delta: string;
}

const KINDS: Record<string, string> = {
  message: "text",
  reasoning: "thinking",
  function_call: "tool_use",
  custom_tool_call: "tool_use",
};

const BODY = { model: "scripted-normal", stream: true, input: "Please fix the greeting." };

testDialect(
  openaiResponses,
  { ...BODY, tools: RESPONSES_TOOLS },
  (events) => {
    const blocks: { kind: string; text: string }[] = [];
    for (const [at, { event, data }] of events.entries()) {
      const { type, sequence_number, output_index, item, delta } = JSON.parse(data) as Event;
      assert.deepEqual([type, sequence_number], [event, at]);
      if (type === "response.output_item.added") {
        blocks[output_index] = { kind: KINDS[item.type] ?? "", text: "" };
      }
      const block = blocks[output_index];
      if (type.endsWith(".delta") && block !== undefined) block.text += delta;
    }
    return blocks;
  },
  { isOrdered: true },
);

test("a freeform tool is used with plain text", (t) => {
  const input = "*** Begin Patch\n*** End Patch";
  const use = { kind: "tool_use", id: "call_x_0", name: "apply_patch", input, isFreeform: true };
  const answer = { ...ANSWER, blocks: [use] } as Answer;
  const request = parseBody(openaiResponses, { ...BODY, tools: RESPONSES_TOOLS });
  t.assert.snapshot(openaiResponses.events(request, answer));
});

test("reads calls of one answer as one turn, their results, and what developers said", () => {
  const call = (id: string) => ({
    type: "function_call",
    call_id: id,
    name: "bash",
    arguments: "",
  });
  const output = (id: string) => ({ type: "function_call_output", call_id: id, output: "ok" });
  const body = {
    model: "scripted-normal",
    instructions: "You are an agent.",
    max_output_tokens: 5,
    input: [
      { type: "message", role: "developer", content: [{ type: "input_text", text: "Be brief." }] },
      { role: "user", content: [{ type: "input_text", text: "a" }] },
      { type: "reasoning", summary: [] },
      { type: "message", role: "assistant", content: [{ type: "output_text", text: "t" }] },
      call("c1"),
      { type: "custom_tool_call", call_id: "c2", name: "apply_patch", input: "" },
      output("c1"),
      { type: "custom_tool_call_output", call_id: "c2", output: "no" },
    ],
    tools: [...RESPONSES_TOOLS, { type: "web_search" }],
  };
  const { system, turns, tools, maxOutputTokens } = parseBody(openaiResponses, body);
  assert.deepEqual(
    { system, turns, tools: tools.map(({ name, isFreeform }) => [name, isFreeform]) },
    {
      system: "You are an agent.\nBe brief.",
      turns: [
        { role: "user", text: "a" },
        {
          role: "assistant",
          text: "t",
          toolUses: [
            { id: "c1", name: "bash" },
            { id: "c2", name: "apply_patch" },
          ],
        },
        { role: "tool", toolUseId: "c1", text: "ok", isError: null },
        { role: "tool", toolUseId: "c2", text: "no", isError: null },
      ],
      tools: [
        ["bash", false],
        ["apply_patch", true],
      ],
    },
  );
  assert.equal(maxOutputTokens, 5);
});

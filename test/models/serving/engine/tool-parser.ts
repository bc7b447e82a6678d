/**
 * Our tool parser (models/serving/qwen25_coder_tool_parser.py) in the engine that loaded it: what
 * Qwen2.5-Coder writes reaches each dialect's client as a call. The tiny model knows no tools: the
 * engine is asked to let it write nothing else than the given text.
 */
import assert from "node:assert/strict";
import type { TestContext } from "node:test";
import type { TestGateway } from "../../../support/gateway.ts";
import type { OpenGateway } from "./gateway.ts";

const CALL = '{"name": "read_file", "arguments": {"path": "a.py"}}';
const FENCED = `Look:\n\`\`\`json\n${CALL}\n\`\`\``;
const TAGGED = `Look:\n<tools>\n${CALL}\n</tools>`;
const PATH = {
  type: "object",
  properties: { path: { enum: ["a.py"] } },
  required: ["path"],
  additionalProperties: false,
};
/** What a call looks like, for the dialect that takes a schema and no text. */
const CALL_SCHEMA = {
  type: "object",
  properties: { name: { enum: ["read_file"] }, arguments: PATH },
  required: ["name", "arguments"],
  additionalProperties: false,
};
const MESSAGES = [{ role: "user", content: "hi" }];
const CHAT_TOOLS = [{ type: "function", function: { name: "read_file", parameters: PATH } }];

interface Seen {
  text: string;
  name: string;
  given: string;
  end: string;
}
const CALLED = { text: "Look:\n", name: "read_file", given: { path: "a.py" } };

export async function testToolParser(t: TestContext, open: OpenGateway): Promise<void> {
  await using world = await open();
  for (const stream of [false, true]) {
    const how = stream ? ", streamed" : "";
    for (const [form, written] of Object.entries({ fence: FENCED, tags: TAGGED })) {
      await t.test(`a call in a ${form}, in chat completions${how}`, async () => {
        assert.deepEqual(await chat(world, written, 300, stream), { ...CALLED, end: "tool_calls" });
      });
    }
    await t.test(`a call that breaks off is text, in chat completions${how}`, async () => {
      const { text, name, end } = await chat(world, FENCED, 20, stream);
      assert.deepEqual([name, end, FENCED.startsWith(text)], ["", "length", true]);
      assert.ok(text.startsWith("Look:\n```json\n{"), text);
    });
    await t.test(`a call in responses${how}`, async () => {
      assert.deepEqual(await responses(world, stream), { ...CALLED, end: "completed" });
    });
    await t.test(`a bare call in messages${how}`, async () => {
      assert.deepEqual(await messages(world, stream), { ...CALLED, text: "", end: "tool_use" });
    });
  }
}

async function chat(world: TestGateway, written: string, tokens: number, stream: boolean) {
  const answer = await ask(world, "/v1/chat/completions", {
    messages: MESSAGES,
    tools: CHAT_TOOLS,
    structured_outputs: { choice: [written] },
    max_tokens: tokens,
    stream,
  });
  const seen: Seen = { text: "", name: "", given: "", end: "" };
  for (const { choices = [] } of answer as Chat[]) {
    for (const { message, delta = message, finish_reason: end } of choices) {
      seen.text += delta?.content ?? "";
      seen.end = end ?? seen.end;
      for (const { function: called } of delta?.tool_calls ?? []) {
        seen.name += called.name ?? "";
        seen.given += called.arguments ?? "";
      }
    }
  }
  return { ...seen, given: seen.given === "" ? null : JSON.parse(seen.given) };
}

interface Chat {
  choices?: { message?: Said; delta?: Said; finish_reason?: string | null }[];
}
interface Said {
  content?: string | null;
  tool_calls?: { function: { name?: string; arguments?: string } }[];
}

async function responses(world: TestGateway, stream: boolean) {
  const answer = await ask(world, "/v1/responses", {
    input: "hi",
    tools: [{ type: "function", name: "read_file", parameters: PATH }],
    structured_outputs: { choice: [FENCED] },
    max_output_tokens: 300,
    stream,
  });
  const last = answer.at(-1) as { response?: Response } & Response;
  const { output, status } = last.response ?? last;
  const called = output.find(({ type }) => type === "function_call");
  const said = output.find(({ type }) => type === "message");
  const name = called?.name;
  return { text: said?.content?.[0]?.text, name, given: read(called?.arguments), end: status };
}

interface Response {
  status: string;
  output: { type: string; name?: string; arguments?: string; content?: { text: string }[] }[];
}

async function messages(world: TestGateway, stream: boolean) {
  const answer = await ask(world, "/v1/messages", {
    messages: MESSAGES,
    tools: [{ name: "read_file", input_schema: PATH }],
    output_config: { format: { type: "json_schema", schema: CALL_SCHEMA } },
    max_tokens: 300,
    stream,
  });
  const seen: Seen = { text: "", name: "", given: "", end: "" };
  for (const event of answer as Message[]) {
    for (const block of [...(event.content ?? []), event.content_block, event.delta]) {
      seen.text += block?.text ?? "";
      seen.name += block?.name ?? "";
      seen.given += block?.partial_json ?? "";
      if (event.content !== undefined && block?.input) seen.given += JSON.stringify(block.input);
    }
    seen.end = event.stop_reason ?? event.delta?.stop_reason ?? seen.end;
  }
  return { ...seen, given: read(seen.given) };
}

interface Message {
  stop_reason?: string;
  content?: Block[];
  content_block?: Block;
  delta?: Block & { stop_reason?: string };
}
interface Block {
  text?: string;
  name?: string;
  input?: unknown;
  partial_json?: string;
}

/** The answer, or the events of a stream. */
async function ask(world: TestGateway, path: string, body: object): Promise<unknown[]> {
  const response = await world.post(path, { model: "normal", ...body });
  const text = await response.text();
  assert.equal(response.status, 200, text);
  if (text.startsWith("{")) return [JSON.parse(text)];
  const events = text.split("\n").filter((line) => line.startsWith("data: {"));
  return events.map((line) => JSON.parse(line.slice("data: ".length)));
}

function read(given: string | undefined): unknown {
  return given ? JSON.parse(given) : null;
}

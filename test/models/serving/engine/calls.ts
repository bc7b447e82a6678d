/** Calls that are not cut: each dialect, whole and streamed, and what the engine refuses. */
import assert from "node:assert/strict";
import type { TestContext } from "node:test";
import { eventually } from "../../../support/eventually.ts";
import { PRICE, type TestGateway } from "../../../support/gateway.ts";
import type { Vllm } from "../../../support/vllm.ts";
import type { OpenGateway } from "./gateway.ts";

const HI = [{ role: "user", content: "hi" }];
const TOKENS = 12;
const SCHEMA = {
  type: "object",
  properties: { n: { enum: [1, 2] } },
  required: ["n"],
  additionalProperties: false,
};

interface Wanted {
  readonly path: string;
  readonly body: Readonly<Record<string, unknown>>;
  /** What the client must find in the answer, whole or streamed. */
  readonly holds: (text: string, isStream: boolean) => void;
}

/** Noise may begin with its end: not with `ignore_eos`, nor at temperature 0. */
const DIALECTS: Readonly<Record<string, Wanted>> = {
  "chat completions": {
    path: "/v1/chat/completions",
    body: { messages: HI, max_tokens: TOKENS, ignore_eos: true },
    holds: (text, isStream) => assert.ok(chatOf(text, isStream, "content").length > 0, text),
  },
  completions: {
    path: "/v1/completions",
    body: { prompt: "def median(", max_tokens: TOKENS, ignore_eos: true },
    holds: (text) => assert.match(text, /"finish_reason":"length"/),
  },
  responses: {
    path: "/v1/responses",
    body: { input: "hi", max_output_tokens: TOKENS, temperature: 0 },
    holds: (text) => assert.match(text, /output_text/),
  },
  messages: {
    path: "/v1/messages",
    body: { messages: HI, max_tokens: TOKENS, temperature: 0 },
    holds: (text) => assert.match(text, /"text":"/),
  },
  "a long prompt again, from the cache": {
    path: "/v1/chat/completions",
    body: { messages: [{ role: "user", content: "the same ".repeat(400) }], max_tokens: 2 },
    holds: (text) => assert.match(text, /"finish_reason":/),
  },
  reasoning: {
    path: "/v1/chat/completions",
    body: {
      messages: HI,
      max_tokens: TOKENS,
      ignore_eos: true,
      chat_template_kwargs: { enable_thinking: true },
    },
    holds: (text, isStream) => assert.ok(chatOf(text, isStream, "reasoning").length > 0, text),
  },
  "reasoning, in messages": {
    path: "/v1/messages",
    body: {
      messages: HI,
      max_tokens: TOKENS,
      temperature: 0,
      chat_template_kwargs: { enable_thinking: true },
    },
    holds: (text) => assert.match(text, /"thinking":"/),
  },
  "a tool that must be called": {
    path: "/v1/chat/completions",
    body: {
      messages: HI,
      max_tokens: 200,
      tools: [{ type: "function", function: { name: "pick", strict: true, parameters: SCHEMA } }],
      tool_choice: "required",
    },
    holds: checkPicked,
  },
  "tools offered in messages": {
    path: "/v1/messages",
    body: {
      messages: HI,
      max_tokens: TOKENS,
      tools: [{ name: "pick", input_schema: SCHEMA }],
    },
    holds: (text) => assert.match(text, /"stop_reason":/),
  },
};

export async function testCalls(t: TestContext, engine: Vllm, open: OpenGateway): Promise<void> {
  await using world = await open();
  for (const [name, wanted] of Object.entries(DIALECTS)) {
    for (const stream of [false, true]) {
      await t.test(`${name}${stream ? ", streamed" : ""}: settled by its counters`, async () => {
        const before = await engine.counted();
        const response = await world.post(wanted.path, { model: "normal", ...wanted.body, stream });
        const text = await response.text();
        assert.equal(response.status, 200, text);
        wanted.holds(text, stream);
        await isSettledAsCounted(world, engine, before);
      });
    }
  }
  await t.test("what is asked beyond the model's limit is brought down to it", async () => {
    const limits = { contextTokens: 4096, maxOutputTokens: 20 };
    await using small = await open({ model: limits });
    const body = { max_tokens: 50_000, ignore_eos: true };
    const answer = (await (await small.chat(body)).json()) as { usage: unknown };
    assert.equal((answer.usage as { completion_tokens: number }).completion_tokens, 20);
  });
  await t.test(
    "a model that the engine does not serve is our fault, and not the client's",
    async () => {
      await using wrong = await open({ model: { upstreamName: "another" } });
      await isRefused(wrong, {}, 502, /refused the gateway \(status 404\)/);
    },
  );
  await t.test("a prompt over the engine's context is refused in its words", async () => {
    await using wide = await open({ model: { contextTokens: 1_000_000 } });
    const messages = [{ role: "user", content: "word ".repeat(70_000) }];
    await isRefused(wide, { messages, max_tokens: 8 }, 400, /maximum context length|max_model_len/);
  });
}

/** The last call's record, and its charge, say what the engine counted since `before`. */
async function isSettledAsCounted(
  world: TestGateway,
  engine: Vllm,
  before: { inputTokens: number; outputTokens: number },
): Promise<void> {
  const call = (await world.calls()).at(-1);
  assert.ok(call !== undefined);
  assert.deepEqual([call.is_estimated, call.error, call.status], [false, null, 200]);
  const [input, read, write, output] = [
    ...["input_tokens", "cache_read_tokens", "cache_write_tokens", "output_tokens"],
  ].map((column) => Number(call[column])) as [number, number, number, number];
  // Its counters follow its answers by a step.
  const now = await eventually(
    () => engine.counted(),
    (counted) => counted.outputTokens - before.outputTokens >= output,
  );
  assert.deepEqual(
    { inputTokens: input + read + write, outputTokens: output },
    {
      inputTokens: now.inputTokens - before.inputTokens,
      outputTokens: now.outputTokens - before.outputTokens,
    },
  );
  const perMillion =
    BigInt(input) * BigInt(PRICE.inputNanosPerMillion) +
    BigInt(read) * BigInt(PRICE.cacheReadNanosPerMillion) +
    BigInt(write) * BigInt(PRICE.cacheWriteNanosPerMillion) +
    BigInt(output) * BigInt(PRICE.outputNanosPerMillion);
  const cost = BigInt(call.cost_nanos);
  const exact = perMillion / 1_000_000n;
  // Each price is rounded up by itself.
  assert.ok(cost >= exact && cost <= exact + 4n, `${cost} for ${exact}`);
}

/** Nothing is charged or held. */
async function isRefused(
  world: TestGateway,
  body: Record<string, unknown>,
  status: number,
  words: RegExp,
) {
  const response = await world.chat(body);
  const text = await response.text();
  assert.equal(response.status, status, text);
  assert.match(text, words);
  const balance = await world.quiet(world.budget);
  assert.equal(balance.spentNanos, 0n);
}

/** The first: noise goes on to call it again until its tokens are used up. */
function checkPicked(text: string, isStream: boolean): void {
  const calls: ToolCall[] = isStream
    ? deltasOf(text).flatMap(({ tool_calls: calls }) => calls ?? [])
    : [JSON.parse(text).choices[0].message.tool_calls[0]];
  const first = calls.filter(({ index = 0 }) => index === 0);
  const name = first.map((call) => call.function.name ?? "").join("");
  const given = first.map((call) => call.function.arguments ?? "").join("");
  assert.equal(name, "pick");
  assert.ok([1, 2].includes(JSON.parse(given).n), given);
}

interface ToolCall {
  index?: number;
  function: { name?: string; arguments?: string };
}
interface Chunk {
  choices?: { delta: Delta }[];
}
type Delta = { content?: string; reasoning?: string; tool_calls?: ToolCall[] };

function chatOf(text: string, isStream: boolean, field: "content" | "reasoning"): string {
  if (!isStream) return JSON.parse(text).choices[0].message[field] ?? "";
  return deltasOf(text)
    .map((delta) => delta[field] ?? "")
    .join("");
}

function deltasOf(text: string): Delta[] {
  const events = text.split("\n").filter((line) => line.startsWith("data: {"));
  return events.flatMap((line) => {
    const { choices = [] } = JSON.parse(line.slice("data: ".length)) as Chunk;
    return choices.map(({ delta }) => delta);
  });
}

/**
 * Goal: to both official SDKs the gateway is the server that they know: every call they make has
 * its answer, every stream its end, and a refusal is made once.
 *
 * Method: the scripted model behind the gateway; the SDKs as they are installed, at their defaults.
 */
import assert from "node:assert/strict";
import test from "node:test";
import Anthropic from "@anthropic-ai/sdk";
import OpenAI from "openai";
import { parseScript } from "../../../models/scripted/script.ts";
import { createScriptedModel } from "../../../models/scripted/server.ts";
import { openTestGateway, type TestGatewayOptions } from "../../support/gateway.ts";

const SAID = "Some words, long enough for several pieces of a stream.";
const SCRIPT = `
steps:
  - - shell: ls
  - - say: ${SAID}
`;
const PLAIN = `
steps:
  - - say: ${SAID}
`;

async function open(script = PLAIN, more: TestGatewayOptions = {}) {
  const scripted = createScriptedModel({ scripts: [parseScript("test", "test.yaml", script)] });
  const { url: baseUrl } = await scripted.listen();
  const provider = { baseUrl, hasContinuousUsage: true, hasTokenCount: true };
  const world = await openTestGateway({ provider, ...more });
  const models = world.grant.models.map((model) => ({
    ...model,
    upstreamName: `scripted-${model.side}`,
  }));
  const { secret } = await world.keys.issue({ ...world.grant, models }, Date.now() + 60_000);
  let tries = 0;
  const counting: typeof fetch = (...given) => {
    tries++;
    return fetch(...given);
  };
  return {
    world,
    tries: () => tries,
    openai: new OpenAI({ apiKey: secret, baseURL: `${world.url}/v1`, fetch: counting }),
    anthropic: new Anthropic({ apiKey: secret, baseURL: world.url, fetch: counting }),
    [Symbol.asyncDispose]: async () => {
      await world[Symbol.asyncDispose]();
      await scripted.close();
    },
  };
}

const messages = [{ role: "user" as const, content: "Say it." }];
const parameters = { type: "object", properties: { command: { type: "string" } } };

test("openai: chat, whole and streamed, with its usage", async () => {
  await using fixture = await open();
  const { openai } = fixture;
  const whole = await openai.chat.completions.create({ model: "normal", messages });
  assert.equal(whole.choices[0]?.message.content, SAID);
  const stream = await openai.chat.completions.create({
    model: "normal",
    messages,
    stream: true,
    stream_options: { include_usage: true },
  });
  let text = "";
  let usage: unknown = null;
  for await (const chunk of stream) {
    text += chunk.choices[0]?.delta.content ?? "";
    usage = chunk.usage ?? usage;
  }
  assert.equal(text, SAID);
  assert.equal((usage as OpenAI.CompletionUsage).completion_tokens, whole.usage?.completion_tokens);
});

test("openai: tools, streamed and gathered by its own helper", async () => {
  await using fixture = await open(SCRIPT);
  const shell = { type: "function" as const, function: { name: "bash", parameters } };
  const runner = fixture.openai.chat.completions.stream({
    model: "normal",
    messages,
    tools: [shell],
  });
  const { choices } = await runner.finalChatCompletion();
  const [call] = choices[0]?.message.tool_calls ?? [];
  assert.ok(call?.type === "function");
  assert.deepEqual(JSON.parse(call.function.arguments), { command: "ls" });
});

test("openai: responses, whole and streamed", async () => {
  await using fixture = await open();
  const { openai } = fixture;
  const whole = await openai.responses.create({ model: "normal", input: "Say it." });
  assert.equal(whole.output_text, SAID);
  const final = await openai.responses
    .stream({ model: "normal", input: "Say it." })
    .finalResponse();
  assert.equal(final.output_text, SAID);
  assert.equal(final.status, "completed");
});

test("openai: completions, embeddings and models", async () => {
  await using fixture = await open();
  const { openai, world } = fixture;
  const whole = await openai.completions.create({ model: "normal", prompt: "Say it." });
  assert.equal(whole.choices[0]?.text, SAID);
  const stream = await openai.completions.create({ model: "normal", prompt: "Say", stream: true });
  let text = "";
  for await (const chunk of stream) text += chunk.choices[0]?.text ?? "";
  assert.equal(text, SAID);
  const vectors = await openai.embeddings.create({ model: "normal", input: ["a", "b"] });
  assert.equal(vectors.data.length, 2);
  assert.equal(vectors.data[0]?.embedding.length, 8);
  assert.ok(vectors.data[0]?.embedding.every((number) => Math.abs(number) <= 1));

  const listed: string[] = [];
  for await (const model of openai.models.list()) listed.push(model.id);
  assert.deepEqual(listed, ["normal", "thinking", "test-normal", "test-thinking"]);
  assert.equal((await openai.models.retrieve("thinking")).id, "thinking");

  await world.quiet(world.budget);
  const calls = await world.calls();
  const wires = calls.map((call) => [call["wire"], call.is_estimated]);
  assert.deepEqual(wires, [
    ["openai.completions", false],
    ["openai.completions", false],
    ["openai.embeddings", false],
  ]);
  assert.equal(calls[2]?.output_tokens, "0");
});

test("anthropic: messages, whole and streamed, counted tokens, models", async () => {
  await using fixture = await open();
  const { anthropic } = fixture;
  const asked = { model: "claude-sonnet-4-5", max_tokens: 500, messages };
  const whole = await anthropic.messages.create(asked);
  const [block] = whole.content;
  assert.equal(block?.type === "text" && block.text, SAID);
  const final = await anthropic.messages.stream(asked).finalMessage();
  assert.deepEqual(final.content, whole.content);
  assert.equal(final.stop_reason, "end_turn");
  assert.equal(final.usage.output_tokens, whole.usage.output_tokens);
  const { max_tokens: _, ...counted } = asked;
  assert.ok((await anthropic.messages.countTokens(counted)).input_tokens > 0);
  const listed: string[] = [];
  for await (const model of anthropic.models.list()) listed.push(model.id);
  assert.deepEqual(listed, ["normal", "thinking", "test-normal", "test-thinking"]);
});

test("anthropic: tools, streamed", async () => {
  await using fixture = await open(SCRIPT);
  const tools = [{ name: "Bash", input_schema: { ...parameters, type: "object" as const } }];
  const final = await fixture.anthropic.messages
    .stream({ model: "normal", max_tokens: 500, messages, tools })
    .finalMessage();
  const use = final.content.find((block) => block.type === "tool_use");
  assert.deepEqual([final.stop_reason, use?.input], ["tool_use", { command: "ls" }]);
});

test("a budget that is gone is one attempt, and an error that says so", async () => {
  await using fixture = await open(PLAIN, { fundedNanos: 5n });
  const { openai, anthropic, tries } = fixture;
  await assert.rejects(openai.chat.completions.create({ model: "normal", messages }), (error) => {
    assert.ok(error instanceof OpenAI.PermissionDeniedError);
    assert.equal(error.code, "budget_exceeded");
    return true;
  });
  assert.equal(tries(), 1);
  const body = { model: "normal", max_tokens: 500, messages };
  await assert.rejects(anthropic.messages.create(body), Anthropic.PermissionDeniedError);
  assert.equal(tries(), 2);
  await assert.rejects(anthropic.messages.stream(body).finalMessage(), /budget_exceeded/);
  assert.equal(tries(), 3);
});

test("what is not there, not allowed or not valid is each SDK's own error, once", async () => {
  await using fixture = await open();
  const { openai, anthropic, tries, world } = fixture;
  await assert.rejects(
    openai.chat.completions.create({ model: "other", messages }),
    OpenAI.NotFoundError,
  );
  await assert.rejects(
    openai.completions.create({ model: "normal", prompt: "x", best_of: 99 }),
    OpenAI.BadRequestError,
  );
  const stranger = new OpenAI({ apiKey: "ak-no", baseURL: `${world.url}/v1` });
  await assert.rejects(stranger.models.list(), OpenAI.AuthenticationError);
  await assert.rejects(
    anthropic.messages.create({ model: "other", max_tokens: 5, messages }),
    Anthropic.NotFoundError,
  );
  assert.equal(tries(), 3);
});

test("an answer that the budget ends early is a whole answer to both", async () => {
  const words = "word ".repeat(6_000);
  const script = `steps:\n  - - say: ${words.trim()}\ndelay_ms_per_event: 1\n`;
  await using fixture = await open(script, { fundedNanos: 14_000n });
  const { openai, anthropic, world } = fixture;
  // The ceiling is the client's wish; the script ends after 7,500 tokens.
  const models = world.grant.models.map((model) => ({
    ...model,
    upstreamName: `scripted-${model.side}`,
    maxOutputTokens: 9_000,
  }));
  for (const kind of ["chat", "responses", "messages"] as const) {
    const trial = await world.openTrial(kind === "chat" ? 8_000n : 9_000n);
    const issued = await world.keys.issue({ ...trial.grant, models }, Date.now() + 60_000);
    const key = issued.secret;
    if (kind === "chat") {
      const client = openai.withOptions({ apiKey: key });
      const asked = { model: "normal", messages, max_tokens: 9_000 };
      const final = await client.chat.completions
        .stream(asked)
        .finalChatCompletion()
        .catch((e) => e);
      // Its helper makes an error of an answer that reached its limit; a stream does not.
      if (final instanceof Error) assert.match(final.constructor.name, /LengthFinishReason/);
      else assert.equal(final.choices[0]?.finish_reason, "length");
    } else if (kind === "responses") {
      const client = openai.withOptions({ apiKey: key });
      const asked = { model: "normal", input: "Say it.", max_output_tokens: 9_000 };
      const final = await client.responses.stream(asked).finalResponse();
      assert.equal(final.status, "incomplete");
      assert.equal(final.incomplete_details?.reason, "max_output_tokens");
      assert.ok(words.startsWith(final.output_text) && final.output_text.length > 500);
    } else {
      const client = anthropic.withOptions({ apiKey: key });
      const asked = { model: "normal", max_tokens: 9_000, messages };
      const final = await client.messages.stream(asked).finalMessage();
      assert.equal(final.stop_reason, "max_tokens");
      const [block] = final.content;
      assert.ok(block?.type === "text" && words.startsWith(block.text) && block.text.length > 500);
    }
    await world.quiet(trial.budget, (spent) => spent > 0n);
  }
});

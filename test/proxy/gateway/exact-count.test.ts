/**
 * Goal: a prompt that is affordable by its tokens and not by its bytes is served, and a server that
 * says nothing of its usage is paid by its own tokenizer's count.
 */
import assert from "node:assert/strict";
import test from "node:test";
import {
  answerChat,
  type Behaviour,
  openTestGateway,
  type Received,
  sendJson,
} from "../../support/gateway.ts";

const LONG = { messages: [{ role: "user", content: "x".repeat(20_000) }], max_tokens: 100 };

/** Counts as told, and answers everything else by `then`. */
function counting(count: unknown, then: Behaviour = answerChat): Behaviour {
  return (received, response) => {
    if (received.url === "/tokenize") return sendJson(response, { count });
    if (received.url.endsWith("count_tokens")) return sendJson(response, { input_tokens: count });
    return then(received, response);
  };
}

const counters = (requests: readonly Received[]) =>
  requests.filter(({ url }) => /tokenize|count_tokens/.test(url));

test("the exact count is asked for only when the bound is not affordable, and reserved by", async () => {
  await using world = await openTestGateway({
    fundedNanos: 9_000n,
    provider: { hasTokenize: true },
    behave: counting(5_000),
  });
  assert.equal((await world.chat({ max_tokens: 100 })).status, 200);
  assert.deepEqual(counters(world.models.requests), []);

  const tools = [{ type: "function", function: { name: "ls" } }];
  assert.equal((await world.chat({ ...LONG, tools, temperature: 0 })).status, 200);
  const [asked] = counters(world.models.requests);
  assert.deepEqual(JSON.parse(asked?.text ?? ""), {
    model: "vendor/normal",
    messages: LONG.messages,
    tools,
  });
  await world.quiet(world.budget);
  const calls = await world.calls();
  // Input at 1 nano with the margin, 3 for rounding, output at 2.
  assert.equal(calls[1]?.reserved_nanos, String(5_000 + 64 + 3 + 200));
});

test("completions of one text, and messages, are counted by their own counters", async () => {
  const { messages } = LONG;
  const paths: Record<string, object> = {
    "/v1/completions": { prompt: "x".repeat(20_000) },
    "/v1/messages": { messages, system: "s" },
  };
  for (const [path, counted] of Object.entries(paths)) {
    await using world = await openTestGateway({
      fundedNanos: 9_000n,
      provider: { hasTokenize: true, hasTokenCount: true },
      behave: counting(4_000),
    });
    const body = { model: "normal", max_tokens: 100, user: "u", ...counted };
    assert.equal((await world.post(path, body)).status, 200, path);
    const [asked] = counters(world.models.requests);
    assert.deepEqual(JSON.parse(asked?.text ?? ""), { model: "vendor/normal", ...counted });
    if (path === "/v1/messages") assert.equal(asked?.headers["anthropic-version"], "2023-06-01");
  }
});

test("a count that is none, fails, or is no help leaves the bound of bytes", async () => {
  const answers: Behaviour[] = [
    counting(-1),
    counting("5"),
    counting(1e9),
    (_, response) => sendJson(response, { error: "no" }, 500),
    (_, response) => void response.destroy(),
    (_, response) => void response.end("<html>"),
  ];
  for (const behave of answers) {
    const provider = { hasTokenize: true };
    await using world = await openTestGateway({ fundedNanos: 9_000n, provider, behave });
    const response = await world.chat(LONG);
    assert.equal(response.status, 403);
    assert.equal((await response.json()).error.code, "budget_exceeded");
    assert.equal((await world.quiet(world.budget)).spentNanos, 0n);
  }
});

test("what a counter does not see is not counted by it", async () => {
  const image = { type: "image_url", image_url: { url: "http://x/y.png" } };
  const unseen: object[] = [
    { messages: [{ role: "user", content: [image] }] },
    { ...LONG, documents: [{ text: "y" }] },
    { ...LONG, chat_template: "{{ messages }}{{ messages }}" },
  ];
  for (const body of unseen) {
    await using world = await openTestGateway({
      fundedNanos: 9_000n,
      provider: { hasTokenize: true },
      behave: counting(1),
    });
    assert.equal((await world.chat({ ...body, max_tokens: 9 })).status, 403);
    assert.deepEqual(counters(world.models.requests), []);
  }
});

test("R12: without usage the provider's tokenizer counts what passed, and it is still an estimate", async () => {
  const silent: Behaviour = (_, response) =>
    sendJson(response, { choices: [{ message: { content: "hello there" } }] });
  await using world = await openTestGateway({
    provider: { hasTokenize: true },
    behave: counting(3, silent),
  });
  await (await world.chat({ max_tokens: 50 })).text();
  await world.quiet(world.budget, (spent) => spent > 0n);
  const [call] = await world.calls();
  assert.deepEqual(
    [call?.input_tokens, call?.output_tokens, call?.is_estimated],
    [String(3 + 64), "3", true],
  );
  const asked = counters(world.models.requests).map(({ text }) => JSON.parse(text).prompt);
  assert.ok(asked.includes("hello there"));
});

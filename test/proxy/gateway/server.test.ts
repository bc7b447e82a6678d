/**
 * Goal: a call through the gateway costs what its usage says, is recorded, and reaches its model
 * server as its client sent it but for the name, the ceiling and the usage wish.
 */
import assert from "node:assert/strict";
import test from "node:test";
import { answerChat, chatEvents, openTestGateway, sendJson } from "../../support/gateway.ts";

const USAGE = { prompt_tokens: 100, completion_tokens: 10, total_tokens: 110 };

test("a call in one piece is held, forwarded, settled and recorded", async () => {
  await using world = await openTestGateway();
  const { models, budget } = world;
  const response = await world.chat({ temperature: 0, max_tokens: 50 });
  assert.equal(response.status, 200);
  assert.equal(response.headers.get("x-autocode-cost-nanos"), "120");
  assert.equal(response.headers.get("x-autocode-remaining-nanos"), "999880");
  assert.equal(response.headers.get("request-id"), response.headers.get("x-request-id"));
  assert.equal((await response.json()).choices[0].message.content, "hello");

  const [received] = models.requests;
  assert.equal(received?.url, "/v1/chat/completions");
  assert.equal(received?.headers.authorization, "Bearer provider-secret");
  assert.equal(
    received?.text,
    '{"model":"vendor/normal","messages":[{"role":"user","content":"hi"}],' +
      '"temperature":0,"max_tokens":50}',
  );
  const balance = await world.quiet(budget);
  assert.equal(balance.spentNanos, 120n);
  await world.gateway.close(1_000);
  const [call, ...others] = await world.calls();
  assert.deepEqual(others, []);
  assert.equal(call?.id, response.headers.get("request-id"));
  const { cost_nanos, input_tokens, output_tokens, is_estimated, status, error } = call ?? {};
  assert.deepEqual(
    { cost_nanos, input_tokens, output_tokens, is_estimated, status, error },
    {
      cost_nanos: "120",
      input_tokens: "100",
      output_tokens: "10",
      is_estimated: false,
      status: 200,
      error: null,
    },
  );
  const [flow, ...more] = world.flows;
  assert.deepEqual(more, []);
  assert.equal(JSON.parse(flow?.request?.body?.kept.toString() ?? "").model, "normal");
  assert.match(flow?.response?.body?.kept.toString() ?? "", /"hello"/);
  const { decision, callId, transferId, cost, trialId, kind, engine, server } = flow ?? {};
  const provider = new URL(world.models.url);
  assert.deepEqual(
    { decision: decision?.action, callId, cost, trialId, kind, engine, port: server?.port },
    {
      decision: "allow",
      callId: call?.id,
      cost: { amount_nanos: "120", currency: "CAD" },
      trialId: world.grant.trialId,
      kind: "http",
      engine: "gateway",
      port: Number(provider.port),
    },
  );
  assert.equal(transferId, call?.["transfer_id"]);
});

/** The comment behind a stream. */
function costs(costNanos: number, remainingNanos: number): string {
  return `: autocode cost_nanos=${costNanos} remaining_nanos=${remainingNanos}\n\n`;
}

test("a stream passes unchanged, its usage asked for and taken out again", async () => {
  await using world = await openTestGateway();
  const plain = await world.chat({ stream: true });
  assert.equal(plain.headers.get("content-type"), "text/event-stream");
  assert.equal(plain.headers.get("x-autocode-remaining-nanos") !== null, true);
  assert.equal(await plain.text(), chatEvents("hello there").join("") + costs(120, 999_880));
  const asking = await world.chat({ stream: true, stream_options: { include_usage: true } });
  const whole = chatEvents("hello there", USAGE).join("");
  assert.equal(await asking.text(), whole + costs(120, 999_760));
  assert.equal((await world.quiet(world.budget)).spentNanos, 240n);
  for (const { text } of world.models.requests) {
    assert.deepEqual(JSON.parse(text).stream_options, { include_usage: true });
    assert.equal(JSON.parse(text).max_tokens, 4_096);
  }
});

test("cached input is not billed twice, in any dialect", async () => {
  await using world = await openTestGateway();
  const answers: [string, unknown][] = [
    ["/v1/chat/completions", { ...USAGE, prompt_tokens_details: { cached_tokens: 40 } }],
    [
      "/v1/responses",
      { input_tokens: 100, output_tokens: 10, input_tokens_details: { cached_tokens: 40 } },
    ],
    ["/v1/messages", { input_tokens: 60, output_tokens: 10, cache_read_input_tokens: 40 }],
  ];
  for (const [path, usage] of answers) {
    world.models.state.behave = (_, response) => sendJson(response, { usage });
    const body = { model: "thinking", max_tokens: 20, max_output_tokens: 20 };
    const response = await world.post(path, body);
    assert.equal(response.headers.get("x-autocode-cost-nanos"), "100", path);
  }
});

test("an Anthropic stream is billed from its first and last event", async () => {
  await using world = await openTestGateway();
  const events = [
    { type: "message_start", message: { usage: { input_tokens: 70, output_tokens: 1 } } },
    { type: "content_block_delta", index: 0, delta: { type: "text_delta", text: '"usage"' } },
    { type: "message_delta", delta: { stop_reason: "end_turn" }, usage: { output_tokens: 15 } },
    { type: "message_stop" },
  ].map((event) => `event: ${event.type}\ndata: ${JSON.stringify(event)}\n\n`);
  world.models.state.behave = (_, response) => {
    response.writeHead(200, { "content-type": "text/event-stream; charset=utf-8" });
    response.end(events.join(""));
  };
  const headers = { "x-api-key": world.secret, authorization: "", "anthropic-version": "x" };
  const body = { model: "claude-haiku-4-5", max_tokens: 20, stream: true, messages: [] };
  const response = await world.post("/v1/messages?beta=true", body, headers);
  assert.equal(await response.text(), events.join("") + costs(100, 999_900));
  assert.equal((await world.quiet(world.budget)).spentNanos, 100n);
  assert.equal(world.models.requests[0]?.url, "/v1/messages");
  assert.equal(world.models.requests[0]?.headers["x-api-key"], undefined);
});

test("a Responses stream is billed from its last event", async () => {
  await using world = await openTestGateway();
  const events = [
    { type: "response.created", response: { usage: null } },
    { type: "response.output_text.delta", delta: "hi" },
    {
      type: "response.completed",
      response: { usage: { input_tokens: 30, output_tokens: 5, total_tokens: 35 } },
    },
  ].map((event) => `data: ${JSON.stringify(event)}\r\n\r\n`);
  world.models.state.behave = (_, response) => {
    response.writeHead(200, { "content-type": "text/event-stream" });
    response.end(events.join(""));
  };
  const response = await world.post("/v1/responses", { model: "o4-mini", stream: true, input: "" });
  assert.equal(await response.text(), events.join("") + costs(40, 999_960));
  assert.equal((await world.quiet(world.budget)).spentNanos, 40n);
});

test("a key's models are listed as its client's protocol has it", async () => {
  await using world = await openTestGateway();
  const authorization = `Bearer ${world.secret}`;
  const names = ["normal", "thinking", "test-normal", "test-thinking"];
  const list = async (path: string, more: Record<string, string> = {}) => {
    const response = await fetch(world.url + path, { headers: { authorization, ...more } });
    return { status: response.status, body: await response.json() };
  };
  const openai = await list("/v1/models?client_version=1");
  assert.deepEqual(
    openai.body.data.map((model: { id: string }) => model.id),
    names,
  );
  const anthropic = await list("/v1/models", { "anthropic-version": "2023-06-01" });
  assert.equal(anthropic.body.has_more, false);
  assert.equal(anthropic.body.data[0].type, "model");
  assert.equal((await list("/v1/models/thinking")).body.id, "thinking");
  assert.equal((await list("/v1/models/%ZZ")).status, 404);
  assert.equal((await fetch(world.url, { method: "HEAD" })).status, 200);
});

test("tokens are counted for nothing", async () => {
  await using world = await openTestGateway();
  const body = { model: "normal", messages: [{ role: "user", content: "x".repeat(300) }] };
  const own = await world.post("/v1/messages/count_tokens", body);
  assert.equal(own.headers.get("x-autocode-estimated"), "true");
  assert.ok((await own.json()).input_tokens > 100);
  assert.deepEqual(world.models.requests, []);

  await using counting = await openTestGateway({ provider: { hasTokenCount: true } });
  counting.models.state.behave = (_, response) => sendJson(response, { input_tokens: 77 });
  const theirs = await counting.post("/v1/messages/count_tokens", body);
  assert.deepEqual(await theirs.json(), { input_tokens: 77 });
  assert.equal(counting.models.requests[0]?.url, "/v1/messages/count_tokens");
  assert.equal((await counting.quiet(counting.budget)).spentNanos, 0n);
});

test("metrics name what passed, without ids", async () => {
  await using world = await openTestGateway({ behave: answerChat });
  await (await world.chat()).json();
  await world.chat({ model: "nope" });
  const text = await world.gateway.metrics();
  assert.match(text, /autocode_gateway_calls_total\{wire="openai.chat",side="normal",status="200"/);
  assert.match(text, /autocode_gateway_refusals_total\{code="model_not_found"\} 1/);
  assert.match(text, /autocode_gateway_cost_nanos_total\{currency="CAD"\} 120/);
  assert.match(text, /autocode_gateway_calls_in_flight 0/);
  assert.doesNotMatch(text, /trial_|call_0|key_0/);
});

test("what a good key asked and the gateway answered itself is recorded too", async () => {
  await using world = await openTestGateway();
  await world.chat({ model: "nobody's" });
  await fetch(`${world.url}/v1/models?limit=2`, {
    headers: { authorization: `Bearer ${world.secret}` },
  });
  await fetch(`${world.url}/v1/models`, { headers: { authorization: "Bearer ak-of-a-stranger" } });
  await world.gateway.close(1_000);
  const told = world.flows.map(({ decision, request, response, callId, trialId }) => ({
    action: decision.action,
    detail: decision.detail.slice(0, 22),
    asked: `${request?.method} ${request?.path} ${request?.query}`,
    hasBody: request?.body !== null,
    status: response?.status,
    callId,
    isOurs: trialId === world.grant.trialId,
  }));
  assert.deepEqual(told, [
    {
      action: "deny",
      detail: 'The model "nobody\'s" i',
      asked: "POST /v1/chat/completions null",
      hasBody: true,
      status: 404,
      callId: null,
      isOurs: true,
    },
    {
      action: "allow",
      detail: "Answered by the gatewa",
      asked: "GET /v1/models limit=2",
      hasBody: false,
      status: 200,
      callId: null,
      isOurs: true,
    },
  ]);
});

test("where nothing passes without a record, a call that cannot be recorded is refused", async () => {
  const record = { fault: "the spool's disk is full" as string | null };
  const flows = {
    bodyBytesMax: 2 ** 20,
    isBehind: () => false,
    fault: () => record.fault,
    append: async () => undefined,
  };
  let isRequired = true;
  await using world = await openTestGateway({
    deps: { flows, isRecordRequired: async () => isRequired },
  });
  const refused = await world.chat({});
  const { error } = (await refused.json()) as { error: { code: string; message: string } };
  assert.deepEqual([refused.status, error.code], [503, "unrecorded"]);
  assert.match(error.message, /egress\.require_record .*: the spool's disk is full\. Try again\./);
  assert.equal(refused.headers.get("retry-after"), "2");
  assert.equal(world.models.requests.length, 0);
  record.fault = null;
  assert.equal((await world.chat({})).status, 200);
  // Elsewhere a call never waits for its record.
  [record.fault, isRequired] = ["the spool's disk is full", false];
  assert.equal((await world.chat({})).status, 200);
});

/**
 * Goal: over HTTP the scripted model is a model server that says what it is, answers the same
 * request with the same bytes, and fails exactly as its script tells it to.
 */
import assert from "node:assert/strict";
import { once } from "node:events";
import { request as httpRequest } from "node:http";
import { test } from "node:test";
import type { Script } from "../../../models/scripted/script.ts";
import { createScriptedModel, type ScriptedModelOptions } from "../../../models/scripted/server.ts";
import {
  chatBody,
  INSTRUCTION,
  MESSAGES_TOOLS,
  RESPONSES_TOOLS,
  SCRIPT_SOURCE,
  script,
} from "./requests.ts";

async function openModel(...scripts: Script[]) {
  return open({ scripts: scripts.length === 0 ? [script()] : scripts });
}

async function open(options: ScriptedModelOptions) {
  const model = createScriptedModel(options);
  const { url, port } = await model.listen(0);
  const post = (path: string, body: object | string, init: RequestInit = {}) =>
    fetch(url + path, {
      method: "POST",
      body: typeof body === "string" ? body : JSON.stringify(body),
      ...init,
    });
  return { ...model, url, port, post, [Symbol.asyncDispose]: () => model.close() };
}

const CHAT = "/v1/chat/completions";
const faulty = (yaml: string) => script(`${SCRIPT_SOURCE}${yaml}`);

const REQUESTS: readonly (readonly [path: string, body: object])[] = [
  [CHAT, chatBody()],
  ["/v1/completions", { model: "scripted-normal", prompt: INSTRUCTION.content }],
  ["/v1/responses", { model: "scripted-normal", input: [INSTRUCTION], tools: RESPONSES_TOOLS }],
  [
    "/v1/messages",
    { model: "scripted-normal", max_tokens: 500, messages: [INSTRUCTION], tools: MESSAGES_TOOLS },
  ],
];

for (const [path, body] of REQUESTS) {
  test(`${path}: the same request has the same bytes, and they are labelled`, async () => {
    await using model = await openModel();
    for (const isStream of [false, true]) {
      const answers = [1, 2].map(async () => {
        const response = await model.post(path, { ...body, stream: isStream });
        const { headers, status } = response;
        assert.deepEqual(
          [status, headers.get("x-scripted-model"), headers.get("content-type")],
          [200, "true", isStream ? "text/event-stream; charset=utf-8" : "application/json"],
        );
        return [headers.get("request-id"), await response.text()];
      });
      const [first, second] = await Promise.all(answers);
      assert.deepEqual(first, second);
    }
  });

  test(`${path}: errors come in the protocol's envelope`, async () => {
    await using model = await openModel();
    const unknown = await model.post(path, { ...body, model: "gpt-5" });
    assert.equal(unknown.status, 404);
    const { error } = (await unknown.json()) as { error: { type: string; message: string } };
    const expected = "there is no model gpt-5; served: scripted-normal, scripted-thinking";
    assert.equal(error.message, expected);
    const notJson = await model.post(path, "{");
    assert.equal(notJson.status, 400);
    const refused = (await notJson.json()) as { error: { message: string } };
    assert.equal(refused.error.message, "the body is not JSON");
  });
}

test("keeps a summary of each request, with its usage", async () => {
  await using model = await openModel();
  const body = chatBody();
  await (await model.post(CHAT, body)).text();
  await (await model.post("/v1/audio", {})).text();
  assert.deepEqual(model.requests(), [
    {
      method: "POST",
      path: CHAT,
      status: 200,
      wire: "openai.chat",
      model: "scripted-normal",
      side: "normal",
      isStream: false,
      tools: ["read_file", "edit", "bash"],
      script: "greeting",
      step: 1,
      usage: {
        inputTokens: Math.ceil(JSON.stringify(body).length / 4),
        outputTokens: 23,
        reasoningTokens: 0,
      },
    },
    {
      method: "POST",
      path: "/v1/audio",
      status: 404,
      error: "there is no POST /v1/audio",
    },
  ]);
});

test("lists its models in either protocol, and counts tokens", async () => {
  await using model = await openModel();
  const list = await (await fetch(`${model.url}/v1/models`)).json();
  const entry = { object: "model", created: 1_700_000_000, owned_by: "scripted" };
  const ids = ["scripted-normal", "scripted-thinking"];
  assert.deepEqual(list, { object: "list", data: ids.map((id) => ({ id, ...entry })) });
  const one = await fetch(`${model.url}/v1/models/scripted-thinking`, {
    headers: { "anthropic-version": "2023-06-01" },
  });
  assert.deepEqual(await one.json(), {
    type: "model",
    id: "scripted-thinking",
    display_name: "scripted-thinking",
    created_at: "2023-11-14T22:13:20Z",
  });
  assert.equal((await fetch(`${model.url}/v1/models/other`)).status, 404);
  assert.equal((await fetch(model.url, { method: "HEAD" })).status, 200);
  const counted = { model: "scripted-normal", messages: [INSTRUCTION] };
  const response = await model.post("/v1/messages/count_tokens", counted);
  assert.deepEqual(await response.json(), {
    input_tokens: Math.ceil(JSON.stringify(counted).length / 4),
  });
});

test("fails with the status, body and headers of a fault, and then answers", async () => {
  await using model = await openModel(
    faulty('faults: [{ status: 429, headers: { retry-after: "1" } }, { status: 500, body: oh }]\n'),
  );
  const first = await model.post(CHAT, chatBody());
  assert.deepEqual([first.status, first.headers.get("retry-after")], [429, "1"]);
  const message = "script greeting fails this call";
  assert.deepEqual(await first.json(), {
    error: { message, type: "rate_limit_error", param: null, code: "scripted_fault" },
  });
  const second = await model.post(CHAT, chatBody());
  assert.deepEqual([second.status, await second.text()], [500, "oh"]);
  assert.equal((await model.post(CHAT, chatBody())).status, 200);
  assert.deepEqual(
    model.requests().map(({ fault, status }) => [fault, status]),
    [
      ["status", 429],
      ["status", 500],
      [undefined, 200],
    ],
  );
});

test("cuts a stream after so many events, and a body in its middle", async () => {
  await using model = await openModel(faulty("faults:\n  - { cut_after_events: 2, times: 2 }\n"));
  const { body } = await model.post(CHAT, chatBody([], { stream: true }));
  let text = "";
  await assert.rejects(async () => {
    for await (const chunk of body ?? []) text += Buffer.from(chunk).toString();
  });
  assert.equal(text.match(/^data: /gm)?.length, 2);
  await assert.rejects((await model.post(CHAT, chatBody([], { stream: false }))).text());
  const whole = await (await model.post(CHAT, chatBody([], { stream: true }))).text();
  assert.ok(whole.endsWith("data: [DONE]\n\n"));
});

test("leaves usage out where a fault says so, in every protocol", async () => {
  await using model = await openModel(faulty("faults:\n  - { no_usage: true, times: 0 }\n"));
  for (const [path, body] of REQUESTS) {
    const options = { stream_options: { include_usage: true } };
    for (const more of [{}, { stream: true, ...options }]) {
      const text = await (await model.post(path, { ...body, ...more })).text();
      assert.doesNotMatch(text, /_tokens"/, path);
    }
  }
});

test("a stall lasts, and ends with the client", async () => {
  await using model = await openModel(faulty("faults:\n  - { stall_ms: 3600000, times: 0 }\n"));
  const client = httpRequest(model.url + CHAT, { method: "POST" });
  client.on("error", () => undefined);
  client.end(JSON.stringify(chatBody()));
  const aborted = new Promise<boolean>((resolve) => {
    const look = () => {
      const [summary] = model.requests();
      if (summary === undefined) setImmediate(look);
      else resolve(summary.isAborted === true && summary.fault === "stall");
    };
    look();
  });
  await once(client, "finish");
  client.destroy();
  assert.equal(await aborted, true);
});

test("paces its events, and stops writing when the client goes", async () => {
  await using model = await openModel(faulty("delay_ms_per_event: 20\n"));
  const body = JSON.stringify(chatBody([], { stream: true }));
  const client = httpRequest(model.url + CHAT, { method: "POST" });
  client.on("error", () => undefined);
  client.end(body);
  const [response] = await once(client, "response");
  await once(response, "data");
  client.destroy();
  while (model.requests().length === 0) await new Promise((resolve) => setImmediate(resolve));
  assert.equal(model.requests()[0]?.isAborted, true);
});

test("a port in use and a missing folder are errors that say so", async () => {
  await using model = await openModel();
  const message = `port ${model.port} is in use: choose another, or 0 for any free one`;
  await assert.rejects(createScriptedModel({ scripts: [] }).listen(model.port), { message });
  await assert.rejects(createScriptedModel({ scriptsDir: "/nonexistent" }).listen(), {
    message: "/nonexistent: the folder of scripts cannot be read",
  });
});

/**
 * Goal: what providers report is asked for and read as they publish it, and a key is told nobody.
 *
 * Method: HTTP servers that answer by the published schemas, page by page. No real provider was
 * asked.
 */
import assert from "node:assert/strict";
import test from "node:test";
import {
  createAnthropicUsage,
  createOpenAIUsage,
} from "../../../orchestrator/traffic/usage-reports.ts";
import { type Behaviour, openModelServer } from "../../support/gateway.ts";

const DAY = "2026-11-20";
const KEY = "sk-admin-0123456789";
const readKey = async () => KEY;

function answering(pages: readonly unknown[], status = 200): Behaviour {
  let at = 0;
  return (_, response) => {
    response.writeHead(status, { "content-type": "application/json" });
    response.end(JSON.stringify(pages[at++]));
  };
}

test("OpenAI: a bucket of the day by model, over all pages", async () => {
  const result = (model: string, input_tokens: number) => ({
    object: "organization.usage.completions.result",
    ...{ input_tokens, output_tokens: 7, input_cached_tokens: 3, num_model_requests: 2 },
    ...{ project_id: null, user_id: null, api_key_id: null, model, batch: null },
    ...{ input_audio_tokens: 0, output_audio_tokens: 0 },
  });
  const page = (results: unknown[], next: string | null) => ({
    ...{ object: "page", has_more: next !== null, next_page: next },
    data: [{ object: "bucket", start_time: 1_795_132_800, end_time: 1_795_219_200, results }],
  });
  await using server = await openModelServer(
    answering([
      page([result("gpt-5-2026-01-01", 100)], "p 2"),
      page([result("gpt-5-mini", 50)], null),
    ]),
  );
  const usage = createOpenAIUsage({ baseUrl: `${server.url}/v1`, readKey });
  assert.deepEqual(await usage.counts(DAY), [
    { model: "gpt-5-2026-01-01", inputTokens: 100, outputTokens: 7 },
    { model: "gpt-5-mini", inputTokens: 50, outputTokens: 7 },
  ]);
  const [first, second] = server.requests;
  const asked = new URL(first?.url ?? "", server.url);
  assert.equal(asked.pathname, "/v1/organization/usage/completions");
  assert.deepEqual(Object.fromEntries(asked.searchParams), {
    start_time: String(Date.UTC(2026, 10, 20) / 1_000),
    end_time: String(Date.UTC(2026, 10, 21) / 1_000),
    bucket_width: "1d",
    "group_by[]": "model",
  });
  assert.equal(first?.headers.authorization, `Bearer ${KEY}`);
  assert.equal(new URL(second?.url ?? "", server.url).searchParams.get("page"), "p 2");
});

test("Anthropic: input with what caches read and kept", async () => {
  const data = [
    {
      ...{ starting_at: `${DAY}T00:00:00Z`, ending_at: "2026-11-21T00:00:00Z" },
      results: [
        {
          ...{ uncached_input_tokens: 1_500, cache_read_input_tokens: 200, output_tokens: 500 },
          cache_creation: { ephemeral_1h_input_tokens: 1_000, ephemeral_5m_input_tokens: 500 },
          ...{ model: "claude-opus-4-20250514", server_tool_use: { web_search_requests: 10 } },
          ...{ api_key_id: null, workspace_id: null, service_tier: null, context_window: null },
        },
      ],
    },
  ];
  await using server = await openModelServer(
    answering([{ data, has_more: false, next_page: null }]),
  );
  const usage = createAnthropicUsage({ baseUrl: server.url, readKey });
  assert.deepEqual(await usage.counts(DAY), [
    { model: "claude-opus-4-20250514", inputTokens: 3_200, outputTokens: 500 },
  ]);
  const [request] = server.requests;
  const asked = new URL(request?.url ?? "", server.url);
  assert.equal(asked.pathname, "/v1/organizations/usage_report/messages");
  assert.equal(asked.searchParams.get("starting_at"), `${DAY}T00:00:00.000Z`);
  assert.equal(request?.headers["x-api-key"], KEY);
  assert.equal(request?.headers["anthropic-version"], "2023-06-01");
});

test("without a key nobody is asked, and what to do is told", async () => {
  await using server = await openModelServer(answering([]));
  for (const make of [createOpenAIUsage, createAnthropicUsage]) {
    const usage = make({ baseUrl: server.url, readKey: async () => null });
    assert.equal(await usage.counts(DAY), null);
    assert.match((await usage.fault()) ?? "", new RegExp(`provider/${usage.provider}/admin-key`));
  }
  assert.deepEqual(server.requests, []);
});

test("a refusal and an answer of another form are faults, in its own words, without the key", async () => {
  const error = { error: { message: `no such key ${KEY}` } };
  await using refusing = await openModelServer(answering([error], 401));
  const told = (pattern: RegExp) => (thrown: unknown) => {
    const { message } = thrown as Error;
    assert.match(message, pattern);
    assert.ok(!message.includes(KEY), message);
    return true;
  };
  const refused = createOpenAIUsage({ baseUrl: refusing.url, readKey });
  await assert.rejects(refused.counts(DAY), told(/^openai: usage, 401: .*no such key/));
  await using odd = await openModelServer(answering([{ data: [{ results: 3 }], has_more: false }]));
  const unread = createAnthropicUsage({ baseUrl: odd.url, readKey });
  await assert.rejects(unread.counts(DAY), told(/anthropic: usage is not as published: \/data\/0/));
  const gone = createOpenAIUsage({ baseUrl: "http://127.0.0.1:1", readKey });
  await assert.rejects(gone.counts(DAY), told(/openai does not answer/));
});

/**
 * Goal: an engine's counters are added up by day, whatever it was restarted.
 *
 * Method: an HTTP server that answers as vLLM's /metrics does. No vLLM was asked.
 */
import assert from "node:assert/strict";
import test from "node:test";
import { createVllmUsage, readCounters } from "../../../orchestrator/traffic/usage-vllm.ts";
import { openTestDatabase } from "../../support/database.ts";
import { openModelServer } from "../../support/gateway.ts";

function metrics(counters: Readonly<Record<string, readonly [number, number]>>): string {
  const lines = Object.entries(counters).flatMap(([model, [prompt, generation]]) => [
    `vllm:prompt_tokens_total{engine="0",model_name="${model}"} ${prompt}.0`,
    `vllm:generation_tokens_total{engine="0",model_name="${model}"} ${generation.toExponential()}`,
  ]);
  return [
    "# HELP vllm:prompt_tokens_total Number of prefill tokens processed.",
    "# TYPE vllm:prompt_tokens_total counter",
    ...lines,
    'vllm:prompt_tokens_created{engine="0",model_name="a"} 1.7e+09',
    'vllm:request_prompt_tokens_sum{engine="0",model_name="a"} 5',
    "",
  ].join("\n");
}

test("the counters are read by model, over all engines; nothing else is", () => {
  const text = `${metrics({ a: [1_234_567, 20] })}${metrics({ a: [1, 2], "org/b": [3, 4] })}`;
  assert.deepEqual(readCounters(text), [
    { model: "a", inputTokens: 1_234_568, outputTokens: 22 },
    { model: "org/b", inputTokens: 3, outputTokens: 4 },
  ]);
  assert.deepEqual(readCounters("no metrics"), []);
});

test("what is new is of the day it is; a restart begins at nothing", async () => {
  await using db = await openTestDatabase();
  let counters: Record<string, [number, number]> = { a: [1_000, 100] };
  let status = 200;
  await using server = await openModelServer((_, response) => {
    response.writeHead(status);
    response.end(metrics(counters));
  });
  const clock = { ms: Date.UTC(2026, 10, 20, 23, 58), now: () => clock.ms };
  const usage = createVllmUsage({ db, clock }, { provider: "vllm", baseUrl: `${server.url}/v1` });
  // What it had counted before it was known is of no day.
  await usage.task.activate();
  assert.equal(await usage.counts("2026-11-20"), null);
  counters = { a: [1_500, 150] };
  await usage.task.activate();
  counters = { a: [40, 4] };
  await usage.task.activate();
  await usage.task.activate();
  assert.deepEqual(await usage.counts("2026-11-20"), [
    { model: "a", inputTokens: 540, outputTokens: 54 },
  ]);
  clock.ms += 3 * 60_000;
  counters = { a: [50, 5] };
  await usage.task.activate();
  assert.deepEqual(await usage.counts("2026-11-21"), [
    { model: "a", inputTokens: 10, outputTokens: 1 },
  ]);
  assert.equal(server.requests.at(-1)?.url, "/metrics");
  assert.equal(await usage.fault(), null);
  status = 503;
  await assert.rejects(usage.task.activate(), /answers 503/);
  assert.match((await usage.fault()) ?? "", /its counters were not read: .*503/);
});

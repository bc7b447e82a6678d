/** What is read off an engine's /metrics, from lines as vLLM 0.32 and Ray write them. */
import assert from "node:assert/strict";
import test from "node:test";
import { readEngine } from "../../../orchestrator/serving/engine-reading.ts";
import { engineText } from "../../support/engine-text.ts";

test("each model's load and counters, summed over its data-parallel engines", () => {
  const one = { running: 2, waiting: 1, kvCacheUsage: 0.25, promptTokens: 100, cachedTokens: 40 };
  const two = { running: 3, kvCacheUsage: 0.75, promptTokens: 50, generationTokens: 7 };
  const queued = { queueMs: 1_500, queuedCalls: 3, firstTokenMs: 900, firstTokenCalls: 3 };
  const text = [
    engineText("org/a", { ...one, ...queued, preemptions: 2 }, "0"),
    engineText("org/a", two, "1"),
    engineText("b", { running: 1 }),
  ].join("\n");
  assert.deepEqual(readEngine(text), [
    {
      ...{ model: "org/a", running: 5, waiting: 1, kvCacheUsage: 0.75 },
      ...{ promptTokens: 150, cachedTokens: 40, generationTokens: 7, preemptions: 2, ...queued },
    },
    {
      ...{ model: "b", running: 1, waiting: 0, kvCacheUsage: 0 },
      ...{ promptTokens: 0, cachedTokens: 0, generationTokens: 0, preemptions: 0 },
      ...{ queueMs: 0, queuedCalls: 0, firstTokenMs: 0, firstTokenCalls: 0 },
    },
  ]);
});

test("Ray's names are vLLM's; what is no engine's is passed over", () => {
  const ray = 'ray_vllm_num_requests_running{engine="0",model_name="m",WorkerId="a}b"} 4.0 17';
  assert.deepEqual(
    readEngine(ray).map(({ model, running }) => [model, running]),
    [["m", 4]],
  );
  const strange = [
    'vllm:num_requests_running{engine="0"} 4',
    'vllm:num_requests_running{model_name=""} 4',
    'vllm:num_requests_running{model_name="m"} NaN',
    'vllm:cache_config_info{model_name="m"} 1',
    'other_num_requests_running{model_name="m"} 4',
    "vllm:num_requests_running 4",
    "<html>",
  ];
  assert.deepEqual(readEngine(strange.join("\n")), []);
});

/** Goal: an engine's own figures are read off the text that a real one serves, and off no other. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { Value } from "typebox/value";
import { EngineMetrics } from "../../../orchestrator/contract/models.ts";
import { readEngineMetrics } from "../../../orchestrator/serving/engine-metrics.ts";

const AT_MS = Date.UTC(2026, 5, 1, 12);
const LABELS = '{engine="0",model_name="qwen2.5-coder-14b-instruct"}';

/** As vLLM 0.32 serves it, among what Python and its web server say of themselves. */
const TEXT = `# HELP python_gc_objects_collected_total Objects collected during gc
# TYPE python_gc_objects_collected_total counter
python_gc_objects_collected_total{generation="0"} 12684.0
# HELP vllm:num_requests_running Number of requests in model execution batches.
# TYPE vllm:num_requests_running gauge
vllm:num_requests_running${LABELS} 3.0
# HELP vllm:num_requests_waiting Number of requests waiting to be processed.
# TYPE vllm:num_requests_waiting gauge
vllm:num_requests_waiting${LABELS} 1.0
# HELP vllm:kv_cache_usage_perc KV-cache usage. 1 means 100 percent usage.
# TYPE vllm:kv_cache_usage_perc gauge
vllm:kv_cache_usage_perc${LABELS} 0.04081632653061229
# HELP vllm:prompt_tokens_total Number of prefill tokens processed.
# TYPE vllm:prompt_tokens_total counter
vllm:prompt_tokens_total${LABELS} 1.234567e+06
# HELP vllm:prompt_tokens_created Number of prefill tokens processed.
# TYPE vllm:prompt_tokens_created gauge
vllm:prompt_tokens_created${LABELS} 1.7637e+09
# HELP vllm:prompt_tokens_cached_total Number of prompt tokens from the cache.
# TYPE vllm:prompt_tokens_cached_total counter
vllm:prompt_tokens_cached_total${LABELS} 800000.0
# HELP vllm:generation_tokens_total Number of generation tokens processed.
# TYPE vllm:generation_tokens_total counter
vllm:generation_tokens_total${LABELS} 5600.0
# HELP vllm:time_to_first_token_seconds Histogram of time to first token in seconds.
# TYPE vllm:time_to_first_token_seconds histogram
vllm:time_to_first_token_seconds_bucket{engine="0",le="0.001",model_name="m"} 0.0
vllm:time_to_first_token_seconds_sum${LABELS} 9.5
http_requests_total{handler="/v1/chat/completions",method="POST",status="2xx"} 71.0
`;

const READ = {
  at: "2026-06-01T12:00:00.000Z",
  running: 3,
  waiting: 1,
  kv_cache_usage: 0.04081632653061229,
  prompt_tokens_total: 1_234_567,
  generation_tokens_total: 5_600,
  prompt_tokens_per_second: 0,
  generation_tokens_per_second: 0,
};

test("a real engine's text is its figures", () => {
  assert.deepEqual(readEngineMetrics(TEXT, AT_MS, null), READ);
  assert.ok(Value.Check(EngineMetrics, READ));
  // Ray's agent serves the same series under its own prefix, with its own labels.
  const ray = TEXT.replaceAll(/^vllm:(\w+)\{/gm, 'ray_vllm_$1{WorkerId="a",');
  assert.deepEqual(readEngineMetrics(ray, AT_MS, null), READ);
  assert.deepEqual(readEngineMetrics(TEXT.replaceAll("\n", "\r\n"), AT_MS, null), READ);
});

test("rates are over the time since the last scrape, and none is below zero", () => {
  const now = readEngineMetrics(TEXT, AT_MS + 2_500, {
    ...READ,
    prompt_tokens_total: 1_234_567 - 1_000,
    generation_tokens_total: 5_600 - 111,
  });
  assert.equal(now?.prompt_tokens_per_second, 400);
  assert.equal(now?.generation_tokens_per_second, 44.4);
  // It was restarted meanwhile, or two scrapes are of one moment.
  const restarted = { ...READ, prompt_tokens_total: 2_000_000 };
  assert.equal(readEngineMetrics(TEXT, AT_MS + 1_000, restarted)?.prompt_tokens_per_second, 0);
  assert.deepEqual(readEngineMetrics(TEXT, AT_MS, READ), READ);
});

test("engines that share the load are summed, and the fullest cache is told", () => {
  const other = TEXT.replaceAll('engine="0"', 'engine="1"').replace("0.0408", "0.9108");
  const both = readEngineMetrics(`${TEXT}${other}`, AT_MS, null);
  assert.deepEqual([both?.running, both?.waiting, both?.generation_tokens_total], [6, 2, 11_200]);
  assert.equal(both?.kv_cache_usage, 0.91081632653061229);
});

test("what is missing is zero, and a text that is no engine's is none", () => {
  const only = readEngineMetrics(`vllm:num_requests_waiting${LABELS} 2.0`, AT_MS, null);
  const { at } = READ;
  const zero = Object.fromEntries(Object.keys(READ).map((name) => [name, 0]));
  assert.deepEqual(only, { ...zero, at, waiting: 2 });
  for (const text of [
    "",
    "<html>502 Bad Gateway</html>",
    "python_gc_objects_collected_total 5",
    "# vllm:num_requests_running 5",
    `vllm:num_requests_running${LABELS} NaN`,
    "vllm:num_requests_running 1.2.3",
    "vllm:some_other_series 5",
  ]) {
    assert.equal(readEngineMetrics(text, AT_MS, null), null, text);
  }
});

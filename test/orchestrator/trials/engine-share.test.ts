/**
 * Goal: what a trial is told of its engines is of its own calls, and of the engines only what the
 * samples tell of the time of those calls.
 */
import assert from "node:assert/strict";
import test from "node:test";
import { Value } from "typebox/value";
import type { Call } from "../../../orchestrator/contract/calls.ts";
import { TrialEngine } from "../../../orchestrator/contract/engines.ts";
import { rfc3339 } from "../../../orchestrator/runtime/clock.ts";
import {
  type EngineSample,
  engineShares,
  mergeSpans,
} from "../../../orchestrator/trials/engine-share.ts";
import { callOf } from "../../support/api-answers.ts";

const START_MS = Date.UTC(2026, 10, 20, 12);
const OURS = "served/coder-14b/normal";
const CALL = callOf("trial_01kaj0x7g6ffx8dcqpzr1kqd1h");

function call(atS: number, durationS: number, more: Partial<Call> = {}): Call {
  const duration = { duration_ms: durationS * 1_000, first_byte_ms: 500 };
  const usage = { ...CALL.usage, input_tokens: 300, cache_read_tokens: 700, output_tokens: 101 };
  const at = rfc3339(START_MS + atS * 1_000);
  const plain = { provider: OURS, model: "m", started_at: at, status: 200, error: null };
  return { ...CALL, ...plain, ...duration, usage, gpu_ms: 1_000, ...more };
}

function sample(atS: number, more: Partial<EngineSample> = {}): EngineSample {
  return {
    ...{ provider: OURS, model: "m", atMs: START_MS + atS * 1_000, startedAtMs: 1, gpus: 2 },
    ...{ runningMean: 0, runningMax: 0, waitingMean: 0, waitingMax: 0, kvCacheUsageMax: 0 },
    ...{ promptTokens: 0, cachedTokens: 0, generationTokens: 0, preemptions: 0 },
    ...{ queueMs: 0, queuedCalls: 0, firstTokenMs: 0, firstTokenCalls: 0 },
    ...more,
  };
}

test("its own calls: speed and first token of streamed answers, its cache's share", () => {
  const calls = [
    call(0, 5.5),
    call(10, 2.5, { first_byte_ms: 100, side: "thinking" }),
    // In one piece: it says nothing of a first token, nor of a speed.
    call(12, 2, { first_byte_ms: 2_000, gpu_ms: null }),
    call(20, 1, { status: 502, error: "upstream_failed", first_byte_ms: null, gpu_ms: null }),
  ];
  const [engine, ...others] = engineShares(calls, []);
  assert.deepEqual(others, []);
  assert.deepEqual(engine, {
    ...{ provider: OURS, model: "m", load: null, timeline: [] },
    sides: ["normal", "thinking"],
    calls: {
      ...{ call_count: 4, failed_count: 1 },
      first_token_ms: { median: 100, p95: 500 },
      // 200 tokens in 5 and 2.4 seconds.
      output_tokens_per_second: 27,
      ...{ input_tokens: 4_000, cached_tokens: 2_800, output_tokens: 404, cached_share: 0.7 },
      // 5.5, then 10 to 14, then 1.
      ...{ busy_ms: 10_500, gpu_ms: 2_000 },
    },
  });
});

test("the engine's load is of the time of the calls, its counters over restarts and gaps", () => {
  const calls = [call(0, 20), call(200, 10), call(1_000, 0, { first_byte_ms: null })];
  const busy = { runningMean: 4, runningMax: 6, waitingMean: 1, waitingMax: 2 };
  const samples = [
    sample(0),
    sample(10, { ...busy, kvCacheUsageMax: 0.5, promptTokens: 4_000, cachedTokens: 1_000 }),
    // Restarted in between: its counters began anew.
    sample(20, { runningMean: 2, runningMax: 3, startedAtMs: 2, generationTokens: 400 }),
    sample(30, { runningMean: 99, runningMax: 99, startedAtMs: 2, generationTokens: 9_000 }),
    // Nobody looked for minutes, and it says nothing of the second call.
    sample(205, { runningMean: 50, runningMax: 50, startedAtMs: 2, generationTokens: 9_500 }),
    sample(215, {
      ...{ startedAtMs: 2, generationTokens: 9_600, preemptions: 2 },
      ...{ queueMs: 600, queuedCalls: 3, firstTokenMs: 900, firstTokenCalls: 3 },
    }),
    sample(5, { provider: "served/other/normal", runningMax: 1_000 }),
  ];
  const [engine] = engineShares(calls, samples);
  assert.deepEqual(engine?.load, {
    // Ten seconds each of the first call, and half of the second.
    ...{ sample_count: 3, sampled_ms: 25_000, gpu_count: 2 },
    ...{ running_mean: 2.4, running_max: 6, waiting_mean: 0.4, waiting_max: 2 },
    ...{ kv_cache_usage_max: 0.5, preemptions: 2, prefill_tokens: 3_000, cached_share: 0.25 },
    ...{ output_tokens_per_second: 16.7, queue_ms: 200, first_token_ms: 300 },
    // (1101 + 1101 / 2) of 4,500, and (1,000 + 500) ms of 25 s times 2.
    ...{ token_share: 0.367, gpu_share: 0.03 },
  });
  assert.deepEqual(
    engine?.timeline.map((point) => [Date.parse(point.from) - START_MS, point.own_running]),
    [
      [0, 1],
      [10_000, 1],
      [20_000, 0],
      [205_000, 0.5],
    ],
  );
  assert.deepEqual([...Value.Errors(TrialEngine, engine)], []);
});

test("an engine that others started has its model by another name; of several, each its own", () => {
  const calls = [call(0, 10, { provider: "vllm", model: "org/Coder" })];
  const theirs = { provider: "vllm", startedAtMs: null, gpus: null };
  const two = (model: string, runningMean: number) =>
    [0, 10].map((atS) => sample(atS, { ...theirs, model, runningMean, generationTokens: atS }));
  const [alone] = engineShares(calls, two("whatever", 3));
  assert.deepEqual([alone?.load?.running_mean, alone?.load?.gpu_share], [3, null]);
  const [ofTwo] = engineShares(calls, [...two("coder", 1), ...two("other", 7)]);
  assert.deepEqual([ofTwo?.load?.running_mean, ofTwo?.load?.gpu_count], [1, null]);
  const [none] = engineShares(calls, [...two("a", 1), ...two("b", 7)]);
  assert.equal(none?.load, null);
});

test("a long trial's chart has few points, and misses nothing between them", () => {
  const samples = Array.from({ length: 1_001 }, (_, index) =>
    sample(index * 10, { runningMean: 1, generationTokens: index * 50 }),
  );
  const [engine] = engineShares([call(0, 10_000)], samples);
  const timeline = engine?.timeline ?? [];
  assert.ok(timeline.length <= 120 && timeline.length > 60);
  assert.ok(timeline.every((point) => point.output_tokens_per_second === 5));
  assert.ok(
    timeline.every((point, index) => index === 0 || point.from === timeline[index - 1]?.to),
  );
});

test("spans that touch are one", () => {
  const span = (fromMs: number, toMs: number) => ({ fromMs, toMs });
  assert.deepEqual(mergeSpans([span(5, 6), span(0, 2), span(1, 3), span(3, 4), span(1, 2)]), [
    span(0, 4),
    span(5, 6),
  ]);
});

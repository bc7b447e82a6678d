/** An engine's /metrics as vLLM 0.32 writes it, for tests of who reads it. */
import type { EngineReading } from "../../orchestrator/serving/engine-reading.ts";

/** Whatever is not given is 0, as with an engine that has done nothing yet. */
export function engineText(
  model: string,
  reading: Partial<Omit<EngineReading, "model">>,
  engine = "0",
): string {
  const labels = `{engine="${engine}",model_name="${model}"}`;
  const at = (key: keyof typeof reading, scale = 1) => (reading[key] ?? 0) / scale;
  return [
    "# TYPE vllm:num_requests_running gauge",
    `vllm:num_requests_running${labels} ${at("running").toFixed(1)}`,
    `vllm:num_requests_waiting${labels} ${at("waiting").toFixed(1)}`,
    `vllm:kv_cache_usage_perc${labels} ${at("kvCacheUsage")}`,
    `vllm:prompt_tokens_total${labels} ${at("promptTokens").toFixed(1)}`,
    `vllm:generation_tokens_total${labels} ${at("generationTokens").toExponential()}`,
    `vllm:prefix_cache_queries_total${labels} ${at("promptTokens")}`,
    `vllm:prefix_cache_hits_total${labels} ${at("cachedTokens")}`,
    `vllm:num_preemptions_total${labels} ${at("preemptions")}`,
    `vllm:request_queue_time_seconds_sum${labels} ${at("queueMs", 1_000)}`,
    `vllm:request_queue_time_seconds_count${labels} ${at("queuedCalls")}`,
    `vllm:time_to_first_token_seconds_sum${labels} ${at("firstTokenMs", 1_000)}`,
    `vllm:time_to_first_token_seconds_count${labels} ${at("firstTokenCalls")}`,
    `vllm:time_to_first_token_seconds_bucket{engine="${engine}",le="0.1",model_name="${model}"} 9`,
    "",
  ].join("\n");
}

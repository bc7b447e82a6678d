/**
 * An engine's own figures, from vLLM's `/metrics` (Prometheus' text format, series `vllm:*`, or
 * `ray_vllm_*` behind Ray). Pure.
 */
import type { EngineMetrics } from "../contract/models.ts";
import { type EpochMs, rfc3339 } from "../runtime/clock.ts";

const SERIES = {
  running: "num_requests_running",
  waiting: "num_requests_waiting",
  kvCacheUsage: "kv_cache_usage_perc",
  promptTokens: "prompt_tokens_total",
  generationTokens: "generation_tokens_total",
} as const;

/** `name{labels} value timestamp?` */
const SAMPLE = /^(?:vllm:|ray_vllm_)([a-z_]+)(?:\{[^}]*\})?\s+([0-9.eE+-]+)(?:\s+[0-9]+)?\s*$/;

/**
 * Sums over its data-parallel engines (the cache's use is the fullest one's). Null where the text
 * has no series of vLLM's. Rates are over the time since `last`; 0 without one, or after a restart.
 */
export function readEngineMetrics(
  text: string,
  atMs: EpochMs,
  last: EngineMetrics | null,
): EngineMetrics | null {
  const found = new Map<string, number[]>();
  for (const line of text.split("\n")) {
    const [, name, written] = SAMPLE.exec(line) ?? [];
    const value = Number(written);
    if (name === undefined || !Number.isFinite(value)) continue;
    found.set(name, [...(found.get(name) ?? []), value]);
  }
  if (!Object.values(SERIES).some((name) => found.has(name))) return null;
  const sum = (name: string) => (found.get(name) ?? []).reduce((total, each) => total + each, 0);
  const count = (name: string) => Math.max(0, Math.round(sum(name)));
  const promptTokens = count(SERIES.promptTokens);
  const generationTokens = count(SERIES.generationTokens);
  const sinceMs = last === null ? 0 : atMs - Date.parse(last.at);
  const rate = (now: number, before: number | undefined) =>
    before === undefined || sinceMs <= 0 || now < before
      ? 0
      : Math.round(((now - before) * 10_000) / sinceMs) / 10;
  return {
    at: rfc3339(atMs),
    running: count(SERIES.running),
    waiting: count(SERIES.waiting),
    kv_cache_usage: Math.min(1, Math.max(0, ...(found.get(SERIES.kvCacheUsage) ?? [0]))),
    prompt_tokens_total: promptTokens,
    generation_tokens_total: generationTokens,
    prompt_tokens_per_second: rate(promptTokens, last?.prompt_tokens_total),
    generation_tokens_per_second: rate(generationTokens, last?.generation_tokens_total),
  };
}

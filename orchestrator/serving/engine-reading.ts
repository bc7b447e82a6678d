/**
 * What an engine's `/metrics` says of each model that it serves (vLLM's series, `vllm:*`, or
 * `ray_vllm_*` behind Ray): its load now, and its counters since it started. Pure.
 *
 * Names are those of vLLM 0.32, `vllm/v1/metrics/loggers.py`.
 */
import type { EngineCounters } from "../contract/engines.ts";

export interface EngineReading extends EngineCounters {
  /** As the engine names it: the first of its served names. */
  readonly model: string;
  readonly running: number;
  readonly waiting: number;
  /** Of 0 to 1: the fullest one's, of several engines behind one address. */
  readonly kvCacheUsage: number;
}

/** `name{labels} value timestamp?`; a label's value may have a brace in it. */
const SAMPLE =
  /^(?:vllm:|ray_vllm_)([a-z_]+)\{((?:[^"}]|"(?:[^"\\]|\\.)*")*)\}\s+([0-9.eE+-]+)(?:\s+\d+)?\s*$/;
const MODEL = /(?:^|,)\s*model_name="((?:[^"\\]|\\.)*)"/;
const MODEL_CHARACTERS_MAX = 200;

/** Of every model with a load or a count of tokens; sums over its data-parallel engines. */
export function readEngine(text: string): EngineReading[] {
  const models = new Map<string, Map<string, number[]>>();
  for (const line of text.split("\n")) {
    const [, name = "", labels = "", written] = SAMPLE.exec(line) ?? [];
    const model = MODEL.exec(labels)?.[1]?.slice(0, MODEL_CHARACTERS_MAX);
    const value = Number(written);
    if (model === undefined || model === "" || !Number.isFinite(value)) continue;
    const series = models.get(model) ?? new Map<string, number[]>();
    series.set(name, [...(series.get(name) ?? []), value]);
    models.set(model, series);
  }
  return [...models].flatMap(([model, series]) => {
    const isEngine = series.has("num_requests_running") || series.has("generation_tokens_total");
    return isEngine ? [readingOf(model, series)] : [];
  });
}

function readingOf(model: string, series: ReadonlyMap<string, readonly number[]>): EngineReading {
  const sum = (name: string) => (series.get(name) ?? []).reduce((total, each) => total + each, 0);
  const count = (name: string) => Math.max(0, Math.round(sum(name)));
  const milliseconds = (name: string) => Math.max(0, Math.round(sum(name) * 1_000));
  return {
    model,
    running: count("num_requests_running"),
    waiting: count("num_requests_waiting"),
    kvCacheUsage: Math.min(1, Math.max(0, ...(series.get("kv_cache_usage_perc") ?? [0]))),
    promptTokens: count("prompt_tokens_total"),
    cachedTokens: count("prefix_cache_hits_total"),
    generationTokens: count("generation_tokens_total"),
    preemptions: count("num_preemptions_total"),
    queueMs: milliseconds("request_queue_time_seconds_sum"),
    queuedCalls: count("request_queue_time_seconds_count"),
    firstTokenMs: milliseconds("time_to_first_token_seconds_sum"),
    firstTokenCalls: count("time_to_first_token_seconds_count"),
  };
}

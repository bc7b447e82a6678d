/**
 * What a trial got from each model server that answered it, from its calls alone, and what that
 * server did meanwhile, from the samples that lie in those calls. Pure.
 *
 * A sample tells of the time since the one before it: its counters are differences, its load is a
 * mean. Where two are more than a minute apart nobody looked, and nothing is said of that time.
 */
import type { Side } from "../contract/agents.ts";
import type { Call } from "../contract/calls.ts";
import {
  ENGINE_COUNTERS,
  type EngineCounters,
  type EngineLoad,
  type TrialEngine,
} from "../contract/engines.ts";
import { type EpochMs, rfc3339 } from "../runtime/clock.ts";

/** A row of engine_sample. */
export interface EngineSample extends EngineCounters {
  readonly provider: string;
  readonly model: string;
  readonly atMs: EpochMs;
  readonly startedAtMs: EpochMs | null;
  readonly gpus: number | null;
  readonly runningMean: number;
  readonly runningMax: number;
  readonly waitingMean: number;
  readonly waitingMax: number;
  readonly kvCacheUsageMax: number;
}

export interface Span {
  readonly fromMs: EpochMs;
  readonly toMs: EpochMs;
}

/** What one sample tells of. */
interface Interval extends Span {
  readonly sample: EngineSample;
  readonly counts: EngineCounters;
}

/** Longer without a sample: nobody looked. */
export const GAP_MS = 60_000;
const POINTS_MAX = 120;
/** An answer that ends sooner after its first piece came in one: no sequence is that fast. */
const STREAMED_MS_PER_TOKEN = 0.2;

/** In the order of their first calls. */
export function engineShares(
  calls: readonly Call[],
  samples: readonly EngineSample[],
): TrialEngine[] {
  const groups = Map.groupBy(calls, ({ provider, model }) => JSON.stringify([provider, model]));
  return [...groups.values()].flatMap((own) => {
    const [first] = own;
    if (first === undefined) return [];
    const { provider, model } = first;
    const spans = mergeSpans(own.map(spanOf));
    const intervals = intervalsOf(samplesOf(first, samples));
    return {
      ...{ provider, model },
      sides: [...new Set(own.map(({ side }): Side => side))],
      calls: ownFigures(own, spans),
      load: loadOf(own, spans, intervals),
      timeline: timelineOf(own, spans, intervals),
    };
  });
}

/** Ordered, and none touches another. */
export function mergeSpans(spans: readonly Span[]): Span[] {
  const merged: { fromMs: EpochMs; toMs: EpochMs }[] = [];
  for (const { fromMs, toMs } of spans.toSorted((one, other) => one.fromMs - other.fromMs)) {
    const last = merged.at(-1);
    if (last === undefined || fromMs > last.toMs) merged.push({ fromMs, toMs });
    else last.toMs = Math.max(last.toMs, toMs);
  }
  return merged;
}

export function spanOf({ started_at: at, duration_ms: durationMs }: Call): Span {
  const fromMs = Date.parse(at);
  return { fromMs, toMs: fromMs + durationMs };
}

function ownFigures(calls: readonly Call[], spans: readonly Span[]): TrialEngine["calls"] {
  const streamed = calls.flatMap(({ usage, first_byte_ms: firstMs, duration_ms: ms, error }) => {
    const tokens = usage.output_tokens - 1;
    if (firstMs === null || error !== null || tokens <= 0) return [];
    const restMs = ms - firstMs;
    return restMs >= tokens * STREAMED_MS_PER_TOKEN ? [{ firstMs, restMs, tokens }] : [];
  });
  const firsts = streamed.map(({ firstMs }) => firstMs).toSorted((one, other) => one - other);
  const inputTokens = sum(calls, inputOf);
  const cachedTokens = sum(calls, ({ usage }) => usage.cache_read_tokens);
  const gpu = calls.flatMap(({ gpu_ms: gpuMs }) => gpuMs ?? []);
  return {
    call_count: calls.length,
    failed_count: calls.filter(({ status, error }) => status >= 400 || error !== null).length,
    first_token_ms:
      firsts.length === 0 ? null : { median: rank(firsts, 0.5), p95: rank(firsts, 0.95) },
    output_tokens_per_second: perSecond(
      sum(streamed, ({ tokens }) => tokens),
      sum(streamed, ({ restMs }) => restMs),
    ),
    input_tokens: inputTokens,
    cached_tokens: cachedTokens,
    output_tokens: sum(calls, ({ usage }) => usage.output_tokens),
    cached_share: ratio(cachedTokens, inputTokens),
    busy_ms: sum(spans, lengthOf),
    gpu_ms: gpu.length === 0 ? null : sum(gpu, (each) => each),
  };
}

function loadOf(
  calls: readonly Call[],
  spans: readonly Span[],
  intervals: readonly Interval[],
): EngineLoad | null {
  const meanwhile = intervals.flatMap((interval) => {
    const overlapMs = overlap(interval, spans);
    return overlapMs > 0 ? [{ ...interval, overlapMs }] : [];
  });
  if (meanwhile.length === 0) return null;
  const sampledMs = sum(meanwhile, ({ overlapMs }) => overlapMs);
  const mean = (of: (sample: EngineSample) => number) =>
    round(sum(meanwhile, ({ sample, overlapMs }) => of(sample) * overlapMs) / sampledMs, 2);
  const most = (of: (sample: EngineSample) => number) =>
    Math.max(...meanwhile.map(({ sample }) => of(sample)));
  const count = (name: keyof EngineCounters) => sum(meanwhile, ({ counts }) => counts[name]);
  const gpus = most(({ gpus: own }) => own ?? 0);
  const [prompt, cached, generation] = [
    count("promptTokens"),
    count("cachedTokens"),
    count("generationTokens"),
  ];
  // As much of each call as the samples tell of.
  const told = calls.map((call) => ({ call, part: partIn(spanOf(call), meanwhile) }));
  const ownTokens = sum(
    told,
    ({ call, part }) => part * (inputOf(call) + call.usage.output_tokens),
  );
  const gpuMs = told.flatMap(({ call, part }) => (call.gpu_ms === null ? [] : call.gpu_ms * part));
  return {
    sample_count: meanwhile.length,
    sampled_ms: Math.round(sampledMs),
    gpu_count: gpus === 0 ? null : gpus,
    running_mean: mean(({ runningMean }) => runningMean),
    running_max: most(({ runningMax }) => runningMax),
    waiting_mean: mean(({ waitingMean }) => waitingMean),
    waiting_max: most(({ waitingMax }) => waitingMax),
    kv_cache_usage_max: round(
      most(({ kvCacheUsageMax }) => kvCacheUsageMax),
      3,
    ),
    preemptions: count("preemptions"),
    prefill_tokens: Math.max(0, prompt - cached),
    cached_share: ratio(cached, prompt),
    output_tokens_per_second: perSecond(generation, sum(meanwhile, lengthOf)) ?? 0,
    queue_ms: average(count("queueMs"), count("queuedCalls")),
    first_token_ms: average(count("firstTokenMs"), count("firstTokenCalls")),
    token_share: ratio(ownTokens, prompt + generation),
    gpu_share:
      gpus === 0 || gpuMs.length === 0
        ? null
        : ratio(
            sum(gpuMs, (each) => each),
            sampledMs * gpus,
          ),
  };
}

/** From its first call to its last: at most so many points, each of as many samples as it takes. */
function timelineOf(
  calls: readonly Call[],
  spans: readonly Span[],
  intervals: readonly Interval[],
): TrialEngine["timeline"] {
  const [fromMs, toMs] = [spans[0]?.fromMs ?? 0, spans.at(-1)?.toMs ?? 0];
  const within = intervals.filter((interval) => overlap(interval, [{ fromMs, toMs }]) > 0);
  const each = Math.max(1, Math.ceil(within.length / POINTS_MAX));
  const own = calls.map(spanOf);
  return Array.from({ length: Math.ceil(within.length / each) }, (_, index) => {
    const part = within.slice(index * each, (index + 1) * each);
    const lengthMs = sum(part, lengthOf);
    const mean = (of: (sample: EngineSample) => number) =>
      round(sum(part, (interval) => of(interval.sample) * lengthOf(interval)) / lengthMs, 2);
    const tokens = sum(part, ({ counts }) => counts.generationTokens);
    return {
      from: rfc3339(part[0]?.fromMs ?? 0),
      to: rfc3339(part.at(-1)?.toMs ?? 0),
      running: mean(({ runningMean }) => runningMean),
      waiting: mean(({ waitingMean }) => waitingMean),
      kv_cache_usage: Math.max(...part.map(({ sample }) => round(sample.kvCacheUsageMax, 3))),
      output_tokens_per_second: perSecond(tokens, lengthMs) ?? 0,
      own_running: round(
        sum(part, (interval) => sum(own, (one) => common(interval, one))) / lengthMs,
        2,
      ),
    };
  });
}

/** Those of the call's engine: of its model, unless it serves one alone, by whatever name. */
function samplesOf(call: Call, samples: readonly EngineSample[]): EngineSample[] {
  const ofProvider = samples.filter(({ provider }) => provider === call.provider);
  if (new Set(ofProvider.map(({ model }) => model)).size <= 1) return ofProvider;
  const plain = (model: string) => model.toLowerCase().split("/").at(-1);
  return ofProvider.filter(({ model }) => plain(model) === plain(call.model));
}

function intervalsOf(samples: readonly EngineSample[]): Interval[] {
  const ordered = samples.toSorted((one, other) => one.atMs - other.atMs);
  return ordered.flatMap((sample, index) => {
    const before = ordered[index - 1];
    if (before === undefined) return [];
    const span = { fromMs: before.atMs, toMs: sample.atMs };
    const lengthMs = lengthOf(span);
    if (lengthMs <= 0 || lengthMs > GAP_MS) return [];
    return [{ ...span, sample, counts: countsSince(before, sample) }];
  });
}

/** Its counters begin at 0 when it starts; where nobody says when, a smaller one tells of it. */
function countsSince(before: EngineSample, sample: EngineSample): EngineCounters {
  const isKnown = before.startedAtMs !== null && sample.startedAtMs !== null;
  const isAnother = isKnown
    ? before.startedAtMs !== sample.startedAtMs
    : ENGINE_COUNTERS.some((counter) => sample[counter] < before[counter]);
  const since = ENGINE_COUNTERS.map((counter) => [
    counter,
    Math.max(0, sample[counter] - (isAnother ? 0 : before[counter])),
  ]);
  return Object.fromEntries(since);
}

/** How much of a call lies in the intervals: 0 to 1. */
function partIn(call: Span, intervals: readonly Span[]): number {
  const lengthMs = lengthOf(call);
  if (lengthMs > 0) return sum(intervals, (interval) => common(interval, call)) / lengthMs;
  return intervals.some(({ fromMs, toMs }) => fromMs <= call.fromMs && call.fromMs <= toMs) ? 1 : 0;
}

function overlap(span: Span, others: readonly Span[]): number {
  return sum(others, (other) => common(span, other));
}

function common(one: Span, other: Span): number {
  return Math.max(0, Math.min(one.toMs, other.toMs) - Math.max(one.fromMs, other.fromMs));
}

function lengthOf({ fromMs, toMs }: Span): number {
  return toMs - fromMs;
}

function inputOf({ usage }: Call): number {
  return usage.input_tokens + usage.cache_read_tokens + usage.cache_write_tokens;
}

/** Nearest rank, of what is in order. */
function rank(ordered: readonly number[], share: number): number {
  return ordered[Math.ceil(share * ordered.length) - 1] ?? 0;
}

function perSecond(count: number, ms: number): number | null {
  return ms > 0 ? round((count * 1_000) / ms, 1) : null;
}

function average(total: number, count: number): number | null {
  return count > 0 ? round(total / count, 1) : null;
}

function ratio(part: number, whole: number): number | null {
  return whole > 0 ? round(Math.min(1, part / whole), 4) : null;
}

function round(value: number, decimals: number): number {
  return Math.round(value * 10 ** decimals) / 10 ** decimals;
}

function sum<Thing>(things: readonly Thing[], of: (thing: Thing) => number): number {
  return things.reduce((total, thing) => total + of(thing), 0);
}

/** Reads what a trial got from its model servers, out of its calls and the servers' samples. */
import { sql } from "drizzle-orm";
import type { TrialEngine } from "../contract/engines.ts";
import type { Sql } from "../db/database.ts";
import { readTime, rows } from "../db/rows.ts";
import { rfc3339 } from "../runtime/clock.ts";
import type { TrialId } from "../runtime/ids.ts";
import { readCalls } from "./calls.ts";
import { type EngineSample, engineShares, GAP_MS, mergeSpans, spanOf } from "./engine-share.ts";

type SampleRow = {
  provider: string;
  model: string;
  at: string;
  started_at: string | null;
  gpus: number | null;
  running_mean: number;
  running_max: number;
  waiting_mean: number;
  waiting_max: number;
  kv_cache_usage_max: number;
  prompt_tokens: string;
  cached_tokens: string;
  generation_tokens: string;
  preemptions: string;
  queue_ms: string;
  queued_calls: string;
  first_token_ms: string;
  first_token_calls: string;
};

export async function readTrialEngines(db: Sql, trialId: TrialId): Promise<TrialEngine[]> {
  const calls = await readCalls(db, trialId);
  // Around its calls alone: a trial that waited for days has no samples of those days.
  const spans = [...Map.groupBy(calls, ({ provider }) => provider)].flatMap(([provider, own]) => {
    const wide = own.map(spanOf).map(({ fromMs, toMs }) => ({
      fromMs: fromMs - GAP_MS,
      toMs: toMs + GAP_MS,
    }));
    return mergeSpans(wide).map(({ fromMs, toMs }) => ({
      ...{ provider, from: rfc3339(fromMs), to: rfc3339(toMs) },
    }));
  });
  if (spans.length === 0) return [];
  const found = await rows<SampleRow>(
    db,
    sql`select sample.* from jsonb_to_recordset(${JSON.stringify(spans)}::jsonb)
        as span (provider text, "from" timestamptz, "to" timestamptz)
      join engine_sample as sample
        on sample.provider = span.provider and sample.at between span."from" and span."to"
      order by sample.provider, sample.model, sample.at`,
  );
  return engineShares(calls, found.map(toSample));
}

function toSample(row: SampleRow): EngineSample {
  return {
    provider: row.provider,
    model: row.model,
    atMs: readTime(row.at),
    startedAtMs: row.started_at === null ? null : readTime(row.started_at),
    gpus: row.gpus,
    runningMean: row.running_mean,
    runningMax: row.running_max,
    waitingMean: row.waiting_mean,
    waitingMax: row.waiting_max,
    kvCacheUsageMax: row.kv_cache_usage_max,
    promptTokens: Number(row.prompt_tokens),
    cachedTokens: Number(row.cached_tokens),
    generationTokens: Number(row.generation_tokens),
    preemptions: Number(row.preemptions),
    queueMs: Number(row.queue_ms),
    queuedCalls: Number(row.queued_calls),
    firstTokenMs: Number(row.first_token_ms),
    firstTokenCalls: Number(row.first_token_calls),
  };
}

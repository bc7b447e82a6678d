/**
 * vLLM's own counters (`vllm:prompt_tokens_total`, `vllm:generation_tokens_total` of its
 * `/metrics`), read every minute and added up by day: they begin anew whenever it starts.
 *
 * What it counted between the last read and its end is not seen: a minute of it at most.
 */
import { sql } from "drizzle-orm";
import type { Database } from "../db/database.ts";
import { rows } from "../db/rows.ts";
import { Problem } from "../problem.ts";
import type { BackgroundTask } from "../runtime/background.ts";
import { type Clock, rfc3339 } from "../runtime/clock.ts";
import { counterDelta } from "./reconcile.ts";
import type { UsageCount, UsageCounts } from "./usage-counts.ts";

export interface VllmUsage extends UsageCounts {
  /** A duty. */
  readonly task: BackgroundTask;
}

const PERIOD_MS = 60_000;
const TIMEOUT_MS = 10_000;
const METRICS_BYTES_MAX = 8 * 1024 * 1024;
const SAMPLE =
  /^vllm:(prompt|generation)_tokens(?:_total)?\{([^}]*)\}\s+([0-9.eE+-]+)(?:\s+\d+)?\s*$/;

/** @param baseUrl of its API, with or without `/v1`; null: there is none. */
export function createVllmUsage(
  { db, clock }: { db: Pick<Database, "sql">; clock: Clock },
  { provider, baseUrl }: { provider: string; baseUrl: string },
): VllmUsage {
  const url = `${baseUrl.replace(/\/+$/, "").replace(/\/v1$/, "")}/metrics`;
  let lastFault: string | null = null;
  return {
    provider,
    counts: (day) => readDay(db, provider, day),
    fault: async () => lastFault,
    task: { name: `count_${provider}_tokens`, periodMs: PERIOD_MS, activate },
  };

  async function activate(): Promise<{ models: number }> {
    try {
      const counted = readCounters(await ask());
      for (const each of counted) await add(each);
      lastFault = null;
      return { models: counted.length };
    } catch (error) {
      lastFault = `its counters were not read: ${(error as Error).message}`;
      throw error;
    }
  }

  async function ask(): Promise<string> {
    const response = await fetch(url, { signal: AbortSignal.timeout(TIMEOUT_MS) }).catch(
      (cause: unknown) => {
        throw new Problem("upstream_failed", `${provider} does not answer at ${url}`, { cause });
      },
    );
    const text = await response.text();
    if (response.ok && text.length <= METRICS_BYTES_MAX) return text;
    throw new Problem("upstream_failed", `${provider}: ${url} answers ${response.status}`);
  }

  /** What is new since the last read, to the day it is now. */
  async function add({ model, inputTokens, outputTokens }: UsageCount): Promise<void> {
    const at = rfc3339(clock.now());
    await db.sql.transaction(async (transaction) => {
      const [before] = await rows<{ input_tokens: string; output_tokens: string }>(
        transaction,
        sql`select input_tokens, output_tokens from usage_counter
          where provider = ${provider} and model = ${model} for update`,
      );
      await transaction.execute(sql`
        insert into usage_counter (provider, model, input_tokens, output_tokens, asked_at)
        values (${provider}, ${model}, ${inputTokens}, ${outputTokens}, ${at})
        on conflict (provider, model) do update
        set input_tokens = excluded.input_tokens, output_tokens = excluded.output_tokens,
          asked_at = excluded.asked_at`);
      // What it had counted before it was first asked is of days that we cannot know.
      if (before === undefined) return;
      const input = counterDelta(Number(before.input_tokens), inputTokens);
      const output = counterDelta(Number(before.output_tokens), outputTokens);
      await transaction.execute(sql`
        insert into usage_count (day, provider, model, input_tokens, output_tokens)
        values (${at.slice(0, 10)}, ${provider}, ${model}, ${input}, ${output})
        on conflict (day, provider, model) do update
        set input_tokens = usage_count.input_tokens + excluded.input_tokens,
          output_tokens = usage_count.output_tokens + excluded.output_tokens`);
    });
  }
}

/** The counters of all models and all of its engines, in Prometheus' text format. Pure. */
export function readCounters(text: string): UsageCount[] {
  const found = new Map<string, { inputTokens: number; outputTokens: number }>();
  for (const line of text.split("\n")) {
    const [, kind, labels = "", value] = SAMPLE.exec(line) ?? [];
    const model = /(?:^|,)\s*model_name="((?:[^"\\]|\\.)*)"/.exec(labels)?.[1];
    const count = Number(value);
    if (kind === undefined || model === undefined || !Number.isFinite(count)) continue;
    const sums = found.get(model) ?? { inputTokens: 0, outputTokens: 0 };
    if (kind === "prompt") sums.inputTokens += Math.round(count);
    else sums.outputTokens += Math.round(count);
    found.set(model, sums);
  }
  return [...found].map(([model, sums]) => ({ model, ...sums }));
}

/** Null: its counters were not read on that day, so that nobody knows. */
async function readDay(db: Pick<Database, "sql">, provider: string, day: string) {
  const found = await rows<{ model: string; input_tokens: string; output_tokens: string }>(
    db.sql,
    sql`select model, input_tokens, output_tokens from usage_count
      where provider = ${provider} and day = ${day}::date`,
  );
  if (found.length === 0) return null;
  return found.map((row) => ({
    model: row.model,
    inputTokens: Number(row.input_tokens),
    outputTokens: Number(row.output_tokens),
  }));
}

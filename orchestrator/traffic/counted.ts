/**
 * What engines counted, added up by day from their counters, which begin anew whenever an engine
 * starts. Any process may add: a counter's row is locked from its read to its write, and of an
 * engine whose start is known what was read too late is passed over.
 */
import { sql } from "drizzle-orm";
import type { Database } from "../db/database.ts";
import { readTime, rows } from "../db/rows.ts";
import { type EpochMs, rfc3339 } from "../runtime/clock.ts";
import { counterDelta } from "./reconcile.ts";
import type { UsageCount, UsageCounts } from "./usage-counts.ts";

type Db = Pick<Database, "sql">;

/** Counters of one model, as its engine says them. */
export interface Counters extends UsageCount {
  readonly provider: string;
  /** When the engine started; null: nobody can say, and only a smaller count tells of a restart. */
  readonly startedAtMs: EpochMs | null;
}

type CounterRow = { input_tokens: string; output_tokens: string; started_at: string | null };

/** Adds what is new since the last read to the day that `atMs` is of, in UTC. */
export async function addCounted(db: Db, counters: Counters, atMs: EpochMs): Promise<void> {
  const { provider, model, inputTokens, outputTokens } = counters;
  const at = rfc3339(atMs);
  const startedAt = counters.startedAtMs === null ? null : rfc3339(counters.startedAtMs);
  await db.sql.transaction(async (transaction) => {
    const [before] = await rows<CounterRow>(
      transaction,
      sql`select input_tokens, output_tokens, started_at from usage_counter
        where provider = ${provider} and model = ${model} for update`,
    );
    if (before !== undefined && isStale(before, counters)) return;
    await transaction.execute(sql`
      insert into usage_counter (provider, model, input_tokens, output_tokens, asked_at, started_at)
      values (${provider}, ${model}, ${inputTokens}, ${outputTokens}, ${at}, ${startedAt})
      on conflict (provider, model) do update
      set input_tokens = excluded.input_tokens, output_tokens = excluded.output_tokens,
        asked_at = excluded.asked_at, started_at = excluded.started_at`);
    // What it had counted before it was first asked is of days that we cannot know.
    if (before === undefined) return;
    const isAnother = hasRestarted(before.started_at, counters.startedAtMs);
    const since = (tokens: string, now: number) =>
      counterDelta(isAnother ? null : Number(tokens), now);
    const input = since(before.input_tokens, inputTokens);
    const output = since(before.output_tokens, outputTokens);
    await transaction.execute(sql`
      insert into usage_count (day, provider, model, input_tokens, output_tokens)
      values (${at.slice(0, 10)}, ${provider}, ${model}, ${input}, ${output})
      on conflict (day, provider, model) do update
      set input_tokens = usage_count.input_tokens + excluded.input_tokens,
        output_tokens = usage_count.output_tokens + excluded.output_tokens`);
  });
}

/** Null: its counters were not read on that day, so that nobody knows. */
export async function readCounted(
  db: Db,
  provider: string,
  day: string,
): Promise<UsageCount[] | null> {
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

/** A source of the reconciliation for each provider with this prefix that ever counted. */
export async function countedSources(db: Db, prefix: string): Promise<UsageCounts[]> {
  const found = await rows<{ provider: string }>(
    db.sql,
    sql`select distinct provider from usage_counter
      where starts_with(provider, ${prefix}) order by provider`,
  );
  return found.map(({ provider }) => ({
    provider,
    counts: (day) => readCounted(db, provider, day),
    fault: async () => null,
  }));
}

/** Read before, and told after, what another reader told: nothing of it is new. */
function isStale(before: CounterRow, { startedAtMs, inputTokens, outputTokens }: Counters) {
  if (before.started_at === null || startedAtMs === null) return false;
  if (readTime(before.started_at) !== startedAtMs) return readTime(before.started_at) > startedAtMs;
  return inputTokens < Number(before.input_tokens) || outputTokens < Number(before.output_tokens);
}

function hasRestarted(before: string | null, nowMs: EpochMs | null): boolean {
  return before !== null && nowMs !== null && readTime(before) !== nowMs;
}

/** The daily reconciliation, kept: each provider asked what it counted, compared, and told. */
import { sql } from "drizzle-orm";
import type { Reconciliations } from "../api/services.ts";
import type { Reconciliation, ReconciliationReport } from "../contract/accounting.ts";
import type { Finding } from "../contract/system.ts";
import type { Database } from "../db/database.ts";
import { readTime, rows } from "../db/rows.ts";
import { Problem } from "../problem.ts";
import type { BackgroundTask } from "../runtime/background.ts";
import { type Clock, rfc3339 } from "../runtime/clock.ts";
import type { Log } from "../runtime/log.ts";
import { type Compared, compareCounts, type SettledCount } from "./reconcile.ts";
import type { UsageCounts } from "./usage-counts.ts";

export interface Reconciler extends Reconciliations {
  /** A duty: each day of the last week that no comparison was made of, once it has settled. */
  readonly task: BackgroundTask;
  metrics(): Promise<string>;
  describe(): Promise<Finding>;
}

const PERIOD_MS = 3_600_000;
/** Providers count some hours late. */
const SETTLING_MS = 4 * 3_600_000;
const DAY_MS = 86_400_000;
/** A report that could not be had is asked for again so long. */
const MADE_UP_DAYS = 7;

interface Comparison {
  outcome: "compared" | "unasked" | "failed";
  fault: string | null;
  rowCount: number;
}

type Row = {
  day: string;
  provider: string;
  model: string;
  our_input_tokens: string;
  our_output_tokens: string;
  their_input_tokens: string;
  their_output_tokens: string;
  is_matched: boolean;
  detail: string;
  compared_at: string;
};

export function createReconciler({
  db,
  sources,
  clock,
  log,
}: {
  db: Pick<Database, "sql">;
  /** Whoever counts beside us, as of now: engines come and go. */
  sources: () => Promise<readonly UsageCounts[]>;
  clock: Clock;
  log: Log;
}): Reconciler {
  /** Days of a provider on which neither of us counted anything: no row tells of them. */
  const quiet = new Set<string>();
  return {
    read,
    reconcile,
    task: { name: "reconcile_usage", periodMs: PERIOD_MS, activate },
    metrics,
    describe,
  };

  /** Of the newest day first; a source that fails is asked for no other until the next time. */
  async function activate(): Promise<{ compared: number; failed: number }> {
    const days = Array.from({ length: MADE_UP_DAYS }, (_, index) =>
      rfc3339(clock.now() - (index + 1) * DAY_MS - SETTLING_MS).slice(0, 10),
    );
    const known = await comparedSince(days.at(-1) ?? "");
    const failing = new Set<UsageCounts>();
    const asked = await sources();
    let compared = 0;
    for (const day of days) {
      for (const source of asked) {
        const key = `${day} ${source.provider}`;
        if (failing.has(source) || known.has(key) || quiet.has(key)) continue;
        const { outcome, rowCount } = await compare(source, day);
        if (outcome === "failed") failing.add(source);
        if (outcome === "compared" && rowCount === 0) quiet.add(key);
        compared += rowCount;
      }
    }
    return { compared, failed: failing.size };
  }

  /** Days and providers that were compared after they had settled: a person may ask earlier. */
  async function comparedSince(day: string): Promise<ReadonlySet<string>> {
    const found = await rows<{ key: string }>(
      db.sql,
      sql`select distinct to_char(day, 'YYYY-MM-DD') || ' ' || provider as key
        from reconciliation where day >= ${day}::date
          and compared_at >= (day::timestamp at time zone 'UTC')
            + ${`${DAY_MS + SETTLING_MS} milliseconds`}::interval`,
    );
    return new Set(found.map(({ key }) => key));
  }

  async function reconcile(day: string): Promise<ReconciliationReport> {
    const start = Date.parse(`${day}T00:00:00Z`);
    if (Number.isNaN(start) || start > clock.now()) {
      const detail = `day: ${day} is no day that has begun; write it as 2026-11-21, in UTC`;
      throw new Problem("invalid_request", detail);
    }
    const told: ReconciliationReport["sources"] = [];
    for (const source of await sources()) {
      const { fault } = await compare(source, day);
      told.push({ provider: source.provider, fault });
    }
    return { ...(await read(day)), sources: told };
  }

  /** One that fails keeps none of the others from being compared. */
  async function compare(source: UsageCounts, day: string): Promise<Comparison> {
    const { provider } = source;
    try {
      const theirs = await source.counts(day);
      const fault = await source.fault();
      if (theirs === null) return { outcome: "unasked", fault, rowCount: 0 };
      const compared = compareCounts(await settled(provider, day), theirs);
      await keep(day, provider, compared);
      return { outcome: "compared", fault, rowCount: compared.length };
    } catch (error) {
      const fault = error instanceof Problem ? error.message : "it could not be asked";
      log.warn({ err: error, provider, day }, "usage was not compared");
      return { outcome: "failed", fault, rowCount: 0 };
    }
  }

  async function settled(provider: string, day: string): Promise<SettledCount[]> {
    const found = await rows<{
      model: string;
      input: string;
      output: string;
      calls: number;
      estimated: number;
    }>(
      db.sql,
      // A project's own provider is of its name: "project/openai" is no provider of ours.
      sql`select model, sum(input_tokens + cache_read_tokens + cache_write_tokens)::text as input,
          sum(output_tokens)::text as output, count(*)::int as calls,
          (count(*) filter (where is_estimated))::int as estimated
        from call where provider = ${provider} and started_at >= ${`${day}T00:00:00Z`}
          and started_at < ${`${day}T00:00:00Z`}::timestamptz + interval '1 day'
        group by model order by model`,
    );
    return found.map(({ model, input, output, calls, estimated }) => ({
      model,
      inputTokens: Number(input),
      outputTokens: Number(output),
      callCount: calls,
      estimatedCount: estimated,
    }));
  }

  async function keep(day: string, provider: string, compared: readonly Compared[]): Promise<void> {
    const at = rfc3339(clock.now());
    for (const { model, ours, theirs, isMatched, detail } of compared) {
      await db.sql.execute(sql`
        insert into reconciliation (day, provider, model, our_input_tokens, our_output_tokens,
          their_input_tokens, their_output_tokens, is_matched, detail, compared_at)
        values (${day}::date, ${provider}, ${model.slice(0, 200)}, ${ours.inputTokens},
          ${ours.outputTokens}, ${theirs.inputTokens}, ${theirs.outputTokens}, ${isMatched},
          ${detail.slice(0, 1_000)}, ${at})
        on conflict (day, provider, model) do update
        set our_input_tokens = excluded.our_input_tokens,
          our_output_tokens = excluded.our_output_tokens,
          their_input_tokens = excluded.their_input_tokens,
          their_output_tokens = excluded.their_output_tokens,
          is_matched = excluded.is_matched, detail = excluded.detail,
          compared_at = excluded.compared_at`);
      if (!isMatched) log.error({ day, provider, model, detail }, "usage does not agree");
    }
  }

  async function read(day?: string): Promise<ReconciliationReport> {
    const since = rfc3339(clock.now() - 30 * DAY_MS).slice(0, 10);
    const which = day === undefined ? sql`day >= ${since}::date` : sql`day = ${day}::date`;
    const found = await rows<Row>(
      db.sql,
      sql`select to_char(day, 'YYYY-MM-DD') as day, provider, model, our_input_tokens,
          our_output_tokens, their_input_tokens, their_output_tokens, is_matched, detail,
          compared_at
        from reconciliation where ${which} order by reconciliation.day desc, provider, model`,
    );
    return { rows: found.map(toReconciliation), sources: [] };
  }

  async function countMismatches(): Promise<number> {
    const [found] = await rows<{ count: number }>(
      db.sql,
      sql`select count(*)::int as count from reconciliation
        where not is_matched and day >= ${rfc3339(clock.now() - 7 * DAY_MS).slice(0, 10)}::date`,
    );
    return found?.count ?? 0;
  }

  async function metrics(): Promise<string> {
    const name = "autocode_reconciliation_mismatches";
    return (
      `# HELP ${name} Models and days of the last week whose tokens do not agree with others' counts\n` +
      `# TYPE ${name} gauge\n${name} ${await countMismatches()}\n`
    );
  }

  async function describe(): Promise<Finding> {
    const part = "usage";
    const count = await countMismatches();
    if (count > 0) {
      const detail = `${count} models and days of the last week do not agree with others' counts`;
      return { part, status: "warn", detail, next_step: "autocode traffic reconcile" };
    }
    const asked: string[] = [];
    for (const source of await sources()) {
      asked.push(`${source.provider}: ${(await source.fault()) ?? "compared each day"}`);
    }
    const detail = asked.join("; ") || "no provider counts beside us";
    return { part, status: "ok", detail, next_step: null };
  }
}

function toReconciliation(row: Row): Reconciliation {
  return {
    ...row,
    our_input_tokens: Number(row.our_input_tokens),
    our_output_tokens: Number(row.our_output_tokens),
    their_input_tokens: Number(row.their_input_tokens),
    their_output_tokens: Number(row.their_output_tokens),
    compared_at: rfc3339(readTime(row.compared_at)),
  };
}

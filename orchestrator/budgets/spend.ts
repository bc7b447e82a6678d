/**
 * The spend of a project: its calls, the swaps of models that its trials caused, the reservations
 * that were charged in full because their calls never ended, and what was taken back.
 *
 * Invariant: the costs of all rows add up to what the project's budget has spent.
 */
import { type SQL, sql } from "drizzle-orm";
import type { Database } from "../db/database.ts";
import { readTime, rows } from "../db/rows.ts";
import { focusCsv, focusJson, type SpendRow } from "../ledger/focus.ts";
import { Problem } from "../problem.ts";
import type { ProjectRow } from "../projects/postgres.ts";
import type { Period } from "./budgets.ts";

type Line = {
  kind: SpendRow["kind"];
  id: string;
  trial_id: string;
  agent: string;
  pair: string;
  side: string;
  provider: string;
  model: string;
  price_version: string;
  cost_nanos: string;
  input_tokens: string;
  cache_read_tokens: string;
  cache_write_tokens: string;
  long_cache_write_tokens: string;
  output_tokens: string;
  reasoning_tokens: string;
  gpu_ms: string | null;
  is_estimated: boolean;
  note: string | null;
  started_at: string;
  ended_at: string;
};

/** @throws Problem `invalid_request` for a `since` or `until` that is no time. */
export async function exportSpend(
  db: Pick<Database, "sql">,
  project: ProjectRow,
  options: Period & { format: "csv" | "json" },
): Promise<string> {
  const since = readBound("since", options.since, "1970-01-01T00:00:00Z");
  const until = readBound("until", options.until, "9999-01-01T00:00:00Z");
  const found = await rows<Line>(
    db.sql,
    sql`select * from (
        ${callsOf(project)} union all ${swapsOf(project)}
        union all ${expiredOf(project)} union all ${correctionsOf(project)}
      ) as line
      where started_at >= ${since} and started_at < ${until}
      order by started_at, id`,
  );
  const spend = found.map((row) => toSpendRow(row, project));
  return options.format === "csv" ? focusCsv(spend) : focusJson(spend);
}

function callsOf({ id }: ProjectRow): SQL {
  return sql`
    select 'call' as kind, call.id, trial_id, agent, pair, side, provider, model, price_version,
      cost_nanos, input_tokens, cache_read_tokens, cache_write_tokens, long_cache_write_tokens,
      output_tokens, reasoning_tokens, gpu_ms, is_estimated, null as note,
      call.started_at, call.ended_at
    from call join trial on trial.id = call.trial_id
    where trial.project_id = ${id}`;
}

function swapsOf({ id }: ProjectRow): SQL {
  return sql`
    select 'swap', transfer_id, trial_id, trial.agent, model_swap.pair, side,
      'served/' || model_swap.pair || '/' || side, model, 'swap',
      charged_nanos, 0, 0, 0, 0, 0, 0, gpu_ms, false, uncharged_reason,
      model_swap.ended_at - duration_ms * interval '1 millisecond', model_swap.ended_at
    from model_swap join trial on trial.id = model_swap.trial_id
    where trial.project_id = ${id} and charged_nanos > 0`;
}

/** Unless the call ended after all: then its row has the cost, and its correction the rest. */
function expiredOf({ id }: ProjectRow): SQL {
  return sql`
    select 'expired', post.id, trial.id, agent, pair, 'unknown', 'unknown', 'unknown', 'unknown',
      post.amount_nanos, 0, 0, 0, 0, 0, 0, null::bigint, true, post.note,
      pending.created_at, post.created_at
    ${moneyOf(id, sql`post.debit_account_id`, sql`post.credit_account_id`)}
    join transfer as pending on pending.id = post.pending_id
    where post.kind = 'post' and post.reason = 'expired'
      and not exists (select from call where call.transfer_id = post.pending_id
        and call.trial_id = trial.id)
      and not exists (select from transfer as correction
        where correction.reverses_id = post.id and correction.reason = 'corrected')`;
}

/** What people took back; what a late settlement corrected is in its call's cost already. */
function correctionsOf({ id }: ProjectRow): SQL {
  return sql`
    select 'correction', post.id, trial.id, agent, pair, 'unknown', 'unknown', 'unknown',
      'unknown', -post.amount_nanos, 0, 0, 0, 0, 0, 0, null::bigint, false, post.note,
      post.created_at, post.created_at
    ${moneyOf(id, sql`post.credit_account_id`, sql`post.debit_account_id`)}
    where post.kind = 'direct' and post.reverses_id is not null and post.reason <> 'corrected'
      and not exists (select from transfer as correction
        where correction.reverses_id = post.reverses_id and correction.reason = 'corrected')`;
}

/** Transfers between the budgets of the project's trials and its spend account of money. */
function moneyOf(projectId: string, budget: SQL, spend: SQL): SQL {
  return sql`
    from account as spent
    join transfer as post on ${spend} = spent.id
    join account as budget on budget.id = ${budget}
    join trial on budget.owner = 'trial/' || trial.id
      and spent.kind = 'spend' and spent.owner = ${`project/${projectId}`}`;
}

function toSpendRow(row: Line, project: ProjectRow): SpendRow {
  return {
    kind: row.kind,
    id: row.id,
    trialId: row.trial_id,
    projectId: project.id,
    projectName: project.name,
    currency: project.currency,
    agent: row.agent,
    pair: row.pair,
    side: row.side,
    provider: row.provider,
    model: row.model,
    priceVersion: row.price_version,
    costNanos: BigInt(row.cost_nanos),
    inputTokens: Number(row.input_tokens),
    cacheReadTokens: Number(row.cache_read_tokens),
    cacheWriteTokens: Number(row.cache_write_tokens),
    longCacheWriteTokens: Number(row.long_cache_write_tokens),
    outputTokens: Number(row.output_tokens),
    reasoningTokens: Number(row.reasoning_tokens),
    gpuMs: row.gpu_ms === null ? null : Number(row.gpu_ms),
    isEstimated: row.is_estimated,
    note: row.note,
    startedAtMs: readTime(row.started_at),
    endedAtMs: readTime(row.ended_at),
  };
}

/** A day begins at midnight UTC. */
function readBound(field: string, text: string | undefined, fallback: string): string {
  const atMs = Date.parse(text ?? fallback);
  if (!Number.isNaN(atMs)) return new Date(atMs).toISOString();
  throw new Problem(
    "invalid_request",
    `${field}: "${text}" is no time; use 2026-11-21 or RFC 3339`,
  );
}

/** The spend of a project, a line a call. */
import { sql } from "drizzle-orm";
import type { Database } from "../db/database.ts";
import { readTime, rows } from "../db/rows.ts";
import { focusCsv, focusJson, type SpendRow } from "../ledger/focus.ts";
import { Problem } from "../problem.ts";
import type { ProjectRow } from "../projects/postgres.ts";

type CallSpend = {
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
  output_tokens: string;
  reasoning_tokens: string;
  is_estimated: boolean;
  started_at: string;
  ended_at: string;
};

/** @throws Problem `invalid_request` for a `since` or `until` that is no time. */
export async function exportSpend(
  db: Database,
  project: ProjectRow,
  options: { format: "csv" | "json"; since?: string; until?: string },
): Promise<string> {
  const since = readBound("since", options.since, "1970-01-01T00:00:00Z");
  const until = readBound("until", options.until, "9999-01-01T00:00:00Z");
  const found = await rows<CallSpend>(
    db.sql,
    sql`select call.id, call.trial_id, call.side, call.provider, call.model, call.price_version,
        call.cost_nanos, call.input_tokens, call.cache_read_tokens, call.cache_write_tokens,
        call.output_tokens, call.reasoning_tokens, call.is_estimated, call.started_at,
        call.ended_at, trial.agent, trial.pair
      from call join trial on trial.id = call.trial_id
      where trial.project_id = ${project.id}
        and call.started_at >= ${since} and call.started_at < ${until}
      order by call.started_at, call.id`,
  );
  const spend = found.map((row) => toSpendRow(row, project));
  return options.format === "csv" ? focusCsv(spend) : focusJson(spend);
}

function toSpendRow(row: CallSpend, project: ProjectRow): SpendRow {
  return {
    callId: row.id,
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
    outputTokens: Number(row.output_tokens),
    reasoningTokens: Number(row.reasoning_tokens),
    isEstimated: row.is_estimated,
    startedAtMs: readTime(row.started_at),
    endedAtMs: readTime(row.ended_at),
  };
}

function readBound(field: string, text: string | undefined, fallback: string): string {
  const atMs = Date.parse(text ?? fallback);
  if (!Number.isNaN(atMs)) return new Date(atMs).toISOString();
  throw new Problem(
    "invalid_request",
    `${field}: "${text}" is no time; use 2026-11-21 or RFC 3339`,
  );
}

/** What a person must know to answer whether a trial may cost more, as it was when it paused. */
import { type SQL, sql } from "drizzle-orm";
import type { ApprovalFacts } from "../contract/approvals.ts";
import type { Sql } from "../db/database.ts";
import { readNanos, rows } from "../db/rows.ts";
import { minorUnitNanos, type Nanos, TOKEN_UNIT } from "../money.ts";
import { type Forecast, forecastToFinish, suggestTopUp } from "./forecast.ts";
import { newestResume } from "./resume-point.ts";
import type { TrialRow } from "./rows.ts";
import { lastShortage } from "./shortage.ts";

/** Of how many finished trials at most; the newest say most of what models cost now. */
const FINISHED_MAX = 100;
/** Of each side. */
const SWAPS_MAX = 10;

/** Reads alone. Of a trial whose budget was never opened the amounts are 0. */
export async function gatherApprovalFacts(db: Sql, trial: TrialRow): Promise<ApprovalFacts> {
  const shortage = await lastShortage(db, trial.id);
  const [money] = await rows<{ currency: string; funded: string | null; spent: string | null }>(
    db,
    sql`select project.currency,
        account.credits_posted_nanos - account.reversed_nanos as funded,
        account.debits_posted_nanos - account.reversed_nanos as spent
      from project left join account on account.id = ${trial.account_id}
      where project.id = ${trial.project_id}`,
  );
  if (money === undefined) throw new Error("a trial without its project");
  const unit = shortage?.currency ?? money.currency;
  const evidence = await gatherEvidence(db, trial, {
    isOfTokens: unit === TOKEN_UNIT,
    currency: money.currency,
  });
  const forecast = forecastToFinish(evidence);
  const availableNanos = shortage?.availableNanos ?? 0n;
  const requiredNanos = shortage?.requiredNanos ?? 0n;
  const suggested = suggestTopUp(forecast, {
    spentNanos: evidence.callCostsNanos.reduce((sum, cost) => sum + cost, evidence.swapNanos),
    availableNanos,
    missingNanos: requiredNanos > availableNanos ? requiredNanos - availableNanos : 0n,
    stepNanos: unit === TOKEN_UNIT ? 1_000n : minorUnitNanos(unit),
  });
  const { agent_report: report } = trial;
  const kept = await newestResume(db, trial.id);
  return {
    currency: money.currency,
    limit_nanos: money.funded ?? "0",
    spent_nanos: money.spent ?? "0",
    shortage:
      shortage === null
        ? null
        : {
            level: shortage.level,
            account_id: shortage.account,
            unit,
            required_nanos: String(requiredNanos),
            available_nanos: String(availableNanos),
          },
    forecast: toFacts(forecast, evidence.nextSwapNanos),
    suggested_nanos: String(suggested),
    checkpoint: {
      files_changed: report?.diff.files_changed ?? 0,
      lines_added: report?.diff.lines_added ?? 0,
      lines_removed: report?.diff.lines_removed ?? 0,
      completed_phases: report?.completed_phases ?? [],
      has_session: kept?.session !== undefined,
    },
  };
}

/** In money, or in tokens where those are what is short. */
async function gatherEvidence(
  db: Sql,
  trial: TrialRow,
  { isOfTokens, currency }: { isOfTokens: boolean; currency: string },
) {
  const cost = isOfTokens
    ? sql`call.input_tokens + call.cache_read_tokens + call.cache_write_tokens
        + call.long_cache_write_tokens + call.output_tokens`
    : sql`call.cost_nanos`;
  const calls = await rows<{ cost: string }>(
    db,
    sql`select ${cost} as cost from call where trial_id = ${trial.id} order by started_at, id`,
  );
  const finished = await rows<{ total: string }>(
    db,
    sql`with like_it as (
        select id from trial
        where task_id = ${trial.task_id} and agent = ${trial.agent} and pair = ${trial.pair}
          and state in ('succeeded', 'failed') and id <> ${trial.id}
          and replay_of is null
        order by created_at desc limit ${FINISHED_MAX}
      )
      select sum(${cost})::bigint + ${isOfTokens ? sql`0` : swapsOf(sql`like_it.id`)} as total
      from like_it join call on call.trial_id = like_it.id
      group by like_it.id`,
  );
  // Swaps cost no tokens.
  const swaps = isOfTokens ? NO_SWAPS : await gatherSwaps(db, trial, currency);
  return {
    callCostsNanos: calls.map((call): Nanos => readNanos(call.cost)),
    finishedTotalsNanos: finished.map(({ total }): Nanos => readNanos(total)),
    ...swaps,
  };
}

const NO_SWAPS = { swapNanos: 0n, nextSwapNanos: 0n };

/** What a trial was charged for swaps. */
function swapsOf(trialId: SQL): SQL {
  return sql`(select coalesce(sum(charged_nanos), 0)::bigint from model_swap
    where model_swap.trial_id = ${trialId})`;
}

/** The next is, of each side that is not loaded, as its last ones were, in this currency. */
async function gatherSwaps(db: Sql, { id, pair }: TrialRow, currency: string) {
  const [found] = await rows<{ swapped: string; next: string }>(
    db,
    sql`select ${swapsOf(sql`${id}`)} as swapped, (
        select coalesce(ceil(sum(side.cost)), 0)::bigint
        from model_server cross join lateral (
          select avg(last.cost) as cost from (
            select charged_nanos + uncharged_nanos as cost
            from model_swap join trial on trial.id = model_swap.trial_id
              join project on project.id = trial.project_id
            where model_swap.pair = model_server.pair and model_swap.side = model_server.side
              and project.currency = ${currency}
              and charged_nanos + uncharged_nanos is not null
            order by model_swap.ended_at desc limit ${SWAPS_MAX}
          ) as last
        ) as side
        where model_server.pair = ${pair} and is_wanted and not is_awake
      ) as next`,
  );
  const { swapped = "0", next = "0" } = found ?? {};
  return { swapNanos: readNanos(swapped), nextSwapNanos: readNanos(next) };
}

function toFacts(forecast: Forecast, nextSwapNanos: Nanos): ApprovalFacts["forecast"] {
  if (forecast.outcome === "not_enough_evidence") return null;
  return {
    low_nanos: String(forecast.lowNanos),
    high_nanos: String(forecast.highNanos),
    ...(nextSwapNanos > 0n && { swap_nanos: String(nextSwapNanos) }),
    confidence_percent: forecast.confidencePercent,
    basis: forecast.basis,
    evidence_count: forecast.evidenceCount,
  };
}

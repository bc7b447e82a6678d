/** What a project's work cost and earned: by agent and model pair, by task, by phase. */
import { sql } from "drizzle-orm";
import type {
  CostGrouping,
  CostReport,
  CostRow,
  ProfitReport,
  ProfitRow,
} from "../contract/budgets.ts";
import type { Sql } from "../db/database.ts";
import { readNanos, rows } from "../db/rows.ts";
import { ceilDiv, type Nanos } from "../money.ts";
import type { ProjectId } from "../runtime/ids.ts";

interface ProjectName {
  id: ProjectId;
  name: string;
  currency: string;
}

/** What was spent of the account of a trial: reservations that expired are in it. */
const SPENT = sql`coalesce(account.debits_posted_nanos - account.reversed_nanos, 0)`;

/**
 * Income less cost, a row for each agent with each pair. Income that was recorded for a trial is
 * its agent's and pair's; that of the project as a whole is a row without either.
 */
export async function readProfit(db: Sql, project: ProjectName): Promise<ProfitReport> {
  const found = await rows<{
    agent: string;
    pair: string;
    trials: number;
    passed: number;
    cost: string;
    income: string;
  }>(
    db,
    sql`select agent, pair, count(*)::int as trials,
        (count(*) filter (where verdict = 'passed'))::int as passed,
        sum(${SPENT})::text as cost,
        sum(coalesce(earned.credits_posted_nanos - earned.reversed_nanos, 0))::text as income
      from trial
      left join account on account.id = trial.account_id
      left join account as earned on earned.kind = 'income' and earned.owner = 'trial/' || trial.id
      where project_id = ${project.id} and replay_of is null
      group by agent, pair order by agent, pair`,
  );
  const [whole] = await rows<{ income: string }>(
    db,
    sql`select credits_posted_nanos - reversed_nanos as income from account
      where kind = 'income' and owner = ${`project/${project.id}`}`,
  );
  const profitRows = found.map((row): ProfitRow => {
    const { agent, pair, trials, passed } = row;
    return { agent, pair, trials, passed, ...result(readNanos(row.income), readNanos(row.cost)) };
  });
  if (whole !== undefined) {
    const unattributed = result(readNanos(whole.income), 0n);
    profitRows.push({ agent: null, pair: null, trials: 0, passed: 0, ...unattributed });
  }
  const total = (pick: (row: ProfitRow) => string) =>
    profitRows.reduce((sum, row) => sum + BigInt(pick(row)), 0n);
  return {
    project: project.name,
    currency: project.currency,
    ...result(
      total(({ income_nanos }) => income_nanos),
      total(({ cost_nanos }) => cost_nanos),
    ),
    rows: profitRows,
  };
}

function result(incomeNanos: Nanos, costNanos: Nanos) {
  return {
    income_nanos: String(incomeNanos),
    cost_nanos: String(costNanos),
    result_nanos: String(incomeNanos - costNanos),
  };
}

/** Cost per success is all spending over the successes: failed trials are paid for too. */
export async function readCosts(
  db: Sql,
  project: ProjectName,
  by: CostGrouping,
): Promise<CostReport> {
  const [whole] = await readGroups(db, project.id, sql`''`);
  const groups =
    by === "phase" ? await readPhases(db, project.id) : await readGroups(db, project.id, KEYS[by]);
  const total = whole ?? { group: "", trials: 0, passed: 0, cost: "0", tokens: "0" };
  return {
    project: project.name,
    currency: project.currency,
    by,
    trials: total.trials,
    passed: total.passed,
    cost_nanos: total.cost,
    cost_per_success_nanos: perSuccess(total),
    rows: groups.map(
      (group): CostRow => ({
        group: group.group,
        trials: group.trials,
        passed: group.passed,
        tokens: group.tokens,
        cost_nanos: group.cost,
        cost_per_success_nanos: perSuccess(group),
      }),
    ),
  };
}

type Group = { group: string; trials: number; passed: number; cost: string; tokens: string };

const KEYS = {
  agent_pair: sql`trial.agent || ' / ' || trial.pair`,
  agent: sql`trial.agent`,
  pair: sql`trial.pair`,
  task: sql`task.name`,
} as const;

const TOKENS = sql`(input_tokens + cache_read_tokens + cache_write_tokens + output_tokens)`;

async function readGroups(
  db: Sql,
  projectId: ProjectId,
  key: ReturnType<typeof sql>,
): Promise<Group[]> {
  return rows<Group>(
    db,
    sql`select ${key} as "group", count(*)::int as trials,
        (count(*) filter (where verdict = 'passed'))::int as passed,
        sum(${SPENT})::text as cost, coalesce(sum(used.tokens), 0)::text as tokens
      from trial
      join task on task.id = trial.task_id
      left join account on account.id = trial.account_id
      left join lateral (
        select sum${TOKENS} as tokens from call where call.trial_id = trial.id
      ) as used on true
      where trial.project_id = ${projectId} and trial.replay_of is null
      group by 1 order by sum(${SPENT}) desc, 1`,
  );
}

/**
 * A call is of the phase that its trial's agent was in when it began; swaps of models are a group
 * of their own. What was spent without a call's row (a reservation that expired, less what was
 * corrected) is of no phase.
 */
async function readPhases(db: Sql, projectId: ProjectId): Promise<Group[]> {
  return rows<Group>(
    db,
    sql`with paid as (
        select trial.id as trial_id, trial.verdict,
          coalesce(started.phase, 'no phase') as phase, cost_nanos, ${TOKENS} as tokens
        from trial join call on call.trial_id = trial.id
        left join lateral (
          select data ->> 'phase' as phase from event
          where event.trial_id = trial.id and type = 'phase.started'
            and event.at <= call.started_at
          order by event.at desc, event.seq desc limit 1
        ) as started on true
        where trial.project_id = ${projectId}
        union all
        select trial.id, trial.verdict, 'model swap', charged_nanos, 0
        from trial join model_swap on model_swap.trial_id = trial.id
        where trial.project_id = ${projectId} and charged_nanos > 0
      ), rest as (
        select trial.id as trial_id, trial.verdict, 'no call' as phase,
          ${SPENT} - coalesce((
            select sum(cost_nanos) from paid where paid.trial_id = trial.id
          ), 0) as cost_nanos, 0 as tokens
        from trial join account on account.id = trial.account_id
        where trial.project_id = ${projectId}
      ), every as (
        select * from paid union all select * from rest where cost_nanos > 0
      )
      select phase as "group", count(distinct trial_id)::int as trials,
        (count(distinct trial_id) filter (where verdict = 'passed'))::int as passed,
        sum(cost_nanos)::text as cost, sum(tokens)::text as tokens
      from every group by phase order by sum(cost_nanos) desc, phase`,
  );
}

/** Rounded up; null when nothing passed. */
function perSuccess({ cost, passed }: Pick<Group, "cost" | "passed">): string | null {
  if (passed === 0) return null;
  return String(ceilDiv(readNanos(cost), BigInt(passed)));
}

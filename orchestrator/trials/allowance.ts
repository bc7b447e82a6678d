/**
 * What a trial may still use, as its agent is told: the least that its own budget and those around
 * it leave. A hint for the agent; what is forwarded is the gateway's decision alone.
 */
import { sql } from "drizzle-orm";
import type { Allowance } from "../contract/worker.ts";
import type { Database } from "../db/database.ts";
import { readTime, rows } from "../db/rows.ts";
import { type Clock, localDate, rfc3339 } from "../runtime/clock.ts";
import type { TrialRow } from "./rows.ts";

type Money = {
  currency: string;
  enrolled_at: string | null;
  limit: string | null;
  used: string | null;
  available: string | null;
  tokens_left: string | null;
};

/** Null before the trial has its budget and its allocation its worker. */
export async function readAllowance(
  { db, clock }: { db: Database; clock: Clock },
  trial: TrialRow,
): Promise<Allowance | null> {
  const nowMs = clock.now();
  const [project] = await rows<{ time_zone: string }>(
    db.sql,
    sql`select time_zone from project where id = ${trial.project_id}`,
  );
  const today = localDate(nowMs, project?.time_zone ?? "UTC");
  const owners = [
    `trial/${trial.id}`,
    `project/${trial.project_id}`,
    `day/${trial.project_id}/${today}`,
    `tokens/trial/${trial.id}`,
    `tokens/project/${trial.project_id}`,
    `tokens/day/${trial.project_id}/${today}`,
  ];
  const [money] = await rows<Money>(
    db.sql,
    sql`with budget as (
        select owner, currency, credits_posted_nanos - reversed_nanos as funded,
          debits_posted_nanos - reversed_nanos + debits_pending_nanos as used
        from account
        where kind = 'budget' and must_not_exceed and owner = any(${sql.param(owners)}::text[])
      )
      select project.currency,
        (select enrolled_at from allocation where id = ${trial.allocation_id}) as enrolled_at,
        (select funded from budget where owner = ${owners[0]}) as limit,
        (select used from budget where owner = ${owners[0]}) as used,
        (select min(funded - used) from budget where currency = project.currency) as available,
        (select min(funded - used) from budget where currency = 'TOK'
          and exists (select from budget where owner = ${owners[3]})) as tokens_left
      from project where id = ${trial.project_id}`,
  );
  if (money === undefined || money.limit === null || money.enrolled_at === null) return null;
  // What its agent was told when it was recorded; a replay's own budget is empty.
  const isReplay = trial.replay_of !== null;
  const limit = isReplay ? BigInt(trial.limit_nanos) : BigInt(money.limit);
  const used = BigInt(money.used ?? 0);
  return {
    currency: money.currency,
    limit_nanos: String(limit),
    available_nanos: String(isReplay ? limit : atLeastZero(money.available)),
    percent_used: isReplay ? 0 : limit === 0n ? 100 : Number((used * 100n) / limit),
    ...(money.tokens_left === null ? {} : { tokens_left: String(atLeastZero(money.tokens_left)) }),
    deadline_at: rfc3339(readTime(money.enrolled_at) + Number(trial.wall_ms)),
  };
}

function atLeastZero(text: string | null): bigint {
  const amount = BigInt(text ?? 0);
  return amount < 0n ? 0n : amount;
}

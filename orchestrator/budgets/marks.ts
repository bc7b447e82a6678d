/**
 * The marks that spending passes (`budget.alerts`): found from the balances, so that it does not
 * matter which process settled a call, or whether it still runs. Each is written once for an
 * account, a percent and an amount funded; a top-up makes a mark passable again only where it
 * brought the spending back below it.
 */
import { sql } from "drizzle-orm";
import { ALERT_PERCENTS } from "../contract/budgets.ts";
import type { Database } from "../db/database.ts";
import { rows } from "../db/rows.ts";
import { formatNanos } from "../money.ts";
import type { BackgroundTask } from "../runtime/background.ts";
import { type Clock, type EpochMs, rfc3339 } from "../runtime/clock.ts";
import type { Log } from "../runtime/log.ts";
import { scopeOf } from "./levels.ts";

export interface Mark {
  owner: string;
  project: string | null;
  currency: string;
  percent: number;
  funded_nanos: string;
  spent_nanos: string;
}

const PERIOD_MS = 2_000;
/** Transactions that settle take less than this: what they wrote is looked at until then. */
const SETTLING_MS = 5_000;
/** For the one that took longer after all. */
const WHOLE_LOOK_MS = 60_000;

/** The task that looks at what moved since its last look; now and then, at everything. */
export function createMarksTask(db: Pick<Database, "sql">, clock: Clock, log: Log): BackgroundTask {
  /** The highest transfer number at each look, oldest first. */
  let looks: { atMs: EpochMs; seq: bigint }[] = [];
  let wholeAtMs = Number.NEGATIVE_INFINITY;
  return { name: "mark_budgets", periodMs: PERIOD_MS, activate };

  async function activate(): Promise<{ passed: number }> {
    const now = clock.now();
    const [top] = await rows<{ seq: string }>(
      db.sql,
      sql`select coalesce(max(seq), 0)::text as seq from transfer`,
    );
    // Set back, a clock makes it look at everything again, which is safe.
    const isWhole = now < wholeAtMs || now >= wholeAtMs + WHOLE_LOOK_MS;
    if (isWhole) wholeAtMs = now;
    const from = isWhole ? null : (looks[0]?.seq ?? null);
    const passed = await writeMarks(db, from, now);
    looks.push({ atMs: now, seq: BigInt(top?.seq ?? 0) });
    const settled = looks.findLastIndex(({ atMs }) => atMs <= now - SETTLING_MS);
    looks = looks.slice(Math.max(0, settled));
    for (const { owner, project, currency, percent, ...nanos } of passed) {
      const spent = formatNanos(BigInt(nanos.spent_nanos), currency);
      const funded = formatNanos(BigInt(nanos.funded_nanos), currency);
      const facts = { scope: scopeOf(owner), owner, project, percent, spent, funded };
      log.warn(facts, "budget passed a mark");
    }
    return { passed: passed.length };
  }
}

/** @param afterSeq looks at accounts that a later transfer debited; null: at all. */
async function writeMarks(
  db: Pick<Database, "sql">,
  afterSeq: bigint | null,
  now: EpochMs,
): Promise<Mark[]> {
  const moved =
    afterSeq === null
      ? sql`true`
      : sql`account.id in (
          select unnest(within || debit_account_id) from transfer
          where seq > ${afterSeq} and kind = 'post')`;
  return rows<Mark & Record<string, unknown>>(
    db.sql,
    sql`
      with budget as (
        select id, owner, currency, credits_posted_nanos - reversed_nanos as funded,
          debits_posted_nanos - reversed_nanos as spent,
          split_part(regexp_replace(owner, '^tokens/', ''), '/', 1) as scope,
          split_part(regexp_replace(owner, '^tokens/', ''), '/', 2) as key
        from account
        where kind = 'budget' and debits_posted_nanos > reversed_nanos and ${moved}
      ), alerted as (
        select budget.*, project.name as project, percent::int as percent
        from budget
        left join trial on scope = 'trial' and trial.id = key
        left join project on project.id = coalesce(trial.project_id, key)
        cross join lateral jsonb_array_elements_text(
          coalesce(project.config #> '{budget,alerts}',
            ${JSON.stringify(ALERT_PERCENTS)}::jsonb)) as percent
        where funded > 0
          -- A day whose rest was carried on is over: what it has now is no limit any more.
          and not (scope = 'day' and exists (
            select from transfer where debit_account_id = budget.id and kind = 'direct'))
      ), passed as (
        select * from alerted
        where spent::numeric * 100 >= percent * funded::numeric
          and not exists (
            select from budget_event where kind = 'threshold' and account_id = alerted.id
              and budget_event.percent = alerted.percent and funded_nanos = funded)
          and (
            not exists (
              select from budget_event where kind = 'threshold' and account_id = alerted.id
                and budget_event.percent = alerted.percent)
            -- What had been spent when the budget was last funded: was it below the mark then?
            or percent * funded::numeric > 100 * (spent - (
              select coalesce(sum(amount_nanos), 0) from transfer
              where kind = 'post'
                and (debit_account_id = alerted.id or within @> array[alerted.id])
                and seq > (
                  select max(seq) from transfer where credit_account_id = alerted.id
                    and kind = 'direct' and reverses_id is null)
            ))
          )
      ), inserted as (
        insert into budget_event (account_id, kind, percent, funded_nanos, spent_nanos, at)
        select id, 'threshold', percent, funded, spent, ${rfc3339(now)} from passed
        order by id, percent
        on conflict do nothing
        returning account_id, percent
      )
      select owner, project, currency, percent, funded as funded_nanos, spent as spent_nanos
      from passed join inserted using (percent)
      where inserted.account_id = passed.id
      order by owner, percent`,
  );
}

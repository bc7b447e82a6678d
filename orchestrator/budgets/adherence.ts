/**
 * Whether budgets held: for each limited budget of a project, the most that was ever reserved and
 * spent of it at once, and the least that was left, recomputed from the transfers alone, in the
 * order in which they moved. The last signed checkpoint of the journal says which transfers these
 * were: with the journal's export, anyone can check it offline.
 */
import { sql } from "drizzle-orm";
import type { AdherenceReport, AdherenceRow } from "../contract/budgets.ts";
import type { Sql } from "../db/database.ts";
import { readTime, rows } from "../db/rows.ts";
import { rfc3339 } from "../runtime/clock.ts";
import type { AccountId, ProjectId } from "../runtime/ids.ts";
import type { Page } from "./budgets.ts";
import { scopeOf } from "./levels.ts";

type HistoryRow = {
  owner: string;
  currency: string;
  limit_nanos: string;
  peak_nanos: string;
  peak_at: string | null;
  least_nanos: string;
};

/** By owner, a page at a time; the verdict is of all of them. */
export async function readAdherence(
  db: Sql,
  project: { id: ProjectId; name: string },
  { limit, before }: Page,
): Promise<AdherenceReport> {
  const owned = await findBudgets(db, project.id);
  const all = await readHistories(db, owned);
  const start = before === undefined ? 0 : all.findIndex(({ owner }) => owner > before);
  const page = start === -1 ? [] : all.slice(start, start + limit);
  const isLast = start === -1 || start + limit >= all.length;
  return {
    project: project.name,
    is_within: all.every(isWithin),
    budget_count: all.length,
    rows: page.map((row): AdherenceRow => {
      const { owner, currency, limit_nanos, peak_nanos } = row;
      const peak_at = row.peak_at === null ? null : rfc3339(readTime(row.peak_at));
      const least_available_nanos = row.least_nanos;
      const measured = { limit_nanos, peak_nanos, peak_at, least_available_nanos };
      const is_within = isWithin(row);
      return { scope: scopeOf(owner), owner, currency, ...measured, is_within };
    }),
    next_cursor: isLast ? null : (page.at(-1)?.owner ?? null),
    journal: await readCheckpoint(db, owned),
  };
}

function isWithin({ least_nanos: leastNanos }: HistoryRow): boolean {
  return BigInt(leastNanos) >= 0n;
}

async function findBudgets(db: Sql, projectId: ProjectId): Promise<AccountId[]> {
  const prefixes = [`day/${projectId}/`, `tokens/day/${projectId}/`];
  const found = await rows<{ id: AccountId }>(
    db,
    sql`select id from account where kind = 'budget' and must_not_exceed and (
        owner in (${`project/${projectId}`}, ${`tokens/project/${projectId}`})
        or starts_with(owner, ${prefixes[0]}) or starts_with(owner, ${prefixes[1]})
      )
      union all
      select account.id from trial join account on account.kind = 'budget'
        and account.owner in ('trial/' || trial.id, 'tokens/trial/' || trial.id)
      where trial.project_id = ${projectId}`,
  );
  return found.map(({ id }) => id);
}

/**
 * Each transfer's effect on each budget it touches: `used` on reserved + spent, `funded` on the
 * limit. A reversal of spending lowers what is used, a reversal of funding the limit.
 */
async function readHistories(db: Sql, budgets: readonly AccountId[]): Promise<HistoryRow[]> {
  return rows<HistoryRow>(
    db,
    sql`
      with effect as (
        select unnest(transfer.within || transfer.debit_account_id) as account_id, transfer.seq,
          transfer.created_at, 0::numeric as funded,
          case transfer.kind
            when 'pending' then transfer.amount_nanos
            when 'void' then -pending.amount_nanos
            else transfer.amount_nanos - pending.amount_nanos
          end::numeric as used
        from transfer left join transfer as pending on pending.id = transfer.pending_id
        where transfer.kind <> 'direct' and transfer.debit_account_id = any(${sql.param(budgets)})
          or transfer.kind <> 'direct' and transfer.within && ${sql.param(budgets)}::text[]
        union all
        select unnest(within || credit_account_id), seq, created_at,
          case when reverses_id is null then amount_nanos else 0 end,
          case when reverses_id is null then 0 else -amount_nanos end
        from transfer
        where kind = 'direct' and (credit_account_id = any(${sql.param(budgets)})
          or within && ${sql.param(budgets)}::text[])
        union all
        select debit_account_id, seq, created_at, -amount_nanos, 0
        from transfer
        where kind = 'direct' and debit_account_id = any(${sql.param(budgets)})
      ), running as (
        select account_id, created_at, seq,
          sum(used) over each as used, sum(funded - used) over each as available
        from effect where account_id = any(${sql.param(budgets)})
        window each as (partition by account_id order by seq rows unbounded preceding)
      ), peak as (
        select distinct on (account_id) account_id, used, created_at
        from running order by account_id, used desc, seq
      ), least as (
        select account_id, min(available) as available from running group by account_id
      )
      select owner, currency,
        (credits_posted_nanos - reversed_nanos)::text as limit_nanos,
        coalesce(peak.used, 0)::text as peak_nanos,
        case when peak.used > 0 then peak.created_at end as peak_at,
        coalesce(least.available, 0)::text as least_nanos
      from account
      left join peak on peak.account_id = account.id
      left join least on least.account_id = account.id
      where account.id = any(${sql.param(budgets)})
      order by owner collate "C"`,
  );
}

async function readCheckpoint(
  db: Sql,
  budgets: readonly AccountId[],
): Promise<AdherenceReport["journal"]> {
  const [last] = await rows<{
    position: string;
    chain: Buffer;
    key_id: string;
    signed_at: string;
    covered: number;
    counted: number;
  }>(
    db,
    sql`select checkpoint.position, checkpoint.chain, checkpoint.key_id, checkpoint.signed_at,
        counted.covered, counted.counted
      from (select * from journal_checkpoint order by position desc limit 1) as checkpoint,
        lateral (
          select count(*)::int as counted,
            (count(*) filter (where entry.position <= checkpoint.position))::int as covered
          from transfer left join journal_entry as entry on entry.transfer_id = transfer.id
          where debit_account_id = any(${sql.param(budgets)})
            or credit_account_id = any(${sql.param(budgets)})
            or within && ${sql.param(budgets)}::text[]
        ) as counted`,
  );
  if (last === undefined) return null;
  return {
    position: Number(last.position),
    chain: last.chain.toString("hex"),
    key_id: last.key_id,
    signed_at: rfc3339(readTime(last.signed_at)),
    covered_transfers: last.covered,
    all_transfers: last.counted,
  };
}

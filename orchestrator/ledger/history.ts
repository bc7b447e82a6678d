/** What an account was at any time, from its transfers alone. */
import { type SQL, sql } from "drizzle-orm";
import type { Sql } from "../db/database.ts";
import { rows } from "../db/rows.ts";
import { type EpochMs, rfc3339 } from "../runtime/clock.ts";
import type { AccountId } from "../runtime/ids.ts";
import { readSums } from "./accounts.ts";
import { budgetBalance } from "./decide.ts";
import type { AccountBalance } from "./ledger.ts";

/**
 * The transfers that touch the account, each with its `side` of it: a debit of a budget is one of
 * those that enclose it too, and a reversal gives back to the same. Three branches, an index each.
 *
 * @param limit ends each branch's select: an order and a limit, or nothing.
 */
export function touching(accountId: AccountId, which: SQL, limit: SQL = sql``): SQL {
  const branch = (side: SQL, touches: SQL) => sql`
    (select *, ${side} as side from transfer where ${touches} and ${which} ${limit})`;
  return sql`
    ${branch(sql`'debit'`, sql`debit_account_id = ${accountId}`)}
    union all
    ${branch(sql`'credit'`, sql`credit_account_id = ${accountId}`)}
    union all
    ${branch(
      sql`case when reverses_id is null then 'debit' else 'credit' end`,
      sql`within @> array[${accountId}]::text[]`,
    )}`;
}

/** The balance of what was recorded up to `atMs`; null when there is no such account. */
export async function readBalanceAt(
  db: Sql,
  accountId: AccountId,
  atMs: EpochMs,
): Promise<AccountBalance | null> {
  const [row] = await rows<{ owner: string; currency: string } & Parameters<typeof readSums>[0]>(
    db,
    sql`
      with touching as (${touching(accountId, sql`created_at <= ${rfc3339(atMs)}`)}), summed as (
        select
          sum(touching.amount_nanos) filter (
            where side = 'credit' and touching.kind in ('direct', 'post')) as credits_posted,
          sum(touching.amount_nanos) filter (
            where side = 'debit' and touching.kind in ('direct', 'post')) as debits_posted,
          sum(touching.amount_nanos) filter (
            where side = 'debit' and touching.kind = 'pending') as debits_reserved,
          sum(pending.amount_nanos) filter (where side = 'debit') as debits_resolved,
          sum(touching.amount_nanos) filter (
            where touching.reverses_id is not null) as reversed
        from touching
        left join transfer as pending on pending.id = touching.pending_id
      )
      select owner, currency,
        coalesce(credits_posted, 0)::text as credits_posted,
        coalesce(debits_posted, 0)::text as debits_posted,
        (coalesce(debits_reserved, 0) - coalesce(debits_resolved, 0))::text as debits_pending,
        coalesce(reversed, 0)::text as reversed
      from account, summed where account.id = ${accountId}`,
  );
  if (row === undefined) return null;
  const { owner, currency } = row;
  return { accountId, owner, currency, ...budgetBalance(readSums(row)) };
}

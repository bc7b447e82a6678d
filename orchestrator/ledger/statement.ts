/** An account's history: the transfers that touch it, and what each left available. */
import { sql } from "drizzle-orm";
import type { Sql } from "../db/database.ts";
import { readNanos, readTime, rows } from "../db/rows.ts";
import type { AccountId, TransferId } from "../runtime/ids.ts";
import { touching } from "./history.ts";
import type { StatementLine } from "./ledger.ts";

/**
 * What a touching transfer did to what the account has available. A resolution gives back what was
 * reserved, and takes what it posts; what is only promised to an account is not available to it.
 */
const EFFECT = sql`
  case
    when found.side = 'credit' then
      case when found.kind in ('direct', 'post') then found.amount_nanos else 0 end
    when found.kind = 'void' then found.amount_nanos
    when found.kind = 'post' then pending.amount_nanos - found.amount_nanos
    else -found.amount_nanos
  end`;

/**
 * Newest first; `before` ends a page and begins the next. One statement, so that it adds up; in the
 * order of `seq`, whose index serves an account that most transfers touch, such as a project's.
 */
export async function readStatement(
  db: Sql,
  accountId: AccountId,
  { limit, before }: { limit: number; before?: TransferId },
): Promise<StatementLine[]> {
  const last = sql`(select seq from transfer where id = ${before ?? null})`;
  const older = before === undefined ? sql`true` : sql`seq < ${last}`;
  const newer = before === undefined ? sql`false` : sql`seq >= ${last}`;
  const order = sql`order by seq desc limit ${limit}`;
  const found = await rows<{
    id: TransferId;
    seq: string;
    kind: StatementLine["kind"];
    reason: string;
    note: string | null;
    reverses_id: TransferId | null;
    debit_owner: string;
    credit_owner: string;
    amount_nanos: string;
    available_nanos: string;
    created_at: string;
  }>(
    db,
    sql`
      with found as (
        select * from (${touching(accountId, older, order)}) as touching ${order}
      ), page as (
        select found.*, ${EFFECT} as effect
        from found left join transfer as pending on pending.id = found.pending_id
      ), newest as (
        select credits_posted_nanos - debits_posted_nanos - debits_pending_nanos - (
          select coalesce(sum(${EFFECT}), 0)
          from (${touching(accountId, newer)}) as found
          left join transfer as pending on pending.id = found.pending_id
        ) as available
        from account where id = ${accountId}
      )
      select page.id, page.seq, page.kind, page.reason, page.note, page.reverses_id,
        debit.owner as debit_owner, credit.owner as credit_owner, page.amount_nanos,
        page.created_at,
        (newest.available + page.effect - sum(page.effect) over (
          order by page.seq desc
          rows unbounded preceding
        ))::text as available_nanos
      from page, newest, account as debit, account as credit
      where debit.id = page.debit_account_id and credit.id = page.credit_account_id
      order by page.seq desc`,
  );
  return found.map((row) => ({
    transferId: row.id,
    seq: BigInt(row.seq),
    kind: row.kind,
    reason: row.reason,
    note: row.note,
    reversesId: row.reverses_id,
    debitOwner: row.debit_owner,
    creditOwner: row.credit_owner,
    amountNanos: readNanos(row.amount_nanos),
    availableNanos: readNanos(row.available_nanos),
    at: readTime(row.created_at),
  }));
}

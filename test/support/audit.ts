/** The invariants of the books, checked from the transfers alone. */
import assert from "node:assert/strict";
import { sql } from "drizzle-orm";
import type { Database } from "../../orchestrator/db/database.ts";
import { rows } from "../../orchestrator/db/rows.ts";

/**
 * Asserts what must hold of any ledger at any instant, from the transfers alone: each account's
 * balances are their sums (as debtor, creditor and enclosing budget), debits and credits are equal
 * per currency, no reservation is resolved twice or above itself, no limit is exceeded, and no
 * more is taken back of a transfer than it moved.
 */
export async function auditLedger(db: Pick<Database, "sql">): Promise<void> {
  const wrong = await rows(
    db.sql,
    sql`
      with entry as (
        select transfer.*, resolution.id as resolved_by
        from transfer
        left join transfer as resolution on resolution.pending_id = transfer.id
      ), posting as (
        -- A reversal gives back to every budget that had paid.
        select unnest(case when reverses_id is null then within else '{}' end || debit_account_id)
          as account_id, 'debit' as side, entry.*
        from entry
        union all
        select unnest(case when reverses_id is null then '{}' else within end || credit_account_id),
          'credit', entry.* from entry
      ), summed as (
        select account_id,
          sum(amount_nanos) filter (
            where side = 'debit' and kind = 'pending' and resolved_by is null) as debits_pending,
          sum(amount_nanos) filter (
            where side = 'debit' and kind in ('direct', 'post')) as debits_posted,
          sum(amount_nanos) filter (
            where side = 'credit' and kind = 'pending' and resolved_by is null) as credits_pending,
          sum(amount_nanos) filter (
            where side = 'credit' and kind in ('direct', 'post')) as credits_posted,
          sum(amount_nanos) filter (where reverses_id is not null) as reversed
        from posting group by account_id
      )
      select account.*, summed.* from account
      left join summed on summed.account_id = account.id
      where account.debits_pending_nanos <> coalesce(summed.debits_pending, 0)
        or account.debits_posted_nanos <> coalesce(summed.debits_posted, 0)
        or account.credits_pending_nanos <> coalesce(summed.credits_pending, 0)
        or account.credits_posted_nanos <> coalesce(summed.credits_posted, 0)
        or account.reversed_nanos <> coalesce(summed.reversed, 0)
        or (account.must_not_exceed and account.debits_pending_nanos
          + account.debits_posted_nanos > account.credits_posted_nanos)`,
  );
  assert.deepEqual(wrong, [], "accounts whose balances are not the sums of their transfers");

  const unlike = await rows(
    db.sql,
    sql`
      select resolution.id from transfer as resolution
      join transfer as pending on pending.id = resolution.pending_id
      where pending.kind <> 'pending' or resolution.amount_nanos > pending.amount_nanos
        or (resolution.kind = 'void' and resolution.amount_nanos <> pending.amount_nanos)
        or resolution.debit_account_id <> pending.debit_account_id
        or resolution.credit_account_id <> pending.credit_account_id
        or resolution.within <> pending.within
      union all
      select original.id from transfer as reversal
      join transfer as original on original.id = reversal.reverses_id
      group by original.id
      having sum(reversal.amount_nanos) > original.amount_nanos
        or original.kind not in ('direct', 'post') or original.reverses_id is not null
        or bool_or(reversal.debit_account_id <> original.credit_account_id
          or reversal.credit_account_id <> original.debit_account_id
          or reversal.within <> original.within)
        or count(*) filter (where reversal.reason = 'corrected') > 1
      union all
      select transfer.id from transfer
      join account as debit on debit.id = transfer.debit_account_id
      join account as credit on credit.id = transfer.credit_account_id
      left join account as enclosing on enclosing.id = any(transfer.within)
      where debit.currency <> credit.currency or enclosing.currency <> debit.currency`,
  );
  assert.deepEqual(unlike, [], "transfers that do not fit their reservation or accounts");
}

/**
 * Many requests in one transaction: lock the accounts, read, decide in order, write.
 *
 * Whoever changes an account's balances or resolves a reservation of it holds the account's lock,
 * taken in the order of ids: what is read under the locks stays true until the commit.
 */
import { sql } from "drizzle-orm";
import type { Sql } from "../db/database.ts";
import { readNanos, rows } from "../db/rows.ts";
import { type EpochMs, rfc3339 } from "../runtime/clock.ts";
import type { AccountId, TransferId } from "../runtime/ids.ts";
import {
  type AccountState,
  type Decision,
  decide,
  type Pending,
  type Request,
  type Result,
} from "./decide.ts";

/** The results of `requests`, in their order. All of them are written, or none. */
export async function flush(
  db: Sql,
  requests: readonly Request[],
  now: EpochMs,
): Promise<Result[]> {
  return db.transaction(async (tx) => {
    const ids = requests.map(({ id }) => id);
    const pendingIds = requests.flatMap((request) =>
      request.op === "reserve" ? [] : [request.pendingId],
    );
    const pendings = await readPendings(tx, pendingIds);
    const accountIds = new Set<AccountId>();
    for (const request of requests) {
      const named = request.op === "reserve" ? request : pendings.get(request.pendingId);
      if (named === undefined) continue;
      for (const id of [...named.within, named.budget, named.spend]) accountIds.add(id);
    }
    const accounts = await lockAccounts(tx, [...accountIds]);
    // After the locks, in a statement of its own: it must see what those it waited for wrote.
    const { transferIds, resolvedIds } = await readTransfers(tx, ids, pendingIds);
    const decision = decide({ accounts, pendings, transferIds, resolvedIds }, requests, now);
    if (decision.transfers.length > 0) await write(tx, decision, now);
    return decision.results;
  });
}

/** Reservations never change, so no lock is needed to read one. */
async function readPendings(
  tx: Sql,
  pendingIds: readonly TransferId[],
): Promise<Map<TransferId, Pending>> {
  if (pendingIds.length === 0) return new Map();
  const found = await rows<{
    id: TransferId;
    debit_account_id: AccountId;
    within: AccountId[];
    credit_account_id: AccountId;
    amount_nanos: string;
  }>(
    tx,
    sql`/* prepared: ledger.pendings */
      select id, debit_account_id, within, credit_account_id, amount_nanos
      from transfer where id = any(${sql.param(pendingIds)}) and kind = 'pending'`,
  );
  return new Map(
    found.map((row) => [
      row.id,
      {
        budget: row.debit_account_id,
        within: row.within,
        spend: row.credit_account_id,
        amountNanos: readNanos(row.amount_nanos),
      },
    ]),
  );
}

async function lockAccounts(
  tx: Sql,
  accountIds: readonly AccountId[],
): Promise<Map<AccountId, AccountState>> {
  const found = await rows<{
    id: AccountId;
    kind: string;
    currency: string;
    must_not_exceed: boolean;
    available_nanos: string;
  }>(
    tx,
    sql`/* prepared: ledger.lock */
      select id, kind, currency, must_not_exceed,
        credits_posted_nanos - debits_posted_nanos - debits_pending_nanos as available_nanos
      from account where id = any(${sql.param(accountIds)})
      order by id
      for no key update`,
  );
  return new Map(
    found.map((row) => [
      row.id,
      {
        kind: row.kind,
        currency: row.currency,
        mustNotExceed: row.must_not_exceed,
        availableNanos: readNanos(row.available_nanos),
      },
    ]),
  );
}

async function readTransfers(
  tx: Sql,
  ids: readonly TransferId[],
  pendingIds: readonly TransferId[],
): Promise<{ transferIds: Set<TransferId>; resolvedIds: Set<TransferId> }> {
  const found = await rows<{ id: TransferId; is_pending: boolean }>(
    tx,
    sql`/* prepared: ledger.transfers */
      select id, false as is_pending from transfer where id = any(${sql.param(ids)})
      union all
      select pending_id, true from transfer where pending_id = any(${sql.param(pendingIds)})`,
  );
  const of = (isPending: boolean) =>
    new Set(found.filter((row) => row.is_pending === isPending).map(({ id }) => id));
  return { transferIds: of(false), resolvedIds: of(true) };
}

async function write(tx: Sql, { changes, transfers }: Decision, now: EpochMs): Promise<void> {
  const changed = [...changes];
  // `within` travels as text, since unnest would flatten an array of arrays.
  await tx.execute(sql`/* prepared: ledger.write */
    with changed as (
      update account set
        debits_pending_nanos = debits_pending_nanos + change.debits_pending,
        debits_posted_nanos = debits_posted_nanos + change.debits_posted,
        credits_pending_nanos = credits_pending_nanos + change.credits_pending,
        credits_posted_nanos = credits_posted_nanos + change.credits_posted
      from unnest(
        ${sql.param(changed.map(([id]) => id))}::text[],
        ${sql.param(changed.map(([, change]) => String(change.debitsPendingNanos)))}::bigint[],
        ${sql.param(changed.map(([, change]) => String(change.debitsPostedNanos)))}::bigint[],
        ${sql.param(changed.map(([, change]) => String(change.creditsPendingNanos)))}::bigint[],
        ${sql.param(changed.map(([, change]) => String(change.creditsPostedNanos)))}::bigint[]
      ) as change (id, debits_pending, debits_posted, credits_pending, credits_posted)
      where account.id = change.id
    )
    insert into transfer
      (id, kind, debit_account_id, within, credit_account_id, amount_nanos, pending_id,
        expires_at, expires_to, reason, created_at)
    select id, kind, debit, string_to_array(within, ' '), credit, amount, pending_id,
      expires_at, case kind when 'pending' then 'post' end, reason, ${rfc3339(now)}::timestamptz
    from unnest(
      ${sql.param(transfers.map(({ id }) => id))}::text[],
      ${sql.param(transfers.map(({ kind }) => kind))}::text[],
      ${sql.param(transfers.map(({ budget }) => budget))}::text[],
      ${sql.param(transfers.map(({ within }) => within.join(" ")))}::text[],
      ${sql.param(transfers.map(({ spend }) => spend))}::text[],
      ${sql.param(transfers.map(({ amountNanos }) => String(amountNanos)))}::bigint[],
      ${sql.param(transfers.map(({ pendingId }) => pendingId))}::text[],
      ${sql.param(transfers.map(({ expiresAt }) => expiresAt))}::timestamptz[],
      ${sql.param(transfers.map(({ reason }) => reason))}::text[]
    ) as new (id, kind, debit, within, credit, amount, pending_id, expires_at, reason)`);
}

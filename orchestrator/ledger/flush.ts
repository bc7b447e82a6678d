/**
 * Many requests in one transaction: lock the accounts, read, decide in order, write.
 *
 * Whoever changes an account's balances or resolves a reservation of it holds the account's lock,
 * taken in the order of ids: what is read under the locks stays true until the commit. Rows that
 * are written alongside go in before the locks, so that nothing waits for them under a lock.
 */
import { sql } from "drizzle-orm";
import type { Sql } from "../db/database.ts";
import { isUnavailable, readNanos, rows, serverError } from "../db/rows.ts";
import { type EpochMs, rfc3339 } from "../runtime/clock.ts";
import type { AccountId, TransferId } from "../runtime/ids.ts";
import { readSums } from "./accounts.ts";
import {
  type AccountState,
  CORRECTED_REASON,
  type Decision,
  decide,
  EXPIRED_REASON,
  type KnownTransfer,
  type Request,
  type Resolved,
  type Result,
  type Reversed,
} from "./decide.ts";
import type { Alongside } from "./ledger.ts";

/** Requests of one caller, to be answered together. */
export interface Bundle {
  requests: readonly Request[];
  alongside?: Alongside<unknown>;
}

/** What a caller's own `write` threw, other than the server's word: it may be of one item alone. */
export class AlongsideError extends Error {}

/** The results of each bundle, in their order. All of them are written, or none. */
export async function flush(
  db: Sql,
  bundles: readonly Bundle[],
  now: EpochMs,
): Promise<Result[][]> {
  return db.transaction(async (tx) => {
    await writeAlongside(tx, bundles);
    const requests = bundles.flatMap((bundle) => bundle.requests);
    const pendingIds = requests.flatMap((request) =>
      request.op === "settle" || request.op === "release" ? [request.pendingId] : [],
    );
    const takenBack = requests.flatMap((request) =>
      request.op === "reverse" ? [request.transferId] : [],
    );
    const named = await readNamed(tx, [...pendingIds, ...takenBack]);
    const accountIds = new Set(requests.flatMap((request) => accountsOf(request, named)));
    const accounts = await lockAccounts(tx, [...accountIds]);
    // After the locks, in statements of their own: they must see what those it waited for wrote.
    const ids = requests.map(({ id }) => id);
    const { transferIds, resolved } = await readTransfers(tx, ids, pendingIds);
    const reversed = await readReversed(tx, [...takenBack, ...mayBeReversed(resolved)]);
    const state = { accounts, named, transferIds, resolved, reversed };
    const decision = decide(
      state,
      bundles.map((bundle) => bundle.requests),
      now,
    );
    if (decision.transfers.length > 0) await write(tx, decision, now);
    return decision.results;
  });
}

function accountsOf(
  request: Request,
  named: ReadonlyMap<TransferId, KnownTransfer>,
): readonly AccountId[] {
  switch (request.op) {
    case "reserve":
      return [...request.within, request.budget, request.spend];
    case "direct":
      return [request.from, request.to];
    case "reverse":
    case "settle":
    case "release": {
      const known = named.get(request.op === "reverse" ? request.transferId : request.pendingId);
      return known === undefined ? [] : [...known.within, known.debit, known.credit];
    }
  }
}

async function writeAlongside(tx: Sql, bundles: readonly Bundle[]): Promise<void> {
  const itemsOf = new Map<Alongside<unknown>["write"], unknown[]>();
  for (const { alongside } of bundles) {
    if (alongside === undefined) continue;
    const items = itemsOf.get(alongside.write) ?? [];
    itemsOf.set(alongside.write, items);
    items.push(alongside.item);
  }
  for (const [writeItems, items] of itemsOf) {
    try {
      await writeItems(tx, items);
    } catch (cause) {
      if (serverError(cause) !== null || isUnavailable(cause)) throw cause;
      throw new AlongsideError("rows alongside a transfer were not written", { cause });
    }
  }
}

/** Transfers never change, so no lock is needed to read one. */
async function readNamed(
  tx: Sql,
  ids: readonly TransferId[],
): Promise<Map<TransferId, KnownTransfer>> {
  if (ids.length === 0) return new Map();
  const found = await rows<{
    id: TransferId;
    kind: KnownTransfer["kind"];
    debit_account_id: AccountId;
    within: AccountId[];
    credit_account_id: AccountId;
    amount_nanos: string;
    reverses_id: TransferId | null;
  }>(
    tx,
    sql`/* prepared: ledger.named */
      select id, kind, debit_account_id, within, credit_account_id, amount_nanos, reverses_id
      from transfer where id = any(${sql.param(ids)})`,
  );
  return new Map(
    found.map((row) => [
      row.id,
      {
        kind: row.kind,
        debit: row.debit_account_id,
        within: row.within,
        credit: row.credit_account_id,
        reversesId: row.reverses_id,
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
    credits_posted: string;
    debits_posted: string;
    debits_pending: string;
    reversed: string;
  }>(
    tx,
    sql`/* prepared: ledger.lock */
      select id, kind, currency, must_not_exceed, credits_posted_nanos as credits_posted,
        debits_posted_nanos as debits_posted, debits_pending_nanos as debits_pending,
        reversed_nanos as reversed
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
        ...readSums(row),
      },
    ]),
  );
}

async function readTransfers(
  tx: Sql,
  ids: readonly TransferId[],
  pendingIds: readonly TransferId[],
): Promise<{ transferIds: Set<TransferId>; resolved: Map<TransferId, Resolved> }> {
  const found = await rows<{
    id: TransferId;
    kind: Resolved["kind"];
    reason: string;
    amount_nanos: string;
    pending_id: TransferId | null;
  }>(
    tx,
    sql`/* prepared: ledger.transfers */
      select id, kind, reason, amount_nanos, null as pending_id
      from transfer where id = any(${sql.param(ids)})
      union all
      select id, kind, reason, amount_nanos, pending_id
      from transfer where pending_id = any(${sql.param(pendingIds)})`,
  );
  const transferIds = new Set<TransferId>();
  const resolved = new Map<TransferId, Resolved>();
  for (const { id, kind, reason, amount_nanos, pending_id } of found) {
    if (pending_id === null) transferIds.add(id);
    else resolved.set(pending_id, { id, kind, reason, amountNanos: readNanos(amount_nanos) });
  }
  return { transferIds, resolved };
}

/** What expiry posted, and may have been corrected already. */
function mayBeReversed(resolved: ReadonlyMap<TransferId, Resolved>): TransferId[] {
  const posted = [...resolved.values()].filter(({ reason }) => reason === EXPIRED_REASON);
  return posted.map(({ id }) => id);
}

async function readReversed(
  tx: Sql,
  ids: readonly TransferId[],
): Promise<Map<TransferId, Reversed>> {
  if (ids.length === 0) return new Map();
  const found = await rows<{ id: TransferId; amount_nanos: string; is_corrected: boolean }>(
    tx,
    sql`
      select reverses_id as id, sum(amount_nanos)::text as amount_nanos,
        bool_or(reason = ${CORRECTED_REASON}) as is_corrected
      from transfer where reverses_id = any(${sql.param(ids)})
      group by reverses_id`,
  );
  return new Map(
    found.map((row) => [
      row.id,
      { amountNanos: readNanos(row.amount_nanos), isCorrected: row.is_corrected },
    ]),
  );
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
        credits_posted_nanos = credits_posted_nanos + change.credits_posted,
        reversed_nanos = reversed_nanos + change.reversed
      from unnest(
        ${sql.param(changed.map(([id]) => id))}::text[],
        ${sql.param(changed.map(([, change]) => String(change.debitsPendingNanos)))}::bigint[],
        ${sql.param(changed.map(([, change]) => String(change.debitsPostedNanos)))}::bigint[],
        ${sql.param(changed.map(([, change]) => String(change.creditsPendingNanos)))}::bigint[],
        ${sql.param(changed.map(([, change]) => String(change.creditsPostedNanos)))}::bigint[],
        ${sql.param(changed.map(([, change]) => String(change.reversedNanos)))}::bigint[]
      ) as change
        (id, debits_pending, debits_posted, credits_pending, credits_posted, reversed)
      where account.id = change.id
    )
    insert into transfer
      (id, kind, debit_account_id, within, credit_account_id, amount_nanos, pending_id,
        expires_at, expires_to, reverses_id, reason, note, created_at)
    select id, kind, debit, string_to_array(within, ' '), credit, amount, pending_id,
      expires_at, expires_to, reverses_id, reason, note, ${rfc3339(now)}::timestamptz
    from unnest(
      ${sql.param(transfers.map(({ id }) => id))}::text[],
      ${sql.param(transfers.map(({ kind }) => kind))}::text[],
      ${sql.param(transfers.map(({ debit }) => debit))}::text[],
      ${sql.param(transfers.map(({ within }) => within.join(" ")))}::text[],
      ${sql.param(transfers.map(({ credit }) => credit))}::text[],
      ${sql.param(transfers.map(({ amountNanos }) => String(amountNanos)))}::bigint[],
      ${sql.param(transfers.map(({ pendingId }) => pendingId))}::text[],
      ${sql.param(transfers.map(({ expiresAt }) => expiresAt))}::timestamptz[],
      ${sql.param(transfers.map(({ expiresTo }) => expiresTo))}::text[],
      ${sql.param(transfers.map(({ reversesId }) => reversesId))}::text[],
      ${sql.param(transfers.map(({ reason }) => reason))}::text[],
      ${sql.param(transfers.map(({ note }) => note))}::text[]
    ) as new
      (id, kind, debit, within, credit, amount, pending_id, expires_at, expires_to, reverses_id,
        reason, note)`);
}

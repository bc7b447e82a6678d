/**
 * Many requests in one transaction: lock the accounts, read, decide in order, write.
 *
 * Whoever changes an account's balances or resolves a reservation of it holds the account's lock,
 * taken in the order of ids: what is read under the locks stays true until the commit. Rows that
 * are written alongside go in before the locks, so that nothing waits for them under a lock.
 */
import { type SQL, sql } from "drizzle-orm";
import type { Sql, Statement } from "../db/database.ts";
import { isUniqueViolation, readNanos, rows } from "../db/rows.ts";
import { asSql } from "../db/statement.ts";
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
  type LedgerState,
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

/** What a caller's own `statement` threw: it may be of one item alone. */
export class AlongsideError extends Error {}

/** The results of each bundle, in their order. All of them are written, or none. */
export async function flush(
  db: Sql,
  bundles: readonly Bundle[],
  now: EpochMs,
): Promise<Result[][]> {
  const requests = bundles.flatMap((bundle) => bundle.requests);
  // What takes something back is rare, and must know all that was taken back before.
  if (requests.every(({ op }) => op !== "reverse")) {
    try {
      return await inTransaction(db, bundles, now, { isHopeful: true });
    } catch (error) {
      if (!isUniqueViolation(error)) throw error;
    }
  }
  return inTransaction(db, bundles, now, { isHopeful: false });
}

/**
 * `isHopeful`: takes ids and reservations for fresh, as nearly all are, and saves a look at the
 * transfers: a unique index refuses those that are not. An answer other than success is given only
 * after the look.
 */
async function inTransaction(
  db: Sql,
  bundles: readonly Bundle[],
  now: EpochMs,
  { isHopeful }: { isHopeful: boolean },
): Promise<Result[][]> {
  let writing: Promise<unknown> | null = null;
  try {
    const results = await db.transaction(async (tx) => {
      planForGrowth(tx);
      await writeAlongside(tx, bundles);
      const groups = bundles.map((bundle) => bundle.requests);
      const { accounts, named } = await lock(tx, groups.flat());
      let decision = isHopeful ? decide(fresh(accounts, named), groups, now) : null;
      if (decision === null || decision.results.flat().some(({ outcome }) => !HOPED.has(outcome))) {
        const known = await readTransfers(tx, groups.flat());
        decision = decide({ ...fresh(accounts, named), ...known }, groups, now);
      }
      if (decision.transfers.length > 0) {
        const statement = writeStatement(decision, now);
        // Not waited for: the commit follows at once, and commits nothing if it fails. Drizzle
        // sends at the first `then`, and again at each: so it is asked once, here.
        writing = new Promise((resolve, reject) => tx.execute(statement).then(resolve, reject));
        writing.catch(() => {});
      }
      return decision.results;
    });
    await writing;
    return results;
  } catch (error) {
    // Its own word comes before that of the commit after it.
    await writing;
    throw error;
  }
}

/**
 * A prepared plan outlives the table it was made for: one that reads a small table whole reads a
 * large one whole too, until the next analysis. Seen on a new installation: 200 ms for each flush
 * at 20,000 transfers. It travels with the next statement, which fails if this does.
 */
function planForGrowth(tx: Sql): void {
  tx.execute(sql`set local enable_seqscan = off`).then(
    () => undefined,
    () => undefined,
  );
}

const HOPED: ReadonlySet<string> = new Set(["reserved", "settled", "released", "moved"]);

/** The state with accounts of its own, which `decide` may change. */
function fresh(
  accounts: ReadonlyMap<AccountId, AccountState>,
  named: ReadonlyMap<TransferId, KnownTransfer>,
): LedgerState {
  return {
    accounts: new Map([...accounts].map(([id, account]) => [id, { ...account }])),
    named: new Map(named),
    transferIds: new Set(),
    resolved: new Map(),
    reversed: new Map(),
  };
}

async function writeAlongside(tx: Sql, bundles: readonly Bundle[]): Promise<void> {
  for (const statement of alongsideStatements(bundles)) await tx.execute(asSql(statement));
}

/** One for each kind of rows. @throws AlongsideError when one cannot be made of its items. */
export function alongsideStatements(bundles: readonly Bundle[]): Statement[] {
  const itemsOf = new Map<Alongside<unknown>["statement"], unknown[]>();
  for (const { alongside } of bundles) {
    if (alongside === undefined) continue;
    const items = itemsOf.get(alongside.statement);
    if (items === undefined) itemsOf.set(alongside.statement, [alongside.item]);
    else items.push(alongside.item);
  }
  return [...itemsOf].map(([statementOf, items]) => {
    try {
      return statementOf(items);
    } catch (cause) {
      throw new AlongsideError("rows alongside a transfer could not be written", { cause });
    }
  });
}

/**
 * Locks the accounts that the requests touch, and reads them and the transfers that are named. The
 * transfers need no lock: they never change.
 */
async function lock(
  tx: Sql,
  requests: readonly Request[],
): Promise<{
  accounts: Map<AccountId, AccountState>;
  named: Map<TransferId, KnownTransfer>;
}> {
  const namedIds = requests.flatMap(namedBy);
  const accountIds = new Set(
    requests.flatMap((request): AccountId[] => {
      if (request.op === "reserve") return [...request.within, request.budget, request.spend];
      return request.op === "direct" ? [request.from, request.to] : [];
    }),
  );
  const found = await rows<AccountRow | NamedRow>(
    tx,
    sql`/* prepared: ledger.lock */
      with named as materialized (
        select id, kind, debit_account_id, within, credit_account_id, amount_nanos, reverses_id
        from transfer where id = any(${sql.param(namedIds)}::text[])
      ), locked as materialized (
        select * from account
        where id = any(${sql.param([...accountIds])}::text[] || array(
          select unnest(within || array[debit_account_id, credit_account_id]) from named
        ))
        order by id
        for no key update
      )
      select 'account' as row, id, kind, currency, must_not_exceed,
        credits_posted_nanos as credits_posted, debits_posted_nanos as debits_posted,
        debits_pending_nanos as debits_pending, reversed_nanos as reversed,
        null as debit, null as within, null as credit, null as amount_nanos, null as reverses_id
      from locked
      union all
      select 'transfer', id, kind, null, null, null, null, null, null,
        debit_account_id, within, credit_account_id, amount_nanos, reverses_id
      from named`,
  );
  const accounts = new Map<AccountId, AccountState>();
  const named = new Map<TransferId, KnownTransfer>();
  for (const row of found) {
    if (row.row === "account") {
      const { kind, currency, must_not_exceed: mustNotExceed } = row;
      accounts.set(row.id, { kind, currency, mustNotExceed, ...readSums(row) });
      continue;
    }
    const { id, kind, debit, within, credit, reverses_id: reversesId } = row;
    const amountNanos = readNanos(row.amount_nanos);
    named.set(id, { kind, debit, within, credit, reversesId, amountNanos });
  }
  return { accounts, named };
}

type AccountRow = {
  row: "account";
  id: AccountId;
  kind: string;
  currency: string;
  must_not_exceed: boolean;
} & Parameters<typeof readSums>[0];

type NamedRow = {
  row: "transfer";
  id: TransferId;
  kind: KnownTransfer["kind"];
  debit: AccountId;
  within: AccountId[];
  credit: AccountId;
  amount_nanos: string;
  reverses_id: TransferId | null;
};

/** The transfer that the request is about, where it is about one. */
function namedBy(request: Request): TransferId[] {
  switch (request.op) {
    case "reserve":
    case "direct":
      return [];
    case "reverse":
      return [request.transferId];
    case "settle":
    case "release":
      return [request.pendingId];
  }
}

/** After the locks, in statements of their own: they must see what those it waited for wrote. */
async function readTransfers(
  tx: Sql,
  requests: readonly Request[],
): Promise<Pick<LedgerState, "transferIds" | "resolved" | "reversed">> {
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
      from transfer where id = any(${sql.param(requests.map(({ id }) => id))})
      union all
      select id, kind, reason, amount_nanos, pending_id
      from transfer where pending_id = any(${sql.param(requests.flatMap(namedBy))})`,
  );
  const transferIds = new Set<TransferId>();
  const resolved = new Map<TransferId, Resolved>();
  for (const { id, kind, reason, amount_nanos, pending_id } of found) {
    if (pending_id === null) transferIds.add(id);
    else resolved.set(pending_id, { id, kind, reason, amountNanos: readNanos(amount_nanos) });
  }
  // What may have been taken back: a transfer to reverse, and what expiry posted.
  const posted = [...resolved.values()].filter(({ reason }) => reason === EXPIRED_REASON);
  const reversals = requests.filter(({ op }) => op === "reverse").flatMap(namedBy);
  const reversed = await readReversed(tx, [...reversals, ...posted.map(({ id }) => id)]);
  return { transferIds, resolved, reversed };
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

function writeStatement({ changes, transfers }: Decision, now: EpochMs): SQL {
  const changed = [...changes];
  // `within` travels as text, since unnest would flatten an array of arrays.
  return sql`/* prepared: ledger.write */
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
        reason, note)`;
}

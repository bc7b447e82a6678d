/**
 * One request in one statement: the accounts are locked in the order of their ids, every level is
 * checked, and balances and transfer are written together, in one round trip.
 *
 * Two statements with one transfer id (or two resolutions of one reservation) may both find
 * nothing in their snapshots. The unique index then fails the later one, whose updates go with
 * it, and a second try sees what the first wrote.
 *
 * Balances are set from the rows as locked, never from the row being updated: PostgreSQL forms
 * that one from the statement's snapshot and checks its constraints before it finds that the row
 * has changed since, so that a limit would seem broken by a reservation released meanwhile.
 * The insert waits for the locks, never the other
 * way round: an uncommitted row must not wait for an account that its rival holds.
 */
import { type SQL, sql } from "drizzle-orm";
import type { Sql } from "../db/database.ts";
import { isUniqueViolation, readNanos, rows } from "../db/rows.ts";
import { NANOS_MAX } from "../money.ts";
import { type EpochMs, rfc3339 } from "../runtime/clock.ts";
import type { AccountId } from "../runtime/ids.ts";
import { readSums } from "./accounts.ts";
import {
  budgetBalance,
  CALL_REASON,
  EXPIRED_REASON,
  RELEASE_REASON,
  type Request,
  type ResolveRequest,
  type Result,
} from "./decide.ts";
import { flush } from "./flush.ts";
import type { Funding, FundResult, Reservation } from "./ledger.ts";

/** The paying budget's sums after the statement; null where nothing was inserted. */
type LeafRow = Parameters<typeof readSums>[0];

export async function runSingle(db: Sql, request: Request, now: EpochMs): Promise<Result> {
  switch (request.op) {
    case "reserve":
      return reserve(db, request, now);
    case "settle":
    case "release":
      return resolve(db, request, now);
    case "direct":
    case "reverse":
      return flushAlone(db, request, now);
  }
}

async function reserve(db: Sql, reservation: Reservation, now: EpochMs): Promise<Result> {
  const [row] = await twice<
    {
      are_found: boolean;
      is_repeated: boolean;
      is_inserted: boolean;
      short_id: AccountId | null;
      short_nanos: string | null;
      short_reserved: string | null;
    } & LeafRow
  >(db, reserveStatement(reservation, now));
  if (row === undefined) throw new Error("reserve: the statement returned no row");
  if (row.is_inserted) return { outcome: "reserved", balance: budgetBalance(readSums(row)) };
  if (row.is_repeated) return { outcome: "already_reserved" };
  if (!row.are_found || row.short_id === null) return { outcome: "account_not_found" };
  // A rival with the same id may have committed while this one waited for the locks: what it took
  // is in the rows as locked, but its transfer is not in the snapshot.
  const repeated = await rows(db, sql`select from transfer where id = ${reservation.id}`);
  if (repeated.length > 0) return { outcome: "already_reserved" };
  return {
    outcome: "insufficient_funds",
    budget: row.short_id,
    availableNanos: readNanos(row.short_nanos ?? "0"),
    reservedNanos: readNanos(row.short_reserved ?? "0"),
  };
}

/** Exported for the bench, whose peer runs the same. */
export function reserveStatement(reservation: Reservation, now: EpochMs): SQL {
  const { id, budget, within, spend, amountNanos, timeoutMs, expiresTo = "post" } = reservation;
  const budgets = [...within, budget];
  const accountIds = [...budgets, spend];
  return sql`/* prepared: ledger.reserve */
    with locked as materialized (
      select *,
        credits_posted_nanos - debits_posted_nanos - debits_pending_nanos as available_nanos
      from account where id = any(${sql.param(accountIds)})
      order by id
      for no key update
    ), decision as materialized (
      select
        (
          select count(*) = ${accountIds.length}::int and count(distinct currency) = 1
          from locked
          where kind = case when id = ${spend} then 'spend' else 'budget' end
        ) as are_found,
        exists (select from transfer where id = ${id}) as is_repeated,
        short.id as short_id,
        short.available_nanos as short_nanos,
        short.debits_pending_nanos as short_reserved
      from (values (1)) as one
      left join lateral (
        select id, available_nanos, debits_pending_nanos from locked
        where must_not_exceed and id <> ${spend} and available_nanos < ${amountNanos}::bigint
        -- The tightest budget is told, so that the caller knows the most it could have asked for.
        order by available_nanos, array_position(${sql.param(budgets)}::text[], id)
        limit 1
      ) as short on true
    ), inserted as (
      insert into transfer
        (id, kind, debit_account_id, within, credit_account_id, amount_nanos, expires_at,
          expires_to, reason, created_at)
      select ${id}, 'pending', ${budget}, ${sql.param(within)}::text[], ${spend},
        ${amountNanos}::bigint, ${rfc3339(now + timeoutMs)}::timestamptz, ${expiresTo},
        ${CALL_REASON}, ${rfc3339(now)}::timestamptz
      from decision where are_found and not is_repeated and short_id is null
      returning id
    ), changed as (
      update account set
        debits_pending_nanos = locked.debits_pending_nanos
          + case when locked.id = ${spend} then 0 else ${amountNanos}::bigint end,
        debits_posted_nanos = locked.debits_posted_nanos,
        credits_pending_nanos = locked.credits_pending_nanos
          + case when locked.id = ${spend} then ${amountNanos}::bigint else 0 end,
        credits_posted_nanos = locked.credits_posted_nanos
      from locked, inserted where account.id = locked.id
    )
    select decision.*, inserted.id is not null as is_inserted,
      leaf.credits_posted_nanos as credits_posted, leaf.debits_posted_nanos as debits_posted,
      leaf.debits_pending_nanos + ${amountNanos}::bigint as debits_pending,
      leaf.reversed_nanos as reversed
    from decision
    left join inserted on true
    left join locked as leaf on leaf.id = ${budget} and inserted.id is not null`;
}

async function resolve(db: Sql, resolution: ResolveRequest, now: EpochMs): Promise<Result> {
  const isSettle = resolution.op === "settle";
  const [row] = await twice<
    { amount_nanos: string; resolved_reason: string | null; is_inserted: boolean } & LeafRow
  >(db, resolveStatement(resolution, now));
  if (row === undefined) return { outcome: "reservation_not_found" };
  if (row.is_inserted) {
    return { outcome: isSettle ? "settled" : "released", balance: budgetBalance(readSums(row)) };
  }
  if (row.resolved_reason === EXPIRED_REASON && resolution.reason !== EXPIRED_REASON) {
    // To correct what expiry posted takes more than this statement, and is rare.
    return flushAlone(db, resolution, now);
  }
  if (row.resolved_reason !== null) return { outcome: "already_resolved" };
  return { outcome: "exceeds_reservation", reservedNanos: readNanos(row.amount_nanos) };
}

/** Exported for the bench, whose peer runs the same. */
export function resolveStatement(resolution: ResolveRequest, now: EpochMs): SQL {
  const { id, pendingId } = resolution;
  const isSettle = resolution.op === "settle";
  // A void names what it gives back; a post what it took.
  const amount: SQL = isSettle ? sql`${resolution.amountNanos}::bigint` : sql`amount_nanos`;
  const posted: SQL = isSettle ? amount : sql`0`;
  const reason = resolution.reason ?? (isSettle ? CALL_REASON : RELEASE_REASON);
  return sql`${sql.raw(isSettle ? "/* prepared: ledger.settle */" : "/* prepared: ledger.release */")}
    with pending as materialized (
      select debit_account_id, within, credit_account_id, amount_nanos,
        within || array[debit_account_id, credit_account_id] as account_ids
      from transfer where id = ${pendingId} and kind = 'pending'
    ), locked as materialized (
      select * from account
      where id = any((select account_ids from pending)::text[])
      order by id
      for no key update
    ), decision as materialized (
      select pending.*,
        (select count(*) from locked) as locked_count,
        (select reason from transfer where pending_id = ${pendingId}) as resolved_reason
      from pending
    ), inserted as (
      insert into transfer
        (id, kind, debit_account_id, within, credit_account_id, amount_nanos, pending_id,
          reason, created_at)
      select ${id}, ${isSettle ? "post" : "void"}, debit_account_id, within, credit_account_id,
        ${amount}, ${pendingId}, ${reason}, ${rfc3339(now)}::timestamptz
      from decision
      where locked_count > 0 and resolved_reason is null and ${amount} <= amount_nanos
      returning id
    ), changed as (
      update account set
        debits_pending_nanos = locked.debits_pending_nanos
          - case when locked.id = credit_account_id then 0 else amount_nanos end,
        debits_posted_nanos = locked.debits_posted_nanos
          + case when locked.id = credit_account_id then 0 else ${posted} end,
        credits_pending_nanos = locked.credits_pending_nanos
          - case when locked.id = credit_account_id then amount_nanos else 0 end,
        credits_posted_nanos = locked.credits_posted_nanos
          + case when locked.id = credit_account_id then ${posted} else 0 end
      from locked, decision, inserted where account.id = locked.id
    )
    select amount_nanos, resolved_reason, inserted.id is not null as is_inserted,
      leaf.credits_posted_nanos as credits_posted,
      leaf.debits_posted_nanos + ${posted} as debits_posted,
      leaf.debits_pending_nanos - amount_nanos as debits_pending, leaf.reversed_nanos as reversed
    from decision
    left join inserted on true
    left join locked as leaf on leaf.id = debit_account_id and inserted.id is not null`;
}

/** For what is rare and takes more than a statement. */
async function flushAlone(db: Sql, request: Request, now: EpochMs): Promise<Result> {
  const [[result] = []] = await flush(db, [{ requests: [request] }], now);
  if (result === undefined) throw new Error("flush: a request without an answer");
  return result;
}

export async function fundSingle(
  db: Sql,
  funding: Funding,
  now: EpochMs,
): Promise<FundResult | { outcome: "out_of_range" }> {
  const { id, from, to, amountNanos, reason, note = null } = funding;
  const [row] = await twice<{
    are_found: boolean;
    is_repeated: boolean;
    is_in_range: boolean;
  }>(
    db,
    sql`
      with locked as materialized (
        select * from account where id in (${from}, ${to})
        order by id
        for no key update
      ), decision as materialized (
        select
          (
            select count(*) = 2 and count(distinct currency) = 1 from locked
            where kind = case when id = ${from} then 'funding' else 'budget' end
          ) as are_found,
          exists (select from transfer where id = ${id}) as is_repeated,
          (
            select coalesce(bool_and(
              ${amountNanos}::bigint <= ${NANOS_MAX}::bigint
                - case when id = ${from} then debits_posted_nanos else credits_posted_nanos end
            ), true) from locked
          ) as is_in_range
      ), inserted as (
        insert into transfer
          (id, kind, debit_account_id, credit_account_id, amount_nanos, reason, note, created_at)
        select ${id}, 'direct', ${from}, ${to}, ${amountNanos}::bigint, ${reason}, ${note},
          ${rfc3339(now)}::timestamptz
        from decision where are_found and not is_repeated and is_in_range
        returning id
      ), changed as (
        update account set
          debits_pending_nanos = locked.debits_pending_nanos,
          debits_posted_nanos = locked.debits_posted_nanos
            + case when locked.id = ${from} then ${amountNanos}::bigint else 0 end,
          credits_pending_nanos = locked.credits_pending_nanos,
          credits_posted_nanos = locked.credits_posted_nanos
            + case when locked.id = ${to} then ${amountNanos}::bigint else 0 end
        from locked, inserted where account.id = locked.id
      )
      select are_found, is_repeated, is_in_range from decision`,
  );
  if (row?.is_repeated) return { outcome: "already_funded" };
  if (row?.are_found && !row.is_in_range) return { outcome: "out_of_range" };
  return row?.are_found ? { outcome: "funded" } : { outcome: "account_not_found" };
}

async function twice<Row extends Record<string, unknown>>(db: Sql, statement: SQL): Promise<Row[]> {
  try {
    return await rows<Row>(db, statement);
  } catch (error) {
    if (!isUniqueViolation(error)) throw error;
    return await rows<Row>(db, statement);
  }
}

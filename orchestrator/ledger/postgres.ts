/**
 * The ledger over PostgreSQL, the only place where money is: nothing of it is kept in memory.
 *
 * Reserve, settle and release go through one group commit: alone, a request is one statement
 * (`single.ts`); with others, one transaction for all of them (`flush.ts`). Any number of ledgers,
 * in any number of processes, may work on one database.
 */
import { sql } from "drizzle-orm";
import type { Database, Sql } from "../db/database.ts";
import { readNanos, rows, serverError } from "../db/rows.ts";
import { NANOS_MAX, type Nanos } from "../money.ts";

import { type Clock, type EpochMs, rfc3339 } from "../runtime/clock.ts";
import { type AccountId, derivedId, type TransferId } from "../runtime/ids.ts";
import { findAccountOf, openAccount, readBalance } from "./accounts.ts";
import { CALL_REASON, type Request, type Resolution, type Result } from "./decide.ts";
import { flush } from "./flush.ts";
import { createGroupCommit } from "./group-commit.ts";
import type {
  AccountBalance,
  AccountKind,
  Funding,
  FundResult,
  Ledger,
  NewAccount,
  Release,
  ReleaseResult,
  Reservation,
  ReserveResult,
  Settlement,
  SettleResult,
  StatementLine,
} from "./ledger.ts";
import { fundSingle, runSingle } from "./single.ts";
import { readStatement } from "./statement.ts";

/**
 * How far another process's clock may be behind ours: a reservation made now expires no earlier
 * than this long ago.
 */
const CLOCK_SKEW_MS = 3_600_000;
const PATH_LENGTH_MAX = 16;

export interface LedgerOptions {
  /** Most requests in one transaction; 1: each in a statement of its own. */
  batchMax?: number;
}

/**
 * A ledger on `db`, or inside a transaction as `{ sql: tx }`: there a refusal is an outcome as
 * ever, but a failed statement ends the transaction.
 */
export function createLedger(
  db: Pick<Database, "sql">,
  clock: Clock,
  { batchMax = 500 }: LedgerOptions = {},
): Ledger {
  const submit = createGroupCommit<Request, Result>({
    one: (request) => runSingle(db.sql, request, clock.now()),
    many: (requests) => flush(db.sql, requests, clock.now()),
    isItemFault,
    itemsMax: batchMax,
  });
  /** Every reservation that expired before it is resolved. */
  let expiredUntil: EpochMs | null = null;
  return { open, fund, reserve, settle, release, expire, abandon, balance, findAccount, statement };

  function open(account: NewAccount): Promise<AccountId> {
    return openAccount(db.sql, account, clock.now());
  }

  async function fund(funding: Funding): Promise<FundResult> {
    checkAmount("fund", funding.amountNanos);
    return fundSingle(db.sql, funding, clock.now());
  }

  async function reserve(reservation: Reservation): Promise<ReserveResult> {
    const { amountNanos, budget, within, spend, timeoutMs } = reservation;
    checkAmount("reserve", amountNanos);
    const path = [...within, budget, spend];
    if (new Set(path).size !== path.length || path.length > PATH_LENGTH_MAX) {
      throw new RangeError("reserve: the accounts must differ, and be at most 16");
    }
    if (!(timeoutMs > 0)) throw new RangeError("reserve: timeoutMs must be positive");
    return (await submit({ op: "reserve", ...reservation })) as ReserveResult;
  }

  async function settle(settlement: Settlement): Promise<SettleResult> {
    checkAmount("settle", settlement.amountNanos);
    const result = await resolve({ op: "settle", reason: CALL_REASON, ...settlement });
    return result.outcome === "resolved" ? { outcome: "settled" } : result;
  }

  async function release(released: Release): Promise<ReleaseResult> {
    const result = await resolve({ op: "release", ...released });
    if (result.outcome === "resolved") return { outcome: "released" };
    if (result.outcome !== "exceeds_reservation") return result;
    throw new Error("release: gave back more than was reserved");
  }

  async function resolve(resolution: Resolution) {
    return (await submit(resolution)) as
      | { outcome: "resolved" }
      | Exclude<SettleResult, { outcome: "settled" }>;
  }

  async function expire(limit: number): Promise<number> {
    const now = clock.now();
    const found = await findExpired(db.sql, { from: expiredUntil, now, limit });
    const resolved = await postInFull(found);
    if (found.length < limit) expiredUntil = now - CLOCK_SKEW_MS;
    return resolved;
  }

  async function abandon(madeBefore: EpochMs): Promise<number> {
    return postInFull(await findLeftOver(db.sql, { madeBefore, now: clock.now() }));
  }

  /** The id comes from the reservation: two that do it at once do it once. */
  async function postInFull(
    found: readonly { id: TransferId; amountNanos: Nanos }[],
  ): Promise<number> {
    const results = await Promise.all(
      found.map(({ id: pendingId, amountNanos }) =>
        resolve({
          op: "settle",
          id: derivedId("transfer", "expire", pendingId),
          pendingId,
          amountNanos,
          reason: "expired",
        }),
      ),
    );
    return results.filter(({ outcome }) => outcome === "resolved").length;
  }

  function balance(accountId: AccountId): Promise<AccountBalance | null> {
    return readBalance(db.sql, accountId);
  }

  function findAccount(kind: AccountKind, owner: string): Promise<AccountId | null> {
    return findAccountOf(db.sql, kind, owner);
  }

  function statement(
    accountId: AccountId,
    options: { limit: number; before?: TransferId },
  ): Promise<StatementLine[]> {
    return readStatement(db.sql, accountId, options);
  }
}

async function findExpired(
  db: Sql,
  { from, now, limit }: { from: EpochMs | null; now: EpochMs; limit: number },
): Promise<{ id: TransferId; amountNanos: Nanos }[]> {
  const found = await rows<{ id: TransferId; amount_nanos: string }>(
    db,
    sql`
      select id, amount_nanos from transfer as pending
      where kind = 'pending' and expires_at <= ${rfc3339(now)}
        and expires_at >= ${rfc3339(from ?? 0)}
        and not exists (select from transfer where pending_id = pending.id)
      order by expires_at
      limit ${limit}`,
  );
  return found.map((row) => ({ id: row.id, amountNanos: readNanos(row.amount_nanos) }));
}

/** Those whose time is not over: of the others `expire` takes care. */
async function findLeftOver(
  db: Sql,
  { madeBefore, now }: { madeBefore: EpochMs; now: EpochMs },
): Promise<{ id: TransferId; amountNanos: Nanos }[]> {
  const found = await rows<{ id: TransferId; amount_nanos: string }>(
    db,
    sql`
      select id, amount_nanos from transfer as pending
      where kind = 'pending' and expires_at > ${rfc3339(now)}
        and created_at < ${rfc3339(madeBefore)}
        and not exists (select from transfer where pending_id = pending.id)`,
  );
  return found.map((row) => ({ id: row.id, amountNanos: readNanos(row.amount_nanos) }));
}

function checkAmount(what: string, amountNanos: Nanos): void {
  if (amountNanos < 0n || amountNanos > NANOS_MAX) {
    throw new RangeError(`${what}: an amount must be from 0 to ${NANOS_MAX}`);
  }
}

/**
 * What one bad request can do to those it is flushed with: break a constraint, a range, or an id.
 * The lost connection and the stopped server are nobody's fault, and nobody's alone.
 */
function isItemFault(error: unknown): boolean {
  // 22: a value out of range; 23: a constraint; 40: a deadlock, after which nothing was written.
  return /^(22|23|40)/.test(serverError(error)?.code ?? "");
}

/** Ledgers to test with, and the invariants that hold in each whatever happened to it. */
import assert from "node:assert/strict";
import { sql } from "drizzle-orm";
import type { Database } from "../../orchestrator/db/database.ts";
import { rows } from "../../orchestrator/db/rows.ts";
import type { AccountBalance, Ledger } from "../../orchestrator/ledger/ledger.ts";
import { createLedger, type LedgerOptions } from "../../orchestrator/ledger/postgres.ts";
import type { Clock, EpochMs } from "../../orchestrator/runtime/clock.ts";
import { type AccountId, createIds, type Ids } from "../../orchestrator/runtime/ids.ts";
import { seededRandom } from "../../orchestrator/runtime/random.ts";
import { openTestDatabase, type TestDatabase } from "./database.ts";

/** A clock that stands still until it is told the time. */
export interface TestClock extends Clock {
  ms: EpochMs;
}

export function createTestClock(startMs: EpochMs = Date.parse("2026-11-21T12:00:00Z")): TestClock {
  const clock = { ms: startMs, now: () => clock.ms };
  return clock;
}

export interface TestLedgerOptions extends LedgerOptions {
  seed?: number;
  database?: TestDatabase;
  /** Puts something between the ledger and its database. */
  over?: (database: Database) => Pick<Database, "sql">;
}

export interface TestLedger extends AsyncDisposable {
  database: TestDatabase;
  ledger: Ledger;
  clock: TestClock;
  ids: Ids;
  /** A funded budget inside `within`, with a spend account of its own. */
  openBudget(
    fundedNanos: bigint,
    within?: readonly AccountId[],
  ): Promise<{ budget: AccountId; spend: AccountId; within: readonly AccountId[] }>;
}

/** A ledger on a database of its own, or on `database`, which the caller disposes of. */
export async function openTestLedger(options: TestLedgerOptions = {}): Promise<TestLedger> {
  const { seed = 1, over = (database: Database) => database } = options;
  const owned = options.database === undefined ? await openTestDatabase() : null;
  const database = options.database ?? owned;
  assert.ok(database);
  const clock = createTestClock();
  const ids = createIds(clock, seededRandom(seed));
  const ledger = createLedger(over(database), clock, options);
  const plain = createLedger(database, clock);
  let opened = 0;
  return {
    database,
    ledger,
    clock,
    ids,
    openBudget,
    [Symbol.asyncDispose]: async () => owned?.[Symbol.asyncDispose](),
  };

  async function openBudget(fundedNanos: bigint, within: readonly AccountId[] = []) {
    const owner = `test/${++opened}`;
    const common = { currency: "CAD", owner };
    const [funding, budget, spend] = await Promise.all(
      (["funding", "budget", "spend"] as const).map((kind) =>
        plain.open({
          id: ids.next("account"),
          kind,
          mustNotExceed: kind === "budget",
          ...common,
        }),
      ),
    );
    assert.ok(funding !== undefined && budget !== undefined && spend !== undefined);
    const transfer = {
      id: ids.next("transfer"),
      from: funding,
      to: budget,
      amountNanos: fundedNanos,
      reason: "test",
    };
    assert.deepEqual(await plain.fund(transfer), { outcome: "funded" });
    return { budget, spend, within };
  }
}

/**
 * Asserts what must hold of any ledger at any instant, from the transfers alone: each account's
 * balances are their sums (as debtor, creditor and enclosing budget), debits and credits are equal
 * per currency, no reservation is resolved twice or above itself, no limit is exceeded.
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
        select unnest(within || debit_account_id) as account_id, 'debit' as side, entry.*
        from entry
        union all
        select credit_account_id, 'credit', entry.* from entry
      ), summed as (
        select account_id,
          sum(amount_nanos) filter (
            where side = 'debit' and kind = 'pending' and resolved_by is null) as debits_pending,
          sum(amount_nanos) filter (
            where side = 'debit' and kind in ('direct', 'post')) as debits_posted,
          sum(amount_nanos) filter (
            where side = 'credit' and kind = 'pending' and resolved_by is null) as credits_pending,
          sum(amount_nanos) filter (
            where side = 'credit' and kind in ('direct', 'post')) as credits_posted
        from posting group by account_id
      )
      select account.*, summed.* from account
      left join summed on summed.account_id = account.id
      where account.debits_pending_nanos <> coalesce(summed.debits_pending, 0)
        or account.debits_posted_nanos <> coalesce(summed.debits_posted, 0)
        or account.credits_pending_nanos <> coalesce(summed.credits_pending, 0)
        or account.credits_posted_nanos <> coalesce(summed.credits_posted, 0)
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
      select transfer.id from transfer
      join account as debit on debit.id = transfer.debit_account_id
      join account as credit on credit.id = transfer.credit_account_id
      left join account as enclosing on enclosing.id = any(transfer.within)
      where debit.currency <> credit.currency or enclosing.currency <> debit.currency`,
  );
  assert.deepEqual(unlike, [], "transfers that do not fit their reservation or accounts");
}

/** A balance without what only names its account. */
export function amounts(balance: AccountBalance | null) {
  assert.ok(balance !== null);
  const { fundedNanos, reservedNanos, spentNanos, availableNanos } = balance;
  return { fundedNanos, reservedNanos, spentNanos, availableNanos };
}

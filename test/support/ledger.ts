/** Ledgers to test with, and the invariants that hold in each whatever happened to it. */
import assert from "node:assert/strict";
import type { Database } from "../../orchestrator/db/database.ts";
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
    currency?: string,
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

  async function openBudget(
    fundedNanos: bigint,
    within: readonly AccountId[] = [],
    currency = "CAD",
  ) {
    const owner = `test/${++opened}`;
    const common = { currency, owner };
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

/** A balance without what only names its account. */
export function amounts(balance: AccountBalance | null) {
  assert.ok(balance !== null);
  const { fundedNanos, reservedNanos, spentNanos, availableNanos } = balance;
  return { fundedNanos, reservedNanos, spentNanos, availableNanos };
}

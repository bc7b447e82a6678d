/**
 * Goal (R19): our own PostgreSQL and a server as distributions have it, of another version, are one
 * ledger: the same requests get the same answers, and leave the same books and the same chain.
 *
 * Method: each seed draws a history of all that a ledger does (repeats, refusals, reversals, expiry
 * and conversions among it, some in one flush), which both databases get, under one clock and with
 * the same ids. Answers, balances, statements and rows are compared, and in the end the journals.
 * SEEDS=1000 for the long form (MINUTES=n cuts it short), SEED=n for one.
 */
import assert from "node:assert/strict";
import { test } from "node:test";
import { sql } from "drizzle-orm";
import type { Database } from "../../orchestrator/db/database.ts";
import { migrate } from "../../orchestrator/db/migrate.ts";
import { openPostgresDatabase } from "../../orchestrator/db/postgres.ts";
import { rows } from "../../orchestrator/db/rows.ts";
import { createJournal } from "../../orchestrator/ledger/journal.ts";
import { createLedgerExport } from "../../orchestrator/ledger/journal-export.ts";
import type { Ledger } from "../../orchestrator/ledger/ledger.ts";
import { createLedger } from "../../orchestrator/ledger/postgres.ts";
import { type AccountId, createIds, type TransferId } from "../../orchestrator/runtime/ids.ts";
import { createLog } from "../../orchestrator/runtime/log.ts";
import { type Random, seededRandom } from "../../orchestrator/runtime/random.ts";
import { auditLedger } from "../support/audit.ts";
import { openTestDatabase } from "../support/database.ts";
import { createTestClock, type TestClock } from "../support/ledger.ts";
import { startServerPostgres, whyNoServerPostgres } from "../support/server-postgres.ts";
import { signer } from "./ledger-run.ts";
import { inTime, seedsOf } from "./seeds.ts";

const skip = await whyNoServerPostgres();
const SEEDS = seedsOf(40);
const ROUNDS = 8;
const ROUND_MAX = 4;

/** One of the two, with a clock of its own that is set as the other's. */
interface Side {
  database: Database;
  ledger: Ledger;
  clock: TestClock;
}

type Request = (ledger: Ledger) => Promise<unknown>;

test(`two PostgreSQLs, one trace: ${SEEDS.length} seeded histories`, { skip }, async (t) => {
  await using own = await openTestDatabase();
  await using server = await startServerPostgres();
  const log = createLog("silent");
  await using other = await openPostgresDatabase({ url: server.url, log });
  await migrate(other);
  assert.notEqual(own.version.split(".")[0], other.version.split(".")[0]);
  const sides = [sideOf(own), sideOf(other)] as const;
  const outcomes = new Map<string, number>();
  for (const seed of inTime(SEEDS)) {
    const [mine, theirs] = await Promise.all(sides.map((side) => play(side, seed)));
    assert.deepEqual(theirs, mine, `SEED=${seed}`);
    for (const [, outcome = ""] of JSON.stringify(mine).matchAll(/"outcome":"(\w+)"/g)) {
      outcomes.set(outcome, (outcomes.get(outcome) ?? 0) + 1);
    }
  }
  const [mine, theirs] = await Promise.all(sides.map(chainOf));
  assert.deepEqual(theirs, mine);
  assert.ok((mine?.length ?? 0) > SEEDS.length);
  t.diagnostic(
    `PostgreSQL ${own.version} and ${other.version}: ${mine?.length} transfers, one chain`,
  );
  t.diagnostic(JSON.stringify(Object.fromEntries(outcomes)));
  if (SEEDS.length < 40) return;
  // Histories in which nothing was refused have compared little.
  for (const outcome of ["reserved", "insufficient_funds", "corrected", "reversed", "converted"]) {
    assert.ok((outcomes.get(outcome) ?? 0) > 0, `never: ${outcome}`);
  }
});

function sideOf(database: Database): Side {
  const clock = createTestClock();
  return { database, clock, ledger: createLedger(database, clock) };
}

/** What the history of `seed` says on this side, from the first answer to the last row. */
async function play({ database, ledger, clock }: Side, seed: number): Promise<unknown[]> {
  const random = seededRandom(seed);
  clock.ms = Date.parse("2026-11-21T12:00:00Z") + seed * 10_000_000;
  const ids = createIds(clock, random);
  const owner = `trace/${seed}`;
  const open = async (kind: "funding" | "budget" | "spend", name: string, currency = "CAD") =>
    ledger.open({
      id: ids.next("account"),
      kind,
      owner: `${owner}/${name}`,
      currency,
      mustNotExceed: kind === "budget",
    });
  const accounts = {
    funding: await open("funding", "all"),
    foreign: await open("funding", "usd", "USD"),
    outer: await open("budget", "outer"),
    budgets: [await open("budget", "one"), await open("budget", "two")],
    spend: await open("spend", "all"),
  };
  const world = {
    random,
    accounts,
    next: () => ids.next("transfer"),
    made: [] as TransferId[],
    asked: [] as Request[],
    waits: 0,
  };
  const trace: unknown[] = [];
  for (const to of [accounts.outer, ...accounts.budgets]) {
    trace.push(await fund(world, to, 150n)(ledger));
  }
  for (let round = 0; round < ROUNDS; round++) {
    clock.ms += 100 + random.below(800);
    if (random.below(3) === 0) {
      // One flush of the group commit, which answers them in their order.
      const many = Array.from({ length: 2 + random.below(ROUND_MAX) }, () => reserve(world));
      trace.push(await Promise.all(many.map((request) => request(ledger))));
    }
    for (let left = 1 + random.below(ROUND_MAX); left > 0; left--) {
      clock.ms += 1;
      trace.push(await draw(world)(ledger));
    }
    if (random.below(4) === 0) {
      clock.ms += 2_000;
      trace.push({ expired: await ledger.expire(100) });
    }
    for (const account of [accounts.outer, ...accounts.budgets, accounts.spend]) {
      trace.push(await ledger.balance(account));
    }
  }
  trace.push(await ledger.statement(accounts.outer, { limit: 100 }));
  trace.push(await ledger.balanceAt(accounts.outer, clock.ms - 1_500));
  trace.push(await writtenBy(database, accounts.outer, accounts.spend));
  return trace.map((each) => JSON.parse(JSON.stringify(each, bigintText)));
}

interface World {
  random: Random;
  accounts: {
    funding: AccountId;
    foreign: AccountId;
    outer: AccountId;
    budgets: AccountId[];
    spend: AccountId;
  };
  next(): TransferId;
  /** Transfers that were asked for, be they there or not. */
  made: TransferId[];
  /** What a client that lost an answer may ask again, as it was. */
  asked: Request[];
  /** How often a reservation was asked for. */
  waits: number;
}

function draw(world: World): Request {
  const { random, asked } = world;
  const again = random.below(8) === 0 ? asked[random.below(Math.max(1, asked.length))] : undefined;
  const request = again ?? drawNew(world);
  asked.push(request);
  return request;
}

function drawNew(world: World): Request {
  const { random, accounts, made } = world;
  const amountNanos = BigInt(1 + random.below(60));
  const budget = accounts.budgets[random.below(2)] ?? accounts.outer;
  const earlier = made[random.below(Math.max(1, made.length))];
  const what = random.below(12);
  if (what < 5 || earlier === undefined) return reserve(world);
  const id = world.next();
  made.push(id);
  if (what < 8) return (ledger) => ledger.settle({ id, pendingId: earlier, amountNanos });
  if (what < 9) return (ledger) => ledger.release({ id, pendingId: earlier });
  if (what < 10) return (ledger) => ledger.reverse({ id, transferId: earlier, note: "a mistake" });
  if (what < 11) return fund(world, budget, amountNanos);
  const rate = { from: "USD", to: "CAD", rateNanos: 1_370_000_001n, effectiveFrom: "2026-11-20" };
  const { foreign: from, outer: to } = accounts;
  return (ledger) => ledger.convert({ id, kind: "income", from, to, amountNanos, rate });
}

function reserve(world: World): Request {
  const { random, accounts, made, next } = world;
  const id = next();
  made.push(id);
  const budget = accounts.budgets[random.below(2)] ?? accounts.outer;
  const path = { budget, within: [accounts.outer], spend: accounts.spend };
  const amountNanos = BigInt(random.below(60));
  const expiresTo = random.below(3) === 0 ? ("void" as const) : ("post" as const);
  return (ledger) => {
    // Of two that expire at one moment either may be the first: no two do.
    world.waits += 1;
    const timeoutMs = 1_500 + world.waits;
    return ledger.reserve({ id, ...path, amountNanos, timeoutMs, expiresTo });
  };
}

function fund({ accounts, next }: World, to: AccountId, amountNanos: bigint): Request {
  const transfer = { id: next(), from: accounts.funding, to, amountNanos, reason: "top_up" };
  return (ledger) => ledger.fund(transfer);
}

/** Every row of the transfers of these accounts, in their order; their numbers may have gaps. */
async function writtenBy(database: Database, ...accounts: AccountId[]): Promise<unknown[]> {
  const found = await rows<{ row: Record<string, unknown> }>(
    database.sql,
    sql`select to_jsonb(transfer) - 'seq' as row from transfer
      where debit_account_id = any(${sql.param(accounts)}::text[])
        or credit_account_id = any(${sql.param(accounts)}::text[])
        or within && ${sql.param(accounts)}::text[]
      order by seq`,
  );
  return found.map(({ row }) => row);
}

/** The journal's chain to its end, whose last hash stands for all that was ever written. */
async function chainOf({ database, clock }: Side): Promise<unknown[]> {
  await auditLedger(database);
  const journal = createJournal(database, clock, signer);
  const report = await createLedgerExport(database, clock, journal, signer).verify();
  assert.equal(report.fault, null);
  return rows(
    database.sql,
    sql`select position, transfer_id, encode(chain, 'hex') as chain
      from journal_entry order by position`,
  );
}

function bigintText(_key: string, value: unknown): unknown {
  return typeof value === "bigint" ? `${value}n` : value;
}

/**
 * Goal (R1): wherever a process dies or loses its connection, no budget is overspent at any level,
 * every forwarded call is charged once, nothing acknowledged is lost, no reservation outlives its
 * time, and the journal's chain is whole.
 *
 * Method: one seed decides what is called, what it costs, in which process each step runs, when
 * the clock moves, and the fate of every operation on the database: the process dies before,
 * inside or after it, the request or its answer is lost, or it arrives when nobody reckons with it
 * any more. Ledger, statements and tables are the real ones; operations pass one at a time, in the
 * seed's order, so that a run repeats exactly. The balances are checked at every step, each call's
 * charge and the journal's chain in the end. Replay a failure with SEED=n; more with SEEDS=n, which
 * MINUTES=n cuts short.
 */
import assert from "node:assert/strict";
import { test } from "node:test";
import { setTimeout as pause } from "node:timers/promises";
import { sql } from "drizzle-orm";
import { createJournal } from "../../orchestrator/ledger/journal.ts";
import { createLedgerExport } from "../../orchestrator/ledger/journal-export.ts";
import { auditLedger } from "../support/audit.ts";
import { openTestDatabase, type TestDatabase } from "../support/database.ts";
import { createTestClock } from "../support/ledger.ts";
import { FATES, newFateTally } from "./faulty-database.ts";
import { runSeed, signer } from "./ledger-run.ts";
import { newOutcomeTally } from "./ledger-world.ts";
import { inTime, seedsOf } from "./seeds.ts";

const SEEDS = seedsOf(130);
/** How many runs of one seed must agree: REPEATS=20 to be surer. */
const REPEATS = Number(process.env["REPEATS"] ?? 3);
const CRASH_POINTS_MIN = 10_000;
/** To a database: a process that starts looks through all that was ever reserved. */
const SEEDS_EACH = 10;

const fates = newFateTally();
const outcomes = newOutcomeTally();

test(`ledger under ${SEEDS.length} seeds of crashes`, async (t) => {
  const left = inTime(SEEDS);
  let ran = 0;
  for (let next = left.next(); next.done !== true; ) {
    await using database = await openTestDatabase();
    for (let each = 0; each < SEEDS_EACH && next.done !== true; each++) {
      const seed = next.value;
      // One test for all: a test each would say no more than the seed in the failure does.
      await runSeed(database, seed, { fates, outcomes }).catch((error: unknown) => {
        throw new Error(`SEED=${seed}: ${(error as Error).message}`, { cause: error });
      });
      ran += 1;
      next = left.next();
    }
    await auditLedger(database);
    await checkJournal(database);
  }

  const crashPoints = FATES.reduce((sum, fate) => sum + fates[fate], 0);
  t.diagnostic(`${ran} seeds, ${crashPoints} crash points: ${JSON.stringify(fates)}`);
  t.diagnostic(JSON.stringify(outcomes));
  if (ran < 100) return;
  // A run in which nothing went wrong has tested nothing.
  assert.ok(crashPoints >= CRASH_POINTS_MIN, `only ${crashPoints} crash points`);
  for (const [what, count] of Object.entries(outcomes)) assert.ok(count > 0, `never: ${what}`);
});

test(`a run repeats exactly, ${REPEATS} times, whatever else its server does`, async () => {
  const [seed = 1] = SEEDS;
  await using _others = await openOthers();
  const runs = new Set<string>();
  for (let run = 0; run < REPEATS; run++) {
    await using database = await openTestDatabase();
    const tallies = { fates: newFateTally(), outcomes: newOutcomeTally() };
    await runSeed(database, seed, tallies);
    runs.add(JSON.stringify(tallies));
  }
  assert.equal(runs.size, 1, [...runs].join("\n"));
});

/** Transactions of a neighbour, as other test files have: the sealer sees the whole server. */
async function openOthers(): Promise<AsyncDisposable> {
  const database = await openTestDatabase();
  const ending = new AbortController();
  const running = (async () => {
    while (!ending.signal.aborted) {
      await database.sql.transaction(async (tx) => {
        await tx.execute(sql`select pg_current_xact_id(), pg_sleep(0.03)`);
      });
      await pause(60);
    }
  })();
  return {
    [Symbol.asyncDispose]: async () => {
      ending.abort();
      await running;
      await database[Symbol.asyncDispose]();
    },
  };
}

/** Sealed to the end, whoever died sealing it, and what it seals is what is there. */
async function checkJournal(database: TestDatabase): Promise<void> {
  const clock = createTestClock();
  const journal = createJournal(database, clock, signer);
  const report = await createLedgerExport(database, clock, journal, signer).verify();
  assert.deepEqual(report.fault, null);
  assert.ok(report.is_intact && report.sealed > 0);
  assert.equal(report.unsealed, 0);
}

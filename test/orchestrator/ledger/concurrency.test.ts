/**
 * Goal: however many callers, ledgers and connections work on a budget at once, exactly what it
 * covers is admitted, and what is done twice at once is done once.
 *
 * Method: ledgers on pools of their own (as other processes would have) are asked everything at
 * the same time; outcomes are counted, and the books are audited against the transfers.
 */
import assert from "node:assert/strict";
import { test } from "node:test";
import { sql } from "drizzle-orm";
import { openPostgresDatabase } from "../../../orchestrator/db/postgres.ts";
import { rows } from "../../../orchestrator/db/rows.ts";
import { createLedger } from "../../../orchestrator/ledger/postgres.ts";
import { createLog } from "../../../orchestrator/runtime/log.ts";
import { seededRandom } from "../../../orchestrator/runtime/random.ts";
import { auditLedger } from "../../support/audit.ts";
import { eventually } from "../../support/eventually.ts";
import { amounts, openTestLedger } from "../../support/ledger.ts";

const CALLERS = 256;
const ALL = Array.from({ length: CALLERS - 1 }, (_, index) => index + 1);
const COVERED = process.env["LEDGER_K"] === "all" ? ALL : [1, 2, 7, 64, 128, 200, 254, 255];
const ROUNDS = Number(process.env["LEDGER_ROUNDS"] ?? 1);

/** Two ledgers that commit in groups, two that do not, on three connections each. */
async function openLedgers(url: string, clock: { now(): number }) {
  const opened = await Promise.all(
    [1, 1, 500, 500].map(async (batchMax) => {
      const database = await openPostgresDatabase({
        url,
        log: createLog("error"),
        connectionsMax: 3,
      });
      return { database, ledger: createLedger(database, clock, { batchMax }) };
    }),
  );
  return {
    ledgerAt(index: number) {
      const found = opened[index % opened.length];
      assert.ok(found !== undefined);
      return found.ledger;
    },
    async [Symbol.asyncDispose]() {
      for (const { database } of opened) await database[Symbol.asyncDispose]();
    },
  };
}

/**
 * Goal (R3): of N requests at once against a budget for K of them, exactly K are admitted.
 *
 * Method: four ledgers, which are four gateways as far as money goes, share N callers. Once the
 * trial's own budget is the limit, once the one around it. In CI a few K; LEDGER_K=all takes every
 * K from 1 to N − 1, and LEDGER_ROUNDS repeats it.
 */
test(`R3: ${CALLERS} parallel requests against a budget for K: exactly K are admitted`, async () => {
  await using fixture = await openTestLedger();
  const { ids, clock, database } = fixture;
  await using ledgers = await openLedgers(database.url, clock);
  for (let round = 0; round < ROUNDS; round++) {
    for (const [index, covered] of COVERED.entries()) {
      const gateways = 1 + (index % 4);
      const limiting = (index + round) % 2 === 0 ? "budget" : "enclosing";
      const plenty = BigInt(CALLERS * 10);
      const exact = BigInt(covered * 10 + 9);
      const { budget: enclosing } = await fixture.openBudget(
        limiting === "budget" ? plenty : exact,
      );
      const { budget, spend } = await fixture.openBudget(limiting === "budget" ? exact : plenty);
      const outcomes = await Promise.all(
        Array.from({ length: CALLERS }, (_, caller) =>
          ledgers.ledgerAt(caller % gateways).reserve({
            id: ids.next("transfer"),
            budget,
            within: [enclosing],
            spend,
            amountNanos: 10n,
            timeoutMs: 1_000,
          }),
        ),
      );
      assert.deepEqual(count(outcomes), {
        reserved: covered,
        insufficient_funds: CALLERS - covered,
      });
      const held = amounts(await fixture.ledger.balance(enclosing));
      assert.equal(held.reservedNanos, BigInt(covered * 10));
    }
  }
  await auditLedger(database);
});

test("R15: one id sent a hundred times at once is reserved once and resolved once", async () => {
  await using fixture = await openTestLedger();
  const { ids, clock, database } = fixture;
  await using ledgers = await openLedgers(database.url, clock);
  const { budget, spend } = await fixture.openBudget(1_000n);
  for (let round = 0; round < 4; round++) {
    const id = ids.next("transfer");
    const reservation = { id, budget, within: [], spend, amountNanos: 20n, timeoutMs: 1_000 };
    const reserved = await hundred((index) => ledgers.ledgerAt(index).reserve(reservation));
    assert.deepEqual(count(reserved), { reserved: 1, already_reserved: 99 });

    const settlement = { id: ids.next("transfer"), pendingId: id, amountNanos: 5n };
    const resolved = await hundred(async (index) => {
      const ledger = ledgers.ledgerAt(index);
      if (index % 5 === 0) return ledger.release({ id: ids.next("transfer"), pendingId: id });
      return ledger.settle(settlement);
    });
    const { already_resolved, settled = 0, released = 0 } = count(resolved);
    assert.deepEqual(
      { already_resolved, won: settled + released },
      { already_resolved: 99, won: 1 },
    );
    const replayed = await hundred((index) => ledgers.ledgerAt(index).settle(settlement));
    assert.deepEqual(count(replayed), { already_resolved: 100 });
  }
  assert.equal((await fixture.ledger.balance(budget))?.reservedNanos, 0n);
  await auditLedger(database);
});

test("one id sent by everybody at once takes the last of a budget, and nobody is refused", async () => {
  await using fixture = await openTestLedger();
  const { ids, clock, database } = fixture;
  await using ledgers = await openLedgers(database.url, clock);
  for (let round = 0; round < 10; round++) {
    const { budget, spend } = await fixture.openBudget(20n);
    const id = ids.next("transfer");
    const reservation = { id, budget, within: [], spend, amountNanos: 20n, timeoutMs: 1_000 };
    // All of them wait for the account, and look for the id before any of them has it.
    const asked = await database.sql.transaction(async (tx) => {
      await tx.execute(sql`select from account where id = ${budget} for no key update`);
      const all = Array.from({ length: 4 }, (_, index) =>
        ledgers.ledgerAt(index).reserve(reservation),
      );
      await eventually(waiting, (count) => count === 4);
      return all;
    });
    assert.deepEqual(count(await Promise.all(asked)), { reserved: 1, already_reserved: 3 });
  }
  await auditLedger(database);

  async function waiting(): Promise<number> {
    const [row] = await rows<{ count: number }>(
      database.sql,
      sql`select count(*)::int from pg_stat_activity
        where datname = current_database() and wait_event_type = 'Lock'`,
    );
    return row?.count ?? 0;
  }
});

test("R15: what expiry posted is corrected once, by a hundred settlements at once", async () => {
  await using fixture = await openTestLedger();
  const { ids, clock, database } = fixture;
  await using ledgers = await openLedgers(database.url, clock);
  const { budget, spend } = await fixture.openBudget(1_000n);
  const pendingId = ids.next("transfer");
  const reservation = { id: pendingId, budget, within: [], spend, amountNanos: 20n, timeoutMs: 1 };
  await fixture.ledger.reserve(reservation);
  clock.ms += 1_000;
  // Expiry runs among them: a settlement that is earlier is no correction.
  const expiring = Promise.all([0, 1, 2, 3].map((index) => ledgers.ledgerAt(index).expire(10)));
  const settlement = { id: ids.next("transfer"), pendingId, amountNanos: 5n };
  const results = await hundred((index) => ledgers.ledgerAt(index).settle(settlement));
  const expired = (await expiring).reduce((sum, one) => sum + one, 0);
  const { settled = 0, corrected = 0, already_resolved } = count(results);
  assert.deepEqual([settled + corrected, already_resolved], [1, 99]);
  assert.equal(expired, corrected);
  assert.equal((await fixture.ledger.balance(budget))?.spentNanos, 5n);
  await auditLedger(database);
});

test("R15: one reversal and one funding sent a hundred times happen once", async () => {
  await using fixture = await openTestLedger();
  const { ids, clock, database } = fixture;
  await using ledgers = await openLedgers(database.url, clock);
  const { budget } = await fixture.openBudget(1_000n);
  const from = await fixture.ledger.findAccount("funding", "test/1");
  assert.ok(from !== null);
  const funding = { id: ids.next("transfer"), from, to: budget, amountNanos: 7n, reason: "topup" };
  const funded = await hundred((index) => ledgers.ledgerAt(index).fund(funding));
  assert.deepEqual(count(funded), { funded: 1, already_funded: 99 });
  const reversal = { id: ids.next("transfer"), transferId: funding.id, amountNanos: 3n, note: "x" };
  const reversed = await hundred((index) => ledgers.ledgerAt(index).reverse(reversal));
  assert.deepEqual(count(reversed), { reversed: 1, already_reversed: 99 });
  assert.equal((await fixture.ledger.balance(budget))?.fundedNanos, 1_004n);
  await auditLedger(database);
});

test("ledgers that share accounts in any order neither deadlock nor lose money", async () => {
  await using fixture = await openTestLedger();
  const { ids, clock, database } = fixture;
  await using ledgers = await openLedgers(database.url, clock);
  const random = seededRandom(7);
  const budgets = await Promise.all(Array.from({ length: 5 }, () => fixture.openBudget(400n)));
  const outcomes = await Promise.all(
    Array.from({ length: 200 }, async (_, index) => {
      const ledger = ledgers.ledgerAt(index);
      const [inner, outer] = [random.below(5), random.below(5)];
      const { budget, spend } = budgets[inner] ?? (await fixture.openBudget(0n));
      const around = budgets[outer]?.budget;
      const within = around === undefined || outer === inner ? [] : [around];
      const id = ids.next("transfer");
      const amountNanos = BigInt(random.below(40));
      const result = await ledger.reserve({ id, budget, within, spend, amountNanos, timeoutMs: 1 });
      if (result.outcome !== "reserved") return result;
      const resolution = { id: ids.next("transfer"), pendingId: id };
      if (random.below(3) === 0) return ledger.release(resolution);
      return ledger.settle({ ...resolution, amountNanos: amountNanos / 2n });
    }),
  );
  const { settled = 0, released = 0, insufficient_funds = 0 } = count(outcomes);
  assert.equal(settled + released + insufficient_funds, 200);
  assert.ok(settled > 0 && released > 0 && insufficient_funds > 0);
  await auditLedger(database);
});

function hundred(send: (index: number) => Promise<{ outcome: string }>) {
  return Promise.all(Array.from({ length: 100 }, (_, index) => send(index)));
}

function count(results: readonly { outcome: string }[]): Record<string, number> {
  const counts: Record<string, number> = {};
  for (const { outcome } of results) counts[outcome] = (counts[outcome] ?? 0) + 1;
  return counts;
}

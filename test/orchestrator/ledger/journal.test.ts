/**
 * Goal: the chain holds every committed transfer once, in an order in which the books hold at every
 * step, whoever writes at the same time and whatever dies; and no number is passed over that a
 * running transaction may still fill.
 *
 * Method: transactions are held open by hand where it matters; writers, sealers and crashes run at
 * once where it does not. What comes out is checked by the export's own check.
 */
import assert from "node:assert/strict";
import { test } from "node:test";
import { sql } from "drizzle-orm";
import type { Sql } from "../../../orchestrator/db/database.ts";
import { rows } from "../../../orchestrator/db/rows.ts";
import { createJournal } from "../../../orchestrator/ledger/journal.ts";
import { createLedgerExport } from "../../../orchestrator/ledger/journal-export.ts";
import { createLedger } from "../../../orchestrator/ledger/postgres.ts";
import { Problem } from "../../../orchestrator/problem.ts";
import { createIds } from "../../../orchestrator/runtime/ids.ts";
import { seededRandom } from "../../../orchestrator/runtime/random.ts";
import { eventually } from "../../support/eventually.ts";
import {
  createTestSigner,
  makeHistory,
  openTestJournal,
  recordsOf,
  verifyText,
} from "../../support/journal.ts";
import { openTestLedger, type TestLedger } from "../../support/ledger.ts";

test("what was committed is sealed in two activations, once, and signed when it is due", async () => {
  await using world = await openTestLedger();
  const { journal } = openTestJournal(world, { checkpointMs: 60_000, checkpointTransfers: 5 });
  assert.deepEqual(await journal.activate(), { sealed: 0, checkpoint: null });
  const { budget, spend, within } = await world.openBudget(1_000n);
  await sealAll(journal);
  assert.equal((await journal.status()).checkpoints, 1, "the first thing is signed at once");

  await reserveSome(world, { budget, spend, within }, 3);
  await sealAll(journal);
  assert.deepEqual(await counts(world), { entries: 4, checkpoints: 1 });
  await reserveSome(world, { budget, spend, within }, 2);
  await sealAll(journal);
  assert.deepEqual(await counts(world), { entries: 6, checkpoints: 2 }, "five are reason enough");
  await reserveSome(world, { budget, spend, within }, 1);
  await sealAll(journal);
  assert.deepEqual(await counts(world), { entries: 7, checkpoints: 2 });
  world.clock.ms += 60_000;
  assert.deepEqual(await journal.activate(), { sealed: 0, checkpoint: 7 }, "and so is a minute");
  assert.deepEqual(await journal.activate(), { sealed: 0, checkpoint: null });
});

test("no number is passed over while a transaction may still commit it", async (t) => {
  await using world = await openTestLedger();
  const { database } = world;
  const first = await world.openBudget(1_000n);
  const second = await world.openBudget(1_000n);
  const { journal, exportText } = openTestJournal(world);
  await sealAll(journal);
  const { entries: before } = await counts(world);

  for (const end of ["commits", "is rolled back"] as const) {
    await t.test(`it ${end}`, async () => {
      const already = (await counts(world)).entries;
      await using held = await holdTransaction(world, first);
      // Another budget: nothing waits for the first one's locks, and its numbers are higher.
      await reserveSome(world, second, 2);
      for (let look = 0; look < 4; look++) await journal.activate();
      assert.equal((await counts(world)).entries, already, "sealed past a running transaction");
      await held.end(end === "commits");
      await sealAll(journal);
      const sealed = (await counts(world)).entries - already;
      assert.equal(sealed, end === "commits" ? 3 : 2);
    });
  }

  await t.test("its id is above that of whoever drew the higher number", async () => {
    // A snapshot's upper bound is then no higher than the running transaction, and says nothing.
    const already = (await counts(world)).entries;
    await using ends = new AsyncDisposableStack();
    const later = Promise.withResolvers<Held>();
    await database.sql.transaction(async (tx) => {
      await tx.execute(sql`select pg_current_xact_id()`);
      later.resolve(ends.use(await holdTransaction(world, first)));
      await reserveSome({ ...world, ledger: createLedger({ sql: tx }, world.clock) }, second, 1);
    });
    for (let look = 0; look < 4; look++) await journal.activate();
    assert.equal((await counts(world)).entries, already, "sealed past a running transaction");
    await (await later.promise).end(true);
    await sealAll(journal);
    assert.equal((await counts(world)).entries, already + 2);
  });

  assert.ok((await counts(world)).entries > before);
  const numbers = recordsOf(await exportText()).flatMap((each) =>
    each.type === "transfer" ? [each.seq] : [],
  );
  assert.deepEqual(
    numbers,
    numbers.toSorted((a, b) => a - b),
  );
});

test("whoever inserts a transfer has a transaction id before its number", async () => {
  await using world = await openTestLedger();
  // A row trigger runs when the number is drawn and the row is not written yet.
  await world.database.sql.execute(sql`
    create function has_id() returns trigger language plpgsql as $$
    begin
      if pg_current_xact_id_if_assigned() is null then
        raise exception 'transfer % drew its number without a transaction id', new.id;
      end if;
      return new;
    end $$`);
  await world.database.sql.execute(sql`
    create trigger has_id before insert on transfer for each row execute function has_id()`);

  const { ledger, ids } = world;
  const { journal } = openTestJournal(world);
  // Alone, each in one statement; the history has every kind of transfer.
  await makeHistory(world, journal);
  // And together, in one transaction.
  const { budget, spend, within } = await world.openBudget(10_000n);
  const results = await Promise.all(
    Array.from({ length: 20 }, () =>
      ledger.reserve({
        ...{ id: ids.next("transfer"), budget, spend, within },
        ...{ amountNanos: 1n, timeoutMs: 1_000 },
      }),
    ),
  );
  assert.ok(results.every(({ outcome }) => outcome === "reserved"));
  const usd = { id: ids.next("account"), currency: "USD", mustNotExceed: false } as const;
  const foreign = await ledger.open({ ...usd, kind: "income", owner: "test/usd" });
  const income = { owner: "test/cad", currency: "CAD", amountNanos: 900n, note: "in" };
  await ledger.recordIncome({ id: ids.next("transfer"), ...income });
  const from = await ledger.findAccount("income", "test/cad");
  assert.ok(from !== null);
  const rate = { from: "CAD", to: "USD", rateNanos: 700_000_000n, effectiveFrom: "2026-11-01" };
  const converted = await ledger.convert({
    ...{ id: ids.next("transfer"), kind: "income", from, to: foreign },
    ...{ amountNanos: 333n, rate },
  });
  assert.equal(converted.outcome, "converted");
  await sealAll(journal);
  const [{ count } = { count: 0 }] = await rows<{ count: number }>(
    world.database.sql,
    sql`select count(*)::int as count from transfer where note is not null`,
  );
  assert.ok(count > 0);
  // The trigger bites: an insert that locked nothing is what it is there to find. One in 32 draws
  // gets an id from the sequence itself, which then writes its own log record.
  const bare = () =>
    world.database.sql.execute(sql`
      insert into transfer (id, kind, debit_account_id, credit_account_id, amount_nanos, reason,
        created_at)
      values (${ids.next("transfer")}, 'direct', ${budget}, ${spend}, 1, 'x', now())`);
  const told = [await bare().then(() => "", causeOf), await bare().then(() => "", causeOf)];
  assert.match(told.join(), /without a transaction id/);
});

test("writers, sealers and rollbacks at once: the chain is the one that recomputing gives", async () => {
  await using world = await openTestLedger();
  const { database, clock } = world;
  const outer = await world.openBudget(40_000n);
  const budgets = [
    await world.openBudget(30_000n, [outer.budget]),
    await world.openBudget(30_000n, [outer.budget]),
    await world.openBudget(5_000n),
  ];
  const options = { batchMax: 7, batchesMax: 3, checkpointTransfers: 20 };
  const sealers = [1, 2].map(() => createJournal(database, clock, createTestSigner(), options));
  const ledgers = [1, 2].map(() => createLedger(database, clock));
  let isOver = false;

  const sealing = sealers.map(async (sealer) => {
    while (!isOver || (await sealer.status()).unsealed > 0) await sealer.activate();
  });
  const long = (async () => {
    for (let round = 0; round < 8; round++) {
      await using held = await holdTransaction(world, budgets[2] ?? outer);
      await Promise.all(sealers.map((sealer) => sealer.activate()));
      await held.end(round % 2 === 0);
    }
  })();
  const writing = ledgers.flatMap((ledger, which) =>
    Array.from({ length: 8 }, async (_, writer) => {
      const random = seededRandom(which * 100 + writer);
      const ids = createIds(clock, random);
      for (let round = 0; round < 25; round++) {
        const { budget, spend, within } = budgets[random.below(2)] ?? outer;
        const pendingId = ids.next("transfer");
        const amountNanos = BigInt(1 + random.below(400));
        const path = { budget, spend, within };
        const reservation = { id: pendingId, ...path, amountNanos, timeoutMs: 60_000 };
        if ((await ledger.reserve(reservation)).outcome !== "reserved") continue;
        const id = ids.next("transfer");
        if (random.below(3) === 0) await ledger.release({ id, pendingId });
        else await ledger.settle({ id, pendingId, amountNanos: amountNanos / 2n });
      }
    }),
  );
  await Promise.all([...writing, long]);
  isOver = true;
  await Promise.all(sealing);

  const { exportText } = openTestJournal(world);
  const exported = await exportText();
  const report = await verifyText(exported);
  assert.deepEqual(report.fault, null);
  assert.equal(report.unsealed, 0);
  const [{ count } = { count: 0 }] = await rows<{ count: number }>(
    database.sql,
    sql`select count(*)::int as count from transfer`,
  );
  assert.equal(report.sealed, count);
  assert.ok(count > 400, `${count} transfers`);
  assert.ok(report.checkpoints > 5);
});

test("a sealer that dies between two batches is gone on with, by itself or by another", async () => {
  await using world = await openTestLedger();
  const budget = await world.openBudget(10_000n);
  await reserveSome(world, budget, 20);
  const dying = dyingAfter(world.database.sql, 3);
  const options = { batchMax: 4 };
  const broken = createJournal({ sql: dying }, world.clock, createTestSigner(), options);
  await broken.activate();
  await eventually(
    () =>
      broken.activate().then(
        () => null,
        (error: Error) => error,
      ),
    (error) => error !== null,
  );
  const { entries } = await counts(world);
  assert.ok(entries > 0 && entries < 21, `${entries} entries`);
  assert.equal(entries % 4, 0, "a batch is whole or not there");

  const { journal, exportText } = openTestJournal(world);
  await sealAll(journal);
  assert.equal((await counts(world)).entries, 21);
  assert.equal((await verifyText(await exportText())).fault, null);
});

test("one activation is bounded, and the next goes on", async () => {
  await using world = await openTestLedger();
  await reserveSome(world, await world.openBudget(10_000n), 20);
  const { journal } = openTestJournal(world, { batchMax: 3, batchesMax: 2 });
  await eventually(journal.activate, ({ sealed }) => sealed > 0);
  assert.equal((await counts(world)).entries, 6);
  assert.equal((await journal.activate()).sealed, 6);
});

test("sealed secrets stop signing, never sealing", async () => {
  await using world = await openTestLedger();
  await world.openBudget(10n);
  const sealed = new Problem("secrets_sealed", "sealed");
  const refuse = () => Promise.reject(sealed);
  const signer = { sign: refuse, publicKey: refuse, publicKeys: refuse };
  const journal = createJournal(world.database, world.clock, signer);
  await eventually(
    async () => {
      await journal.activate().catch((error: unknown) => assert.equal(error, sealed));
      return counts(world);
    },
    ({ entries }) => entries === 1,
  );
  const ledgerExport = createLedgerExport(world.database, world.clock, journal, signer);
  await assert.rejects(ledgerExport.open(), sealed);
  const later = openTestJournal(world);
  assert.equal((await verifyText(await later.exportText())).checkpoints, 1);
});

type Held = Awaited<ReturnType<typeof holdTransaction>>;

interface Path {
  budget: `account_${string}`;
  spend: `account_${string}`;
  within: readonly `account_${string}`[];
}

async function reserveSome({ ledger, ids }: TestLedger, path: Path, count: number): Promise<void> {
  for (let index = 0; index < count; index++) {
    const id = ids.next("transfer");
    const { budget, spend, within } = path;
    const given = { id, budget, spend, within, amountNanos: 1n, timeoutMs: 3_600_000 };
    assert.equal((await ledger.reserve(given)).outcome, "reserved");
  }
}

/** Another test file's transactions, on the same server, may hold a number up for a moment. */
async function sealAll(journal: ReturnType<typeof openTestJournal>["journal"]): Promise<void> {
  await journal.activate();
  await eventually(
    async () => {
      await journal.activate();
      return journal.status();
    },
    ({ unsealed }) => unsealed === 0,
  );
}

async function counts({ database }: TestLedger) {
  const [row] = await rows<{ entries: number; checkpoints: number }>(
    database.sql,
    sql`select (select count(*)::int from journal_entry) as entries,
      (select count(*)::int from journal_checkpoint) as checkpoints`,
  );
  assert.ok(row !== undefined);
  return row;
}

/** A reservation in a transaction that stays open until it is told how to end. */
async function holdTransaction({ database, clock, ids }: TestLedger, path: Path) {
  const gate = Promise.withResolvers<boolean>();
  const reserved = Promise.withResolvers<void>();
  const done = database.sql
    .transaction(async (tx) => {
      const { budget, spend, within } = path;
      const given = { id: ids.next("transfer"), budget, spend, within };
      await createLedger({ sql: tx }, clock).reserve({
        ...given,
        ...{ amountNanos: 1n, timeoutMs: 3_600_000 },
      });
      reserved.resolve();
      if (!(await gate.promise)) throw new Error("rolled back");
    })
    .catch((error: Error) => {
      if (error.message !== "rolled back") reserved.reject(error);
    });
  await reserved.promise;
  return { end, [Symbol.asyncDispose]: () => end(false) };

  async function end(isCommitted: boolean): Promise<void> {
    gate.resolve(isCommitted);
    await done;
  }
}

/** A database whose connection breaks at the transaction after so many. */
function dyingAfter(real: Sql, transactions: number): Sql {
  let left = transactions;
  return {
    execute: real.execute.bind(real),
    transaction: (use, config) => {
      left -= 1;
      if (left >= 0) return real.transaction(use, config);
      return real.transaction(async (tx) => {
        await use(tx);
        throw new Error("the connection broke");
      }, config);
    },
  };
}

function causeOf(error: unknown): string {
  return String((error as Error).cause);
}

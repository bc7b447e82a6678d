/** What the ledger does all or none, and the rows that others write in its transactions. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { sql } from "drizzle-orm";
import { rows } from "../../../orchestrator/db/rows.ts";
import { auditLedger } from "../../support/audit.ts";
import { amounts, openTestLedger, type TestLedger } from "../../support/ledger.ts";

const spent = (fundedNanos: bigint, reservedNanos: bigint, spentNanos: bigint) => ({
  fundedNanos,
  reservedNanos,
  spentNanos,
  availableNanos: fundedNanos - reservedNanos - spentNanos,
});

test("reservations made together are all made, or none", async () => {
  await using fixture = await openTestLedger();
  const { ledger, ids, database } = fixture;
  const { budget: project } = await fixture.openBudget(1_000n);
  const money = await fixture.openBudget(100n, [project]);
  const tokens = await fixture.openBudget(50n, [], "TOK");
  const reservations = (moneyNanos: bigint, tokenCount: bigint) => [
    { id: ids.next("transfer"), ...money, amountNanos: moneyNanos, timeoutMs: 1_000 },
    { id: ids.next("transfer"), ...tokens, amountNanos: tokenCount, timeoutMs: 1_000 },
  ];

  const made = reservations(60n, 50n);
  assert.deepEqual(await ledger.reserveTogether(made), {
    outcome: "reserved",
    balances: [spent(100n, 60n, 0n), spent(50n, 50n, 0n)],
  });
  assert.deepEqual(await ledger.reserveTogether(reservations(40n, 1n)), {
    outcome: "refused",
    index: 1,
    refusal: {
      outcome: "insufficient_funds",
      budget: tokens.budget,
      availableNanos: 0n,
      reservedNanos: 50n,
    },
  });
  const repeated = await ledger.reserveTogether(made);
  assert.deepEqual(repeated, {
    outcome: "refused",
    index: 0,
    refusal: { outcome: "already_reserved" },
  });
  assert.deepEqual(amounts(await ledger.balance(money.budget)), spent(100n, 60n, 0n));
  assert.deepEqual(amounts(await ledger.balance(project)), spent(1_000n, 60n, 0n));

  const [cash, token] = made;
  assert.ok(cash !== undefined && token !== undefined);
  assert.deepEqual(
    await ledger.resolveTogether([
      { op: "settle", id: ids.next("transfer"), pendingId: cash.id, amountNanos: 25n },
      { op: "release", id: ids.next("transfer"), pendingId: token.id },
      { op: "release", id: ids.next("transfer"), pendingId: ids.next("transfer") },
    ]),
    [
      { outcome: "settled", balance: spent(100n, 0n, 25n) },
      { outcome: "released", balance: spent(50n, 0n, 0n) },
      { outcome: "reservation_not_found" },
    ],
  );
  assert.deepEqual(await ledger.reserveTogether([]), { outcome: "reserved", balances: [] });
  await auditLedger(database);
});

test("two reservations on one budget count together", async () => {
  await using fixture = await openTestLedger();
  const { ledger, ids } = fixture;
  const one = await fixture.openBudget(100n);
  const slice = (amountNanos: bigint) => ({
    id: ids.next("transfer"),
    ...one,
    amountNanos,
    timeoutMs: 1_000,
  });
  const refused = await ledger.reserveTogether([slice(60n), slice(41n)]);
  assert.equal(refused.outcome === "refused" && refused.index, 1);
  assert.deepEqual(amounts(await ledger.balance(one.budget)), spent(100n, 0n, 0n));
  assert.deepEqual(await ledger.reserveTogether([slice(60n), slice(40n)]), {
    outcome: "reserved",
    balances: [spent(100n, 100n, 0n), spent(100n, 100n, 0n)],
  });
});

test("a refused pair leaves its neighbours in the flush as they are", async () => {
  await using fixture = await openTestLedger();
  const { ledger, ids, database } = fixture;
  const money = await fixture.openBudget(100n);
  const tokens = await fixture.openBudget(50n, [], "TOK");
  const pair = (moneyNanos: bigint, tokenCount: bigint) =>
    ledger.reserveTogether([
      { id: ids.next("transfer"), ...money, amountNanos: moneyNanos, timeoutMs: 1_000 },
      { id: ids.next("transfer"), ...tokens, amountNanos: tokenCount, timeoutMs: 1_000 },
    ]);
  // The first goes alone; the others are flushed together, in their order.
  const results = await Promise.all([
    pair(10n, 10n),
    pair(90n, 41n),
    pair(80n, 40n),
    ledger.reserve({ id: ids.next("transfer"), ...money, amountNanos: 10n, timeoutMs: 1_000 }),
    pair(1n, 0n),
  ]);
  assert.deepEqual(
    results.map(({ outcome }) => outcome),
    ["reserved", "refused", "reserved", "reserved", "refused"],
  );
  assert.deepEqual(amounts(await ledger.balance(money.budget)), spent(100n, 100n, 0n));
  await auditLedger(database);
});

test("rows written alongside are written once a flush, with the money or not at all", async () => {
  await using fixture = await openTestLedger();
  const { ledger, ids, database } = fixture;
  await database.sql.execute(sql`create table note (text text primary key)`);
  const batches: number[] = [];
  const statement = (items: readonly string[]) => {
    batches.push(items.length);
    if (items.includes("throws")) throw new TypeError("not for this one");
    return { text: "insert into note select unnest($1::text[])", values: [items] };
  };
  const pendings = await reserveMany(fixture, 8);
  const resolve = (index: number, item: string) => {
    const pendingId = pendings[index] ?? ids.next("transfer");
    const id = ids.next("transfer");
    return ledger.resolveTogether([{ op: "settle", id, pendingId, amountNanos: 3n }], {
      statement,
      item,
    });
  };

  const first = await Promise.all([0, 1, 2].map((index) => resolve(index, `call ${index}`)));
  assert.ok(first.flat().every(({ outcome }) => outcome === "settled"));
  assert.deepEqual(batches, [1, 2]);

  // "call 1" is there already, and "throws" is no row: each fails alone, and moves no money.
  const second = await Promise.allSettled([
    resolve(3, "call 3"),
    resolve(4, "call 1"),
    resolve(5, "throws"),
    resolve(6, "call 6"),
    resolve(7, "call 7"),
  ]);
  assert.deepEqual(
    second.map(({ status }) => status),
    ["fulfilled", "rejected", "rejected", "fulfilled", "fulfilled"],
  );
  const found = await rows<{ text: string }>(
    database.sql,
    sql`select text from note order by text`,
  );
  assert.deepEqual(
    found.map(({ text }) => text),
    [0, 1, 2, 3, 6, 7].map((index) => `call ${index}`),
  );
  const [left] = await rows<{ settled: number }>(
    database.sql,
    sql`select count(*)::int as settled from transfer where kind = 'post'`,
  );
  assert.equal(left?.settled, 6);
  const again = await resolve(4, "call 4");
  assert.deepEqual(
    again.map(({ outcome }) => outcome),
    ["settled"],
  );
  await auditLedger(database);
});

async function reserveMany({ ledger, ids, openBudget }: TestLedger, count: number) {
  const one = await openBudget(1_000n);
  return Promise.all(
    Array.from({ length: count }, async () => {
      const id = ids.next("transfer");
      await ledger.reserve({ id, ...one, amountNanos: 10n, timeoutMs: 60_000 });
      return id;
    }),
  );
}

/**
 * Daily allowances: funded once a day, whoever asks and however often, in the project's days; what
 * was left of a day carries over up to the cap, once.
 */
import assert from "node:assert/strict";
import { test } from "node:test";
import { sql } from "drizzle-orm";
import fc from "fast-check";
import { rows } from "../../../orchestrator/db/rows.ts";
import { createLedger } from "../../../orchestrator/ledger/postgres.ts";
import { carriedOver, createDays, type Day } from "../../../orchestrator/projects/day.ts";
import type { AccountId } from "../../../orchestrator/runtime/ids.ts";
import { auditLedger } from "../../support/audit.ts";
import { amounts, openTestLedger, type TestLedger } from "../../support/ledger.ts";

const DAY_MS = 86_400_000;
const HOUR_MS = 3_600_000;

function openDays({ database: db, ids, clock }: TestLedger) {
  return createDays({ db, ledgerIn: (tx) => createLedger(tx, clock), ids, clock });
}

function dayOf({ ids }: TestLedger, given: Partial<Day> = {}): Day {
  return {
    projectId: ids.next("project"),
    timeZone: "UTC",
    currency: "CAD",
    allowanceNanos: 100n,
    carryOverNanos: 0n,
    tokenAllowance: null,
    ...given,
  };
}

/** A call on the day's budget, settled at `amountNanos`. */
async function spend({ ledger, ids }: TestLedger, budget: AccountId, amountNanos: bigint) {
  const owner = "test/spend";
  const account = { id: ids.next("account"), kind: "spend", owner, currency: "CAD" } as const;
  const to = await ledger.open({ ...account, mustNotExceed: false });
  const pendingId = ids.next("transfer");
  const call = { id: pendingId, budget, within: [], spend: to, amountNanos, timeoutMs: 1_000 };
  assert.equal((await ledger.reserve(call)).outcome, "reserved");
  const settled = await ledger.settle({ id: ids.next("transfer"), pendingId, amountNanos });
  assert.equal(settled.outcome, "settled");
}

async function eventsOf({ database }: TestLedger) {
  return rows<{ owner: string; kind: string; funded: string }>(
    database.sql,
    sql`select account.owner, budget_event.kind, funded_nanos as funded
      from budget_event join account on account.id = account_id order by seq`,
  );
}

test("a project that moves to another time zone has that zone's day at once", async () => {
  await using fixture = await openTestLedger();
  const { ledger, clock } = fixture;
  const days = openDays(fixture);
  const day = dayOf(fixture, { timeZone: "America/Toronto" });
  clock.ms = Date.parse("2026-11-20T20:00:00Z");
  for (const [timeZone, date] of [
    ["America/Toronto", "2026-11-20"],
    ["Asia/Tokyo", "2026-11-21"],
    ["America/Toronto", "2026-11-20"],
  ] as const) {
    const account = await days.dayAccount({ ...day, timeZone });
    assert.ok(account !== null);
    assert.equal((await ledger.balance(account))?.owner, `day/${day.projectId}/${date}`);
  }
});

test("a day is funded once by all who open it, and each day anew", async () => {
  await using fixture = await openTestLedger();
  const { ledger, clock, database } = fixture;
  const day = dayOf(fixture, { timeZone: "America/Toronto", allowanceNanos: 5_000n });
  // As after restarts: nothing is remembered but what the ledger holds.
  const openers = Array.from({ length: 6 }, () => openDays(fixture));
  clock.ms = Date.parse("2026-11-21T04:30:00Z");
  const opened = await Promise.all(openers.map((days) => days.dayAccount(day)));
  const [first] = opened;
  assert.ok(first !== undefined && first !== null);
  assert.equal(new Set(opened).size, 1);
  const balance = await ledger.balance(first);
  assert.equal(balance?.owner, `day/${day.projectId}/2026-11-20`);
  assert.equal(balance?.fundedNanos, 5_000n);

  // Half an hour later it is the next day in Toronto.
  clock.ms = Date.parse("2026-11-21T05:00:00Z");
  const [days] = openers;
  assert.ok(days !== undefined);
  const second = await days.dayAccount(day);
  assert.ok(second !== null && second !== first);
  assert.equal(await days.dayAccount(day), second);
  assert.equal((await ledger.balance(second))?.availableNanos, 5_000n);
  await auditLedger(database);
});

test("an allowance raised during the day counts at once, a lowered one does not", async () => {
  await using fixture = await openTestLedger();
  const { ledger, database } = fixture;
  const day = dayOf(fixture);
  const days = openDays(fixture);
  const account = await days.dayAccount(day);
  assert.ok(account !== null);
  const raised = { ...day, allowanceNanos: 250n };
  const others = [raised, day, raised].map((one) => openDays(fixture).dayAccount(one));
  assert.deepEqual(new Set(await Promise.all(others)), new Set([account]));
  assert.equal(await days.dayAccount({ ...day, allowanceNanos: 1n }), account);
  assert.deepEqual(amounts(await ledger.balance(account)), {
    fundedNanos: 250n,
    reservedNanos: 0n,
    spentNanos: 0n,
    availableNanos: 250n,
  });
  await auditLedger(database);
});

test("without an allowance there is no day's budget, also for a key that had one", async () => {
  await using fixture = await openTestLedger();
  const days = openDays(fixture);
  const day = dayOf(fixture);
  assert.ok((await days.dayAccount(day)) !== null);
  fixture.clock.ms += DAY_MS;
  assert.equal(await days.dayAccount({ ...day, allowanceNanos: null }), null);
  assert.equal(await days.tokenDayAccount(day), null);
});

test("a day's tokens are a budget of their own", async () => {
  await using fixture = await openTestLedger();
  const account = await openDays(fixture).tokenDayAccount(dayOf(fixture, { tokenAllowance: 7n }));
  assert.ok(account !== null);
  const balance = await fixture.ledger.balance(account);
  assert.deepEqual([balance?.currency, balance?.availableNanos], ["TOK", 7n]);
  assert.match(balance?.owner ?? "", /^tokens\/day\/project_\w+\/2026-11-21$/);
});

test("what a day left carries over up to the cap, once for all who open the next", async () => {
  await using fixture = await openTestLedger();
  const { clock, ledger } = fixture;
  const day = dayOf(fixture, { carryOverNanos: 60n });
  const first = await openDays(fixture).dayAccount(day);
  assert.ok(first !== null);
  await spend(fixture, first, 70n);

  clock.ms += DAY_MS;
  const opened = await Promise.all(
    Array.from({ length: 6 }, () => openDays(fixture).dayAccount(day)),
  );
  const [second] = opened;
  assert.ok(second !== undefined && second !== null && new Set(opened).size === 1);
  assert.equal((await ledger.balance(second))?.fundedNanos, 130n, "100 and the 30 that were left");
  assert.equal((await ledger.balance(first))?.availableNanos, 0n, "of which the first has nothing");

  // A cap and an allowance that are raised during the day: the allowance counts, the cap not.
  const raised = { ...day, allowanceNanos: 120n, carryOverNanos: 1_000n };
  assert.equal(await openDays(fixture).dayAccount(raised), second);
  assert.equal((await ledger.balance(second))?.fundedNanos, 150n);

  clock.ms += DAY_MS;
  const third = await openDays(fixture).dayAccount(day);
  assert.ok(third !== null);
  assert.equal((await ledger.balance(third))?.fundedNanos, 160n, "the cap");
  const [one, two, three] = ["21", "22", "23"].map((d) => `day/${day.projectId}/2026-11-${d}`);
  assert.deepEqual(
    (await eventsOf(fixture)).map(({ owner, kind, funded }) => [owner, kind, funded]),
    [
      [one, "replenished", "100"],
      [two, "replenished", "130"],
      [two, "replenished", "150"],
      [two, "lapsed", "90"],
      [three, "replenished", "160"],
    ],
  );
  await auditLedger(fixture.database);
});

test("days on which nothing ran were unspent: they carry too, up to the cap", async () => {
  await using fixture = await openTestLedger();
  const { clock, ledger } = fixture;
  const day = dayOf(fixture, { carryOverNanos: 250n, timeZone: "Europe/Berlin" });
  clock.ms = Date.parse("2026-10-23T12:00:00Z");
  const first = await openDays(fixture).dayAccount(day);
  assert.ok(first !== null);
  await spend(fixture, first, 100n);
  // Over the end of summer time: one day asleep, then many.
  for (const [sleepMs, funded] of [
    [2 * DAY_MS, 200n],
    [30 * DAY_MS, 350n],
  ] as const) {
    clock.ms += sleepMs;
    const account = await openDays(fixture).dayAccount(day);
    assert.ok(account !== null);
    assert.equal((await ledger.balance(account))?.fundedNanos, funded);
  }
  await auditLedger(fixture.database);
});

test("what carries over skipped days is what opening each of them would have carried", () => {
  const nanos = fc.bigInt({ min: 0n, max: 1_000n });
  fc.assert(
    fc.property(nanos, nanos, nanos, fc.integer({ min: 0, max: 9 }), (rest, allowance, cap, n) => {
      const min = (a: bigint, b: bigint) => (a < b ? a : b);
      let oneByOne = min(rest, cap);
      for (let day = 0; day < n; day++) oneByOne = min(allowance + oneByOne, cap);
      const days = { restNanos: rest, skippedDays: n, allowanceNanos: allowance, capNanos: cap };
      assert.equal(carriedOver(days), oneByOne);
    }),
  );
});

test("R14: a clock that is set back over midnight and forward again funds nothing twice", async () => {
  await using fixture = await openTestLedger();
  const { clock, database } = fixture;
  const day = dayOf(fixture, { carryOverNanos: 50n });
  const days = openDays(fixture);
  clock.ms = Date.parse("2026-11-21T23:30:00Z");
  const yesterday = await days.dayAccount(day);
  for (const hours of [1, -1, 1, -1, 1]) {
    clock.ms += hours * HOUR_MS;
    for (const opener of [days, openDays(fixture)]) await opener.dayAccount(day);
  }
  assert.notEqual(await days.dayAccount(day), yesterday);
  const funded = await rows<{ reason: string; amount: string }>(
    database.sql,
    sql`select reason, amount_nanos as amount from transfer
      where kind = 'direct' and reverses_id is null order by seq`,
  );
  assert.deepEqual(
    funded.map(({ reason, amount }) => `${reason} ${amount}`),
    ["allowance 100", "carry_over 50", "allowance 100"],
  );
});

test("R14: a day that a set-back clock opens late has its allowance, and nothing of others", async () => {
  await using fixture = await openTestLedger();
  const { clock, ledger, database } = fixture;
  const day = dayOf(fixture, { carryOverNanos: 150n });
  for (const [date, funded] of [
    ["2026-11-20", 100n],
    ["2026-11-22", 250n],
    ["2026-11-21", 100n],
    ["2026-11-22", 250n],
    ["2026-11-23", 250n],
  ] as const) {
    clock.ms = Date.parse(`${date}T12:00:00Z`);
    const account = await openDays(fixture).dayAccount(day);
    assert.ok(account !== null);
    assert.equal((await ledger.balance(account))?.fundedNanos, funded, date);
  }
  await auditLedger(database);
});

/** Goal: a projection says when the money is gone at the present pace, or why nobody can know. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { projectBurn, readSpending, type Spending } from "../../../orchestrator/budgets/burn.ts";
import type { AccountId } from "../../../orchestrator/runtime/ids.ts";
import { openTestLedger, type TestLedger } from "../../support/ledger.ts";

const MINUTE_MS = 60_000;
const HOUR_MS = 60 * MINUTE_MS;
const NOW_MS = Date.parse("2026-11-21T12:00:00Z");
const LIMITED = { availableNanos: 600n, isLimited: true };

function spending(hour: bigint, day: bigint, sinceMinutes: number): Spending {
  const firstAtMs = NOW_MS - sinceMinutes * MINUTE_MS;
  return { lastHourNanos: hour, lastDayNanos: day, firstAtMs };
}

const CASES: readonly [string, Spending, typeof LIMITED, string, string | null][] = [
  ["at the last hour's pace", spending(200n, 900n, 600), LIMITED, "last_hour", "15:00:00"],
  [
    "of half an hour, when there is no more",
    spending(200n, 200n, 30),
    LIMITED,
    "last_hour",
    "13:30",
  ],
  ["at the last day's, after a quiet hour", spending(0n, 400n, 600), LIMITED, "last_day", "T03:00"],
  ["not after a first call", spending(200n, 200n, 5), LIMITED, "not_enough_history", null],
  [
    "not without spending",
    { ...spending(0n, 0n, 0), firstAtMs: null },
    LIMITED,
    "not_spending",
    null,
  ],
  ["not when all was given back", spending(0n, -5n, 60), LIMITED, "not_spending", null],
  [
    "not without a limit",
    spending(9n, 9n, 60),
    { ...LIMITED, isLimited: false },
    "not_limited",
    null,
  ],
  ["not of nothing", spending(9n, 9n, 60), { ...LIMITED, availableNanos: 0n }, "exhausted", null],
  [
    "not ten years ahead",
    spending(1n, 1n, 60),
    { ...LIMITED, availableNanos: 2n ** 62n },
    "last_hour",
    null,
  ],
];

for (const [what, spent, budget, basis, at] of CASES) {
  test(`exhaustion is projected: ${what}`, () => {
    const burn = projectBurn(spent, budget, NOW_MS);
    assert.equal(burn.basis, basis);
    if (at === null) assert.equal(burn.exhausted_at, null);
    else assert.ok(burn.exhausted_at?.includes(at), String(burn.exhausted_at));
    assert.equal(burn.lasts_the_day, false, "it is no day's budget");
  });
}

test("a day's budget lasts when the day ends before it", () => {
  const pace = spending(200n, 200n, 60);
  const lasts = (endsInHours: number, spent = pace) =>
    projectBurn(spent, LIMITED, NOW_MS, NOW_MS + endsInHours * HOUR_MS).lasts_the_day;
  assert.deepEqual(
    [2, 3, 4].map((hours) => lasts(hours)),
    [true, true, false],
  );
  assert.equal(lasts(20, { ...pace, lastDayNanos: 0n, firstAtMs: null }), true);
  assert.equal(lasts(20, spending(200n, 200n, 1)), false, "nobody can know");
});

async function settle({ ledger, ids }: TestLedger, path: Path, amountNanos: bigint) {
  const pendingId = ids.next("transfer");
  const held = { id: pendingId, ...path, amountNanos, timeoutMs: 1_000 };
  assert.equal((await ledger.reserve(held)).outcome, "reserved");
  const id = ids.next("transfer");
  assert.equal((await ledger.settle({ id, pendingId, amountNanos })).outcome, "settled");
  return id;
}

type Path = { budget: AccountId; spend: AccountId; within: readonly AccountId[] };

test("spending is counted at every level, by the hour and the day, less what was given back", async () => {
  await using fixture = await openTestLedger();
  const { ledger, clock, ids, database } = fixture;
  const outer = await fixture.openBudget(10_000n);
  const inner = await fixture.openBudget(10_000n);
  const path = { ...inner, within: [outer.budget] };
  for (const [hoursAgo, amount] of [
    [25, 1_000n],
    [5, 100n],
    [0.5, 30n],
  ] as const) {
    clock.ms = NOW_MS - hoursAgo * HOUR_MS;
    await settle(fixture, path, amount);
  }
  const mistake = await settle(fixture, { ...inner, within: [] }, 7n);
  clock.ms = NOW_MS;
  const reversal = { id: ids.next("transfer"), transferId: mistake, note: "a mistake" };
  assert.equal((await ledger.reverse(reversal)).outcome, "reversed");

  const budgets = [outer.budget, inner.budget];
  const found = await readSpending(database.sql, budgets, ["CAD"], NOW_MS);
  const firstAtMs = NOW_MS - 5 * HOUR_MS;
  const expected = { lastHourNanos: 30n, lastDayNanos: 130n, firstAtMs };
  assert.deepEqual(Object.fromEntries(found), {
    [outer.budget]: expected,
    [inner.budget]: expected,
  });
  assert.deepEqual(await readSpending(database.sql, budgets, ["EUR"], NOW_MS), new Map());
  const past = await readSpending(database.sql, budgets, ["CAD"], NOW_MS - 2 * HOUR_MS);
  assert.equal(past.get(inner.budget)?.lastHourNanos, 0n);
  assert.equal(past.get(inner.budget)?.lastDayNanos, 1_100n, "25 hours ago was 23 hours before");
});

/**
 * Goal: each date of a schedule funds its project exactly once: whoever asks, at once or again,
 * after a sleep, after a crash, with a clock that was set back; never before it starts.
 */
import assert from "node:assert/strict";
import { test } from "node:test";
import { sql } from "drizzle-orm";
import fc from "fast-check";
import type { TopUpEntry } from "../../../orchestrator/contract/projects.ts";
import { rows } from "../../../orchestrator/db/rows.ts";
import { createLedger } from "../../../orchestrator/ledger/postgres.ts";
import { budgetChangeFault } from "../../../orchestrator/projects/budget-rules.ts";
import {
  createTopUps,
  duePeriods,
  nextTopUp,
  type Replenished,
} from "../../../orchestrator/projects/top-ups.ts";
import { type Clock, localDate } from "../../../orchestrator/runtime/clock.ts";
import { createLog } from "../../../orchestrator/runtime/log.ts";
import { createCrashingDatabase, Killed } from "../../simulation/crashing-database.ts";
import { auditLedger } from "../../support/audit.ts";
import { createTestClock } from "../../support/ledger.ts";
import { openTrialLife } from "../../support/trial-life.ts";

const HOUR_MS = 3_600_000;
const NOW_MS = Date.parse("2026-11-21T12:00:00Z");
const ZONES = ["America/Toronto", "Europe/Berlin", "Australia/Lord_Howe", "Pacific/Apia"];
const projectId = "project_01jd7sm1g0e0080000000000p1";

type Life = Awaited<ReturnType<typeof openTrialLife>>;

function project(topUps: TopUpEntry[], timeZone = "America/Toronto"): Replenished {
  const budget = { total: "1", per_trial: "1", top_ups: topUps };
  const config = { project: "p", currency: "CAD", time_zone: timeZone, budget };
  return { id: projectId, name: "p", currency: "CAD", time_zone: timeZone, config };
}

async function apply(life: Life, topUps: string, timeZone = "America/Toronto") {
  await life.projects.apply({
    file_name: "autocode.yaml",
    folder: life.world.home,
    file_text: `project: p
currency: CAD
time_zone: ${timeZone}
budget: { total: 1, per_trial: 0.001, top_ups: ${topUps} }\n`,
  });
}

function topUpsOf({ db }: Pick<Life, "db">, clock: Clock) {
  return createTopUps({
    db,
    ledgerIn: (tx) => createLedger(tx, clock),
    clock,
    log: createLog("silent"),
  });
}

async function funded(life: Life): Promise<string[]> {
  const found = await rows<{ reason: string; amount: string }>(
    life.db.sql,
    sql`select reason || ' ' || note as reason, amount_nanos as amount from transfer
      where kind = 'direct' and reason = 'top_up' order by seq`,
  );
  return found.map(({ reason, amount }) => `${reason} ${amount}`);
}

test("each date funds once, however often and at once it is asked, and tells it", async () => {
  await using life = await openTrialLife({});
  const clock = createTestClock();
  clock.ms = Date.parse("2026-11-15T12:00:00Z");
  await apply(life, "[{ amount: 2.50, every: two_weeks, starting: 2026-11-01 }]");
  for (let round = 0; round < 2; round++) {
    await Promise.all(Array.from({ length: 5 }, () => topUpsOf(life, clock).task.activate()));
  }
  assert.deepEqual(await funded(life), [
    "top_up two_weeks 2026-11-01 2500000000",
    "top_up two_weeks 2026-11-15 2500000000",
  ]);
  assert.equal((await life.projects.get("p")).balance.funded_nanos, "6000000000");
  const events = await rows<{ kind: string; funded: string }>(
    life.db.sql,
    sql`select kind, funded_nanos as funded from budget_event order by seq`,
  );
  assert.deepEqual(
    events.map(({ kind, funded: nanos }) => [kind, nanos]),
    [
      ["replenished", "3500000000"],
      ["replenished", "6000000000"],
    ],
  );

  // Midnight in Toronto is 5:00 UTC; one hour before it nothing is due.
  clock.ms = Date.parse("2026-11-29T04:59:59Z");
  assert.deepEqual(await topUpsOf(life, clock).task.activate(), { funded: 0 });
  clock.ms += 1_000;
  assert.deepEqual(await topUpsOf(life, clock).task.activate(), { funded: 1 });
  // R14: set back by a week, and forward again.
  clock.ms -= 168 * HOUR_MS;
  assert.deepEqual(await topUpsOf(life, clock).task.activate(), { funded: 0 });
  clock.ms += 168 * HOUR_MS;
  assert.deepEqual(await topUpsOf(life, clock).task.activate(), { funded: 0 });
  await auditLedger(life.world.database);
});

test("a kill between any two steps loses no top-up and doubles none", async () => {
  await using life = await openTrialLife({});
  const clock = createTestClock();
  let kills = 0;
  for (let operations = 0; kills === operations * 2; operations++) {
    for (const isAppliedAtDeath of [true, false]) {
      // A day of its own for each kill: what is due is one transfer, and its event.
      clock.ms = Date.parse("2026-11-21T12:00:00Z") + kills * 7 * 24 * HOUR_MS;
      await apply(life, "[{ amount: 1, every: week, starting: 2026-11-21 }]");
      const db = createCrashingDatabase(life.db, { operations, isAppliedAtDeath });
      await topUpsOf({ ...life, db }, clock)
        .task.activate()
        .catch((error: unknown) => {
          assert.ok(error instanceof Killed, String(error));
          kills++;
        });
      await topUpsOf(life, clock).task.activate();
      const done = await funded(life);
      assert.equal(new Set(done).size, done.length);
      const weeks = Math.floor((clock.ms - Date.parse("2026-11-14T12:00:00Z")) / (168 * HOUR_MS));
      assert.equal(done.length, weeks);
    }
  }
  assert.ok(kills >= 6, `${kills} kills`);
  const [counted] = await rows<{ count: number }>(
    life.db.sql,
    sql`select count(*)::int as count from budget_event where kind = 'replenished'`,
  );
  assert.equal(counted?.count, (await funded(life)).length);
  await auditLedger(life.world.database);
});

test("a year asleep is caught up; another amount counts from the next date on", async () => {
  await using life = await openTrialLife({});
  const clock = createTestClock();
  clock.ms = Date.parse("2026-01-31T12:00:00Z");
  await apply(life, "[{ amount: 1, every: month, starting: 2026-01-31 }]");
  clock.ms = Date.parse("2026-12-31T12:00:00Z");
  assert.deepEqual(await topUpsOf(life, clock).task.activate(), { funded: 12 });
  await apply(life, "[{ amount: 3, every: month, starting: 2026-01-31 }]");
  assert.deepEqual(await topUpsOf(life, clock).task.activate(), { funded: 0 });
  clock.ms = Date.parse("2027-02-28T12:00:00Z");
  assert.deepEqual(await topUpsOf(life, clock).task.activate(), { funded: 2 });
  assert.deepEqual((await funded(life)).slice(-3), [
    "top_up month 2026-12-31 1000000000",
    "top_up month 2027-01-31 3000000000",
    "top_up month 2027-02-28 3000000000",
  ]);
});

test("a schedule that would fund long-gone years at once is refused, one that did is kept", async () => {
  await using life = await openTrialLife({});
  const old = "[{ amount: 1, every: week, starting: 2006-11-01 }]";
  await assert.rejects(apply(life, old), {
    code: "invalid_request",
    message:
      "autocode.yaml: budget.top_ups.0.starting: 2006-11-01 would fund 1047 past dates at once; " +
      "use a later day",
  });
  const year = { amount: "1", every: "week", starting: "2024-11-02" } as const;
  const { config } = project([year]);
  assert.match(budgetChangeFault(config, null, NOW_MS)?.message ?? "", /fund 108 past dates/);
  assert.equal(budgetChangeFault(config, config, NOW_MS), null);
});

test("R14: a schedule that is changed does not fund the dates of the one before again", () => {
  const weekly = { amount: "10", every: "week", starting: "2026-01-01" } as const;
  const known = project([weekly]).config;
  for (const other of [
    { ...weekly, starting: "2026-01-02" },
    { ...weekly, every: "two_weeks" as const },
  ]) {
    const fault = budgetChangeFault(project([other]).config, known, NOW_MS);
    assert.match(fault?.message ?? "", /would fund \d+ past dates at once; use a later day/);
    const later = { ...other, starting: "2026-11-22" };
    assert.equal(budgetChangeFault(project([later]).config, known, NOW_MS), null);
  }
  const dearer = { ...weekly, amount: "20" };
  assert.equal(budgetChangeFault(project([dearer]).config, known, NOW_MS), null);
});

test("in every zone, all that is due is dated by the project's calendar, none too early", () => {
  const entries = fc.record({
    amount: fc.constant("1"),
    every: fc.constantFrom("week", "two_weeks", "month"),
    starting: fc.constantFrom("2026-03-08", "2026-03-29", "2026-10-25", "2026-01-31"),
  }) as fc.Arbitrary<TopUpEntry>;
  const hours = fc.integer({ min: -2_000, max: 12_000 });
  fc.assert(
    fc.property(entries, fc.constantFrom(...ZONES), hours, (entry, timeZone, hour) => {
      const now = Date.parse(`${entry.starting}T00:00:00Z`) + hour * HOUR_MS;
      const one = project([entry], timeZone);
      const due = duePeriods(one, now);
      const today = localDate(now, timeZone);
      assert.ok(due.every(({ date }) => entry.starting <= date && date <= today));
      assert.equal(new Set(due.map(({ id }) => id)).size, due.length);
      const next = nextTopUp(one, now);
      assert.ok(next !== null && Date.parse(next.at) > now && next.date > today);
      assert.equal(duePeriods(one, Date.parse(next.at)).length, due.length + 1);
      assert.equal(duePeriods(one, Date.parse(next.at) - 1).length, due.length);
    }),
    { numRuns: 300 },
  );
  assert.equal(nextTopUp(project([]), 0), null);
});

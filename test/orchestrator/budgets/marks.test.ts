/**
 * Goal: each mark of each budget is told once for an amount funded, whoever settles and however
 * many look; a top-up makes it passable again only where it brought the spending below it.
 */
import assert from "node:assert/strict";
import { test } from "node:test";
import { sql } from "drizzle-orm";
import { createMarksTask } from "../../../orchestrator/budgets/marks.ts";
import { rows } from "../../../orchestrator/db/rows.ts";
import type { AccountId } from "../../../orchestrator/runtime/ids.ts";
import { createLog } from "../../../orchestrator/runtime/log.ts";
import { openTestLedger, type TestLedger } from "../../support/ledger.ts";
import { payCall } from "../../support/paid-call.ts";
import { openTrialLife } from "../../support/trial-life.ts";

const log = createLog("silent");

type Path = { budget: AccountId; spend: AccountId; within: readonly AccountId[] };

async function spend({ ledger, ids }: TestLedger, path: Path, amountNanos: bigint): Promise<void> {
  const pendingId = ids.next("transfer");
  const held = { id: pendingId, ...path, amountNanos, timeoutMs: 1_000 };
  assert.equal((await ledger.reserve(held)).outcome, "reserved");
  await ledger.settle({ id: ids.next("transfer"), pendingId, amountNanos });
}

async function topUp({ ledger, ids }: TestLedger, to: AccountId, amountNanos: bigint) {
  const from = await ledger.findAccount("funding", "test/1");
  assert.ok(from !== null);
  const id = ids.next("transfer");
  const funding = { id, from, to, amountNanos, reason: "topup" };
  assert.deepEqual(await ledger.fund(funding), { outcome: "funded" });
}

/** "percent@funded" of each mark, in the order in which they were told. */
async function marksOf(sqlOf: TestLedger["database"], account: AccountId): Promise<string[]> {
  const found = await rows<{ mark: string }>(
    sqlOf.sql,
    sql`select percent || '@' || funded_nanos as mark from budget_event
      where kind = 'threshold' and account_id = ${account} order by seq`,
  );
  return found.map(({ mark }) => mark);
}

test("every level's marks are told once, by however many looks at once", async () => {
  await using fixture = await openTestLedger();
  const { database, clock } = fixture;
  const outer = await fixture.openBudget(1_000n);
  const inner = await fixture.openBudget(100n);
  const path = { ...inner, within: [outer.budget] };
  const tasks = Array.from({ length: 4 }, () => createMarksTask(database, clock, log));
  const look = async () => {
    const found = (await Promise.all(tasks.map((task) => task.activate()))) as { passed: number }[];
    return found.reduce((sum, { passed }) => sum + passed, 0);
  };
  assert.equal(await look(), 0, "nothing was spent");
  await spend(fixture, path, 49n);
  assert.equal(await look(), 0);
  await spend(fixture, path, 46n);
  assert.equal(await look(), 4);
  assert.equal(await look(), 0);
  assert.deepEqual(await marksOf(database, inner.budget), ["50@100", "80@100", "90@100", "95@100"]);
  assert.deepEqual(await marksOf(database, outer.budget), []);

  // It looks at what moved, and after a while at everything; a clock set back does no harm.
  for (const [ms, amount, percent] of [
    [30_000, 2n, 0],
    [30_000, 2n, 0],
    [-7_200_000, 1n, 100],
    [3_600_000, 0n, 0],
  ] as const) {
    clock.ms += ms;
    await spend(fixture, path, amount);
    assert.equal(await look(), percent === 0 ? 0 : 1);
  }
  assert.equal((await marksOf(database, inner.budget)).at(-1), "100@100");
});

test("after a top-up only what it brought below a mark can pass it again", async () => {
  await using fixture = await openTestLedger();
  const { database, clock } = fixture;
  const budget = await fixture.openBudget(100n);
  const task = createMarksTask(database, clock, log);
  await spend(fixture, budget, 50n);
  await task.activate();
  await spend(fixture, budget, 42n);
  await task.activate();
  assert.deepEqual(await marksOf(database, budget.budget), ["50@100", "80@100", "90@100"]);

  // 92 of 110 is 83 %: still above 50 and 80, below 90.
  await topUp(fixture, budget.budget, 10n);
  assert.deepEqual(await task.activate(), { passed: 0 });
  await spend(fixture, budget, 8n);
  assert.deepEqual(await task.activate(), { passed: 1 });
  assert.equal((await marksOf(database, budget.budget)).at(-1), "90@110");

  // 100 of 300 is a third: every mark is ahead again. A look made anew knows as much.
  await topUp(fixture, budget.budget, 190n);
  await spend(fixture, budget, 145n);
  assert.deepEqual(await createMarksTask(database, clock, log).activate(), { passed: 2 });
  assert.deepEqual((await marksOf(database, budget.budget)).slice(-2), ["50@300", "80@300"]);
});

test("a project says its own marks, for its trials too", async () => {
  await using life = await openTrialLife({});
  await life.projects.apply({
    file_name: "autocode.yaml",
    folder: life.world.home,
    file_text:
      "project: p\ncurrency: CAD\nbudget: { total: 1, per_trial: 0.000002, alerts: [30, 60] }\n",
  });
  const trialId = await life.create();
  await life.engine.advance();
  await life.enrol(trialId);
  await payCall(life, { trialId, startedAtMs: 0, costNanos: 1_000n });
  const task = createMarksTask(life.db, life.world.clock, log);
  assert.deepEqual(await task.activate(), { passed: 1 });
  const trial = await life.ledger.findAccount("budget", `trial/${trialId}`);
  assert.ok(trial !== null);
  assert.deepEqual(await marksOf(life.world.database, trial), ["30@2000"]);
});

/** Goal: an agent is told what every budget on its way leaves, and never more. */
import assert from "node:assert/strict";
import { test } from "node:test";
import type { AccountId, TrialId } from "../../../orchestrator/runtime/ids.ts";
import { readAllowance } from "../../../orchestrator/trials/allowance.ts";
import { findTrial } from "../../../orchestrator/trials/rows.ts";
import { openTrialLife } from "../../support/trial-life.ts";

type Life = Awaited<ReturnType<typeof openTrialLife>>;

async function tell(life: Life, id: TrialId) {
  const trial = await findTrial(life.db.sql, id);
  assert.ok(trial !== null);
  return readAllowance({ db: life.db, clock: life.world.clock }, trial);
}

async function spend(life: Life, path: AccountId[], budget: AccountId, amountNanos: bigint) {
  const { ledger, ids, projects } = life;
  const { spend: to } = await projects.accounts(await projects.find("p"));
  const id = ids.next("transfer");
  const reservation = { id, budget, within: path, spend: to, amountNanos, timeoutMs: 60_000 };
  assert.equal((await ledger.reserve(reservation)).outcome, "reserved");
  const settlement = { id: ids.next("transfer"), pendingId: id, amountNanos };
  assert.equal((await ledger.settle(settlement)).outcome, "settled");
}

test("nothing before it has a worker; then its own budget, and the time of its allocation", async () => {
  await using life = await openTrialLife({});
  const id = await life.create();
  assert.equal(await tell(life, id), null);
  await life.engine.advance();
  assert.equal(await tell(life, id), null);
  await life.enrol(id);
  const { deadline_at, ...allowance } = (await tell(life, id)) ?? {};
  assert.deepEqual(allowance, {
    currency: "CAD",
    limit_nanos: "1000000",
    available_nanos: "1000000",
    percent_used: 0,
  });
  const aheadMs = Date.parse(deadline_at ?? "") - life.world.clock.now();
  assert.ok(aheadMs > 59_000 && aheadMs <= 60_000, `${aheadMs} ms`);
});

test("what it used counts, and the project's budget where that is less", async () => {
  await using life = await openTrialLife({});
  const id = await life.create();
  await life.engine.advance();
  await life.enrol(id);
  const budget = await life.ledger.findAccount("budget", `trial/${id}`);
  const { budget: project } = await life.projects.accounts(await life.projects.find("p"));
  assert.ok(budget !== null);
  await spend(life, [project], budget, 810_000n);
  const used = await tell(life, id);
  assert.deepEqual([used?.available_nanos, used?.percent_used], ["190000", 81]);

  const left = (await life.ledger.balance(project))?.availableNanos ?? 0n;
  await spend(life, [], project, left - 60_000n);
  const poor = await tell(life, id);
  assert.deepEqual([poor?.available_nanos, poor?.percent_used], ["60000", 81]);
});

/** Goal: a swap is paid by the budgets that pay a trial's calls, the day's too. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { createLedger } from "../../../orchestrator/ledger/postgres.ts";
import { createDays } from "../../../orchestrator/projects/day.ts";
import { createSwapPayer } from "../../../orchestrator/projects/swap-payer.ts";
import { openTrialLife } from "../../support/trial-life.ts";

test("the organisation, the project and its day enclose it; a trial that is gone is told", async () => {
  await using life = await openTrialLife({});
  const { db, projects, ids, world } = life;
  const { clock } = world;
  const days = createDays({ db, ledgerIn: (tx) => createLedger(tx, clock), ids, clock });
  const payer = createSwapPayer(db, projects, days);
  const id = await life.create();
  const project = await projects.find("p");
  const { organisation, budget, spend } = await projects.accounts(project);
  const plain = { within: [organisation, budget], spend, currency: "CAD" };
  assert.deepEqual(await payer(id), plain);
  await projects.apply({
    file_name: "autocode.yaml",
    folder: world.home,
    file_text:
      "project: p\ncurrency: CAD\nbudget: { total: 1, per_trial: 0.001, daily_allowance: 0.5 }\n",
  });
  const { within } = await payer(id);
  assert.deepEqual([within.length, within.slice(0, 2)], [3, [organisation, budget]]);
  await assert.rejects(payer(ids.next("trial")), /is gone/);
});

/** Goal: the metrics are the ledger's own sums, by scope, and count what expired once. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { createBudgetMetrics } from "../../../orchestrator/budgets/metrics.ts";
import { payCall } from "../../support/paid-call.ts";
import { openTrialLife } from "../../support/trial-life.ts";

test("budgets are measured by scope and unit, without an id in a label", async () => {
  await using life = await openTrialLife({});
  await life.projects.apply({
    file_name: "autocode.yaml",
    folder: life.world.home,
    file_text:
      "project: p\ncurrency: CAD\nbudget: { total: 1, daily_allowance: 0.5, per_trial: 0.001, " +
      "tokens: { total: 5000, per_trial: 1000 } }\n",
  });
  const trialId = await life.create();
  await life.engine.advance();
  await life.enrol(trialId);
  const metrics = createBudgetMetrics(life.db, life.world.clock);
  const read = async () => {
    const lines = (await metrics.text()).split("\n").filter((line) => /^autocode/.test(line));
    return Object.fromEntries(lines.map((line) => line.split(/ (?=[^ ]+$)/) as [string, string]));
  };
  await read();
  await payCall(life, { trialId, startedAtMs: 0, reservedNanos: 900n, costNanos: null });
  await life.ledger.abandon(life.world.clock.now());
  await payCall(life, { trialId, startedAtMs: 0, reservedNanos: 1_000n, costNanos: 700n });
  await payCall(life, { trialId, startedAtMs: 0, reservedNanos: 400n, costNanos: null });

  const [once, twice] = await Promise.all([read(), read()]);
  const of = (figure: string, scope: string) =>
    twice[`autocode_budget_${figure}_nanos{scope="${scope}",currency="CAD"}`];
  assert.deepEqual(
    ["reserved", "settled", "available"].map((figure) => of(figure, "project")),
    ["400", "1600", "999998000"],
  );
  assert.equal(of("available", "organisation"), undefined, "it has no limit");
  assert.equal(of("available", "day"), "500000000");
  assert.equal(of("available", "trial"), "998000");
  assert.equal(twice['autocode_budget_available_tokens{scope="project"}'], "5000");
  assert.equal(twice['autocode_budget_funded_tokens{scope="trial"}'], "1000");
  assert.equal(twice["autocode_ledger_reservations_open"], "1");
  assert.ok(Number(twice["autocode_ledger_reservation_age_max_ms"]) > 0);
  assert.ok(Number(twice["autocode_journal_lag_transfers"]) >= 6);
  assert.equal(once["autocode_ledger_reservations_expired_total"], "1");
  assert.equal(twice["autocode_ledger_reservations_expired_total"], "1");
  assert.deepEqual(
    Object.keys(twice).filter((name) => /[a-z]+_01[0-9a-z]{20}/.test(name)),
    [],
  );
});

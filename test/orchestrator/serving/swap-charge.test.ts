/**
 * Goal: a swap of models is paid by the trial that caused it: once, whoever charges it and however
 * often, never beyond a budget, and seen wherever a cost is.
 *
 * Method: a real project, trial, ledger and database; the swap is as an engine's end of turn writes
 * it down, and in one test whole: pairs on fake engines, and a trial in line for the one that is
 * not loaded. The ledger is audited at the end.
 */
import assert from "node:assert/strict";
import { test } from "node:test";
import { sql } from "drizzle-orm";
import type { FxRate } from "../../../models/prices.ts";
import { createBudgets } from "../../../orchestrator/budgets/postgres.ts";
import { createLedger } from "../../../orchestrator/ledger/postgres.ts";
import { createDays } from "../../../orchestrator/projects/day.ts";
import { createSwapPayer } from "../../../orchestrator/projects/swap-payer.ts";
import { systemClock } from "../../../orchestrator/runtime/clock.ts";
import { derivedId, type TrialId } from "../../../orchestrator/runtime/ids.ts";
import { createLog } from "../../../orchestrator/runtime/log.ts";
import { openServedModels } from "../../../orchestrator/serving/served-models.ts";
import { createSwapCharges, inCurrency } from "../../../orchestrator/serving/swap-charge.ts";
import { createCatalogPairs } from "../../../orchestrator/trials/catalog-pairs.ts";
import { createEgressEvents } from "../../../orchestrator/trials/egress-events.ts";
import { auditLedger } from "../../support/audit.ts";
import { eventually } from "../../support/eventually.ts";
import { catalog, openServedWorld, states } from "../../support/served-models.ts";
import { openTrialLife } from "../../support/trial-life.ts";

type Life = Awaited<ReturnType<typeof openTrialLife>>;

/** 1 USD = 1.40 CAD. */
const FX: FxRate = {
  ...{ from: "USD", to: "CAD", rateNanos: 1_400_000_000n },
  ...{ effectiveFrom: "2025-01-01", effectiveFromMs: Date.parse("2025-01-01"), source: "a test" },
};

function chargesOf({ db, projects, ids, world }: Life) {
  const { clock } = world;
  const ledgerIn = (tx: Parameters<typeof createLedger>[0]) => createLedger(tx, clock);
  const days = createDays({ db, ledgerIn, ids, clock });
  return createSwapCharges({
    ...{ db, ledgerIn, fx: [FX], clock, log: createLog("silent") },
    payer: createSwapPayer(db, projects, days),
    tell: createEgressEvents(db, clock).tell,
  });
}

async function writeSwap(
  { db, world }: Life,
  trialId: TrialId,
  swap: { name: string; costNanos: bigint | null; currency?: string },
): Promise<string> {
  const id = derivedId("transfer", "swap", swap.name);
  const currency = swap.costNanos === null ? null : (swap.currency ?? "CAD");
  await db.sql.execute(sql`
    insert into model_swap (transfer_id, trial_id, pair, side, model, ended_at, duration_ms, gpu_ms,
      cost_nanos, currency)
    values (${id}, ${trialId}, 'coder-14b', 'normal', 'm', ${new Date(world.clock.now()).toISOString()},
      1000, 2000, ${swap.costNanos}::bigint, ${currency})`);
  return id;
}

async function toldOf({ trials }: Life, id: TrialId) {
  const events = await trials.events(id, 0, 1_000);
  return events.filter(({ type }) => type === "model.swapped").map(({ data }) => data);
}

test("who waits in line pays once it has a budget; once, at most what is left, and seen", async () => {
  await using life = await openTrialLife({});
  const { db, ledger, projects, world } = life;
  const charges = chargesOf(life);
  const id = await life.create();
  // Of its 1,000,000 the first takes 700 (USD 500); the second more than is left.
  const first = await writeSwap(life, id, { name: "1", costNanos: 500n, currency: "USD" });
  assert.equal(await charges.settle(), 0, "it has no budget yet");
  assert.deepEqual(await toldOf(life, id), []);
  await life.engine.advance();
  await life.enrol(id);
  const told = await Promise.all([charges.settle(), charges.settle(), charges.settle()]);
  assert.equal(
    told.reduce((sum, count) => sum + count, 0),
    1,
  );
  const second = await writeSwap(life, id, { name: "2", costNanos: 2_000_000n });
  await charges.settle();
  await charges.settle();
  const third = await writeSwap(life, id, { name: "3", costNanos: 5n });
  const unpriced = await writeSwap(life, id, { name: "4", costNanos: null });
  const foreign = await writeSwap(life, id, { name: "5", costNanos: 1n, currency: "CHF" });
  await charges.settle();

  const facts = { pair: "coder-14b", side: "normal", duration_ms: 1_000, gpu_ms: 2_000 };
  const cad = { ...facts, currency: "CAD" };
  const short = (left: string) => `the trial's budget had ${left} left`;
  const none = (transfer_id: string, uncharged_nanos: string | null, uncharged_reason: string) => {
    return { ...cad, transfer_id, charged_nanos: "0", uncharged_nanos, uncharged_reason };
  };
  const events = await toldOf(life, id);
  const byId = (one: { transfer_id?: unknown }, other: { transfer_id?: unknown }) =>
    String(one.transfer_id) < String(other.transfer_id) ? -1 : 1;
  assert.deepEqual(
    events.toSorted(byId),
    [
      { ...cad, transfer_id: first, charged_nanos: "700" },
      {
        ...{ ...cad, transfer_id: second, charged_nanos: "999300", uncharged_nanos: "1000700" },
        uncharged_reason: short("0.000999 CAD"),
      },
      none(third, "5", short("nothing")),
      none(unpriced, null, "the plan of its pair has no price"),
      none(foreign, null, "no exchange rate gives CHF in CAD"),
    ].toSorted(byId),
  );

  const trial = await life.trials.get(id);
  assert.deepEqual(
    [trial.swap_nanos, trial.budget?.spent_nanos, trial.budget?.available_nanos],
    ["1000000", "1000000", "0"],
  );
  const budgets = createBudgets({ db, ledger, projects, clock: world.clock });
  const { lines } = await budgets.statement(id, { limit: 50 });
  assert.deepEqual(
    lines.filter(({ kind }) => kind === "post").map((line) => [line.reason, line.amount_nanos]),
    [
      ["swap", "999300"],
      ["swap", "700"],
    ],
  );
  await db.sql.execute(sql`update trial set state = 'succeeded', verdict = 'passed',
    ended_at = now() where id = ${id}`);
  const costs = await budgets.costs("p", "phase");
  assert.equal(costs.cost_per_success_nanos, "1000000");
  assert.deepEqual(
    costs.rows.map(({ group, cost_nanos: cost }) => [group, cost]),
    [["model swap", "1000000"]],
  );
  const exported = JSON.parse(await budgets.exportSpend("p", { format: "json" }));
  assert.deepEqual(
    exported.map((line: Record<string, string>) => [line["x_CostNanos"], line["x_GpuMs"]]),
    [
      ["700", "2000"],
      ["999300", "2000"],
    ],
  );
  await auditLedger(world.database);
});

test("a trial in line has its pair loaded, begins then, and pays for the swap", async () => {
  const pairs = createCatalogPairs(
    catalog,
    () => [],
    () => null,
    systemClock,
  );
  await using life = await openTrialLife({ waitFor: pairs.waitFor });
  const { db, ledger, projects, ids, world } = life;
  const { clock, database } = world;
  const ledgerIn = (tx: Parameters<typeof createLedger>[0]) => createLedger(tx, clock);
  await using served = await openServedWorld({
    ...{ database, swapMs: 50, tell: createEgressEvents(db, clock).tell },
    payer: createSwapPayer(db, projects, createDays({ db, ledgerIn, ids, clock })),
  });
  await using known = await openServedModels(
    { db: database, clock: systemClock, log: createLog("silent") },
    pairs.serve,
    { periodMs: 60_000, waitMaxMs: 1_000 },
  );
  const look = async () => {
    await served.servers.task.activate();
    const list = await served.models.list();
    return list.map((each) => `${each.pair} ${states(each)}`).toSorted();
  };
  const until = (...wanted: string[]) =>
    eventually(look, (now) => now.join() === wanted.join(), 30_000);
  for (const pair of ["14b", "7b"]) {
    await served.models.up({ plan: { pair, gpu: "h100", gpu_count: 2 } });
  }
  // Each is seen to answer once, and the second has the GPUs then.
  await until("coder-14b sleeping sleeping", "coder-7b ready ready");

  const cell = { project: "p", agent: "aider", pair: "coder-14b", task: "task" };
  const { id: created } = await life.trials.create({ ...cell, limit_nanos: "500000000" });
  const id = created as TrialId;
  await known.refresh();
  await life.engine.advance();
  assert.equal((await life.trials.get(id)).state, "queued");
  await until("coder-14b ready ready", "coder-7b sleeping sleeping");
  assert.deepEqual(await toldOf(life, id), [], "it has no budget yet");
  await known.refresh();
  await life.engine.advance();
  await life.enrol(id);
  await served.servers.task.activate();

  // A row for each of its models.
  const told = await toldOf(life, id);
  assert.deepEqual(told.map(({ side }) => side).toSorted(), ["normal", "thinking"]);
  const charged = told.reduce((sum, each) => sum + BigInt(String(each["charged_nanos"])), 0n);
  assert.ok(charged > 0n);
  assert.ok(told.every((each) => each["uncharged_reason"] === undefined));
  const trial = await life.trials.get(id);
  assert.deepEqual(
    [trial.swap_nanos, trial.budget?.spent_nanos],
    [String(charged), String(charged)],
  );
  const budgets = createBudgets({ db, ledger, projects, clock });
  const { lines } = await budgets.statement(id, { limit: 50 });
  assert.equal(lines.filter(({ reason, kind }) => reason === "swap" && kind === "post").length, 2);
  await auditLedger(database);
});

test("a trial that ended without a budget pays nothing, and one that is gone holds nobody", async () => {
  await using life = await openTrialLife({});
  const charges = chargesOf(life);
  const id = await life.create();
  await writeSwap(life, id, { name: "1", costNanos: 7n });
  const gone = life.ids.next("trial");
  await writeSwap(life, gone, { name: "2", costNanos: 7n });
  await life.db.sql.execute(sql`update trial set state = 'cancelled', ended_at = now()
    where id = ${id}`);
  await charges.settle();
  const [event] = await toldOf(life, id);
  assert.deepEqual(
    [event?.["charged_nanos"], event?.["uncharged_nanos"], event?.["uncharged_reason"]],
    ["0", "7", "the trial ended before it had a budget"],
  );
  assert.equal(await charges.settle(), 0);
  await auditLedger(life.world.database);
});

test("a plan's currency becomes the project's by the newest rate in force, rounded up", () => {
  const later = { ...FX, rateNanos: 1_500_000_000n, effectiveFromMs: Date.parse("2027-01-01") };
  const at = (day: string) => inCurrency([FX, later], 3n, "USD", "CAD", Date.parse(day));
  assert.deepEqual([at("2024-06-01"), at("2026-06-01"), at("2027-06-01")], [null, 5n, 5n]);
  assert.equal(inCurrency([], 3n, "CAD", "CAD", 0), 3n);
});

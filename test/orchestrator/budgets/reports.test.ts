/**
 * Goal: what people are told of money is what the ledger holds: at every level and at any time,
 * by agent, task and phase, and to the last nano-unit in what is exported.
 */
import assert from "node:assert/strict";
import { test } from "node:test";
import { sql } from "drizzle-orm";
import { createMarksTask } from "../../../orchestrator/budgets/marks.ts";
import { createBudgets } from "../../../orchestrator/budgets/postgres.ts";
import type { TrialId } from "../../../orchestrator/runtime/ids.ts";
import { createLog } from "../../../orchestrator/runtime/log.ts";
import { auditLedger } from "../../support/audit.ts";
import { payCall } from "../../support/paid-call.ts";
import { openTrialLife } from "../../support/trial-life.ts";

type Life = Awaited<ReturnType<typeof openTrialLife>>;

const CAD = (nanos: bigint) => ({ amount_nanos: String(nanos), currency: "CAD" });
const FILE = `project: p
currency: CAD
time_zone: America/Toronto
budget:
  total: 1
  daily_allowance: 0.5
  per_trial: 0.00001
  tokens: { total: 1000000, per_trial: 1000, daily: 5000 }
  top_ups: [{ amount: 2, every: month, starting: 2026-12-01 }]
`;

function budgetsOf({ db, ledger, projects, world }: Life) {
  return createBudgets({ db, ledger, projects, clock: world.clock });
}

async function apply(life: Life, file_text = FILE): Promise<void> {
  await life.projects.apply({ file_name: "autocode.yaml", folder: life.world.home, file_text });
}

async function openRunning(life: Life): Promise<TrialId> {
  const id = await life.create();
  await life.engine.advance();
  await life.enrol(id);
  return id;
}

async function verdict(life: Life, id: TrialId, passed: boolean): Promise<void> {
  await life.db.sql.execute(sql`update trial set state = ${passed ? "succeeded" : "failed"},
    verdict = ${passed ? "passed" : "failed"}, ended_at = now() where id = ${id}`);
}

test("a budget is shown at every level, with tokens, marks, pace and the next top-up", async () => {
  await using life = await openTrialLife({});
  await apply(life);
  const budgets = budgetsOf(life);
  const trialId = await openRunning(life);
  await payCall(life, { trialId, startedAtMs: 0, reservedNanos: 9_000n, costNanos: 8_500n });

  const shown = await budgets.get(trialId);
  assert.equal(shown.owner, `trial/${trialId}`);
  assert.equal(shown.project, "p");
  assert.equal(shown.time_zone, "America/Toronto");
  assert.equal(shown.balance.available_nanos, "1500");
  assert.deepEqual(shown.next_top_up, {
    at: "2026-12-01T05:00:00.000Z",
    date: "2026-12-01",
    every: "month",
    amount_nanos: "2000000000",
  });
  const projectId = (await life.projects.get("p")).id;
  assert.deepEqual(
    shown.levels.map(({ scope, balance, passed, is_limited, burn }) => [
      ...[scope, balance.currency, balance.available_nanos, passed.at(-1) ?? null],
      ...[is_limited, burn.basis, burn.last_hour_nanos],
    ]),
    [
      ["organisation", "CAD", "0", null, false, "not_limited", "8500"],
      ["project", "CAD", "999991500", null, true, "not_enough_history", "8500"],
      ["day", "CAD", "500000000", null, true, "not_spending", "0"],
      ["trial", "CAD", "1500", 80, true, "not_enough_history", "8500"],
      ["project", "TOK", "1000000", null, true, "not_spending", "0"],
      ["day", "TOK", "5000", null, true, "not_spending", "0"],
      ["trial", "TOK", "1000", null, true, "not_spending", "0"],
    ],
  );
  const ofProject = await budgets.get("p");
  assert.equal(ofProject.owner, `project/${projectId}`);
  assert.equal(ofProject.levels.length, 5);

  const topped = await budgets.topUp(trialId, { amount_nanos: "24", currency: "TOK" }, "key");
  assert.equal(topped.owner, `tokens/trial/${trialId}`);
  assert.equal(topped.balance.available_nanos, "1024");
  const { lines } = await budgets.statement(trialId, { limit: 50, unit: "tokens" });
  assert.deepEqual(
    lines.map((line) => [line.reason, line.amount_nanos, line.available_nanos]),
    [
      ["topup", "24", "1024"],
      ["limit", "1000", "1000"],
    ],
  );
  await auditLedger(life.world.database);
});

test("where no tokens are rationed there is nothing to top up, and nothing to state", async () => {
  await using life = await openTrialLife({});
  const budgets = budgetsOf(life);
  const message = "This budget rations no tokens; set budget.tokens in the project's file first";
  const topUp = budgets.topUp("p", { amount_nanos: "24", currency: "TOK" }, "key");
  await assert.rejects(topUp, { code: "invalid_request", message });
  await assert.rejects(budgets.statement("p", { limit: 1, unit: "tokens" }), { message });
});

test("a budget is shown as it was at a past time", async () => {
  await using life = await openTrialLife({});
  const budgets = budgetsOf(life);
  const trialId = await openRunning(life);
  const before = await budgets.get("p");
  await payCall(life, { trialId, startedAtMs: 0 });
  await budgets.topUp("p", CAD(5n), "key");
  const now = await budgets.get("p");
  const past = await budgets.get("p", before.at);
  assert.deepEqual(past, before);
  assert.equal(
    BigInt(now.balance.available_nanos),
    BigInt(before.balance.available_nanos) - 700n + 5n,
  );
  const unborn = await budgets.get("p", "2020-01-01");
  assert.equal(unborn.balance.funded_nanos, "0");
  await assert.rejects(budgets.get("p", "9990-01-01"), {
    message: /^querystring\.at: .*yet to come/,
  });
  await assert.rejects(budgets.get("p", "soon"), {
    message: /^querystring\.at: "soon" is no time/,
  });
});

test("100 top-ups at once with one key move the money once", async () => {
  await using life = await openTrialLife({});
  const budgets = budgetsOf(life);
  const before = BigInt((await budgets.get("p")).balance.funded_nanos);
  const topUps = Array.from({ length: 100 }, () => budgets.topUp("p", CAD(7n), "one"));
  await Promise.all(topUps);
  assert.equal(BigInt((await budgets.get("p")).balance.funded_nanos), before + 7n);
  const [line] = (await budgets.statement("p", { limit: 1 })).lines;
  assert.equal(line?.available_nanos, String(before + 7n));
  assert.equal(line?.note, null);
  await auditLedger(life.world.database);
});

test("income is recorded once for a key, and profit is told by agent and pair", async () => {
  await using life = await openTrialLife({});
  const budgets = budgetsOf(life);
  const [first, second] = [await openRunning(life), await openRunning(life)];
  await payCall(life, { trialId: first, startedAtMs: 0 });
  await payCall(life, { trialId: second, startedAtMs: 0, costNanos: 300n });
  await verdict(life, first, true);

  const income = { ...CAD(5_000n), note: "invoice 7" };
  const recorded = await budgets.recordIncome(first, income, "key");
  assert.deepEqual(recorded, {
    owner: `trial/${first}`,
    currency: "CAD",
    income_nanos: "5000",
  });
  assert.deepEqual(await budgets.recordIncome(first, income, "key"), recorded);
  await budgets.recordIncome("p", CAD(100n), "key");
  await assert.rejects(budgets.recordIncome("p", CAD(101n), "key"), {
    code: "idempotency_mismatch",
  });
  await assert.rejects(budgets.recordIncome("p", { ...CAD(1n), currency: "EUR" }, "x"), {
    message: "currency: this budget is in CAD, not EUR",
  });
  assert.deepEqual(await budgets.profit("p"), {
    project: "p",
    currency: "CAD",
    income_nanos: "5100",
    cost_nanos: "1000",
    result_nanos: "4100",
    rows: [
      {
        ...{ agent: "aider", pair: "any", trials: 2, passed: 1 },
        ...{ income_nanos: "5000", cost_nanos: "1000", result_nanos: "4000" },
      },
      {
        ...{ agent: null, pair: null, trials: 0, passed: 0 },
        ...{ income_nanos: "100", cost_nanos: "0", result_nanos: "100" },
      },
    ],
  });
});

test("costs are told by agent, task and phase, failed trials paid for by the successes", async () => {
  await using life = await openTrialLife({});
  const budgets = budgetsOf(life);
  const [first, second] = [await openRunning(life), await openRunning(life)];
  const { projectId } = await phaseStarted(life, first, "plan", 1_000);
  await phaseStarted(life, first, "edit", 2_000);
  await payCall(life, { trialId: first, startedAtMs: 1_500 });
  await payCall(life, { trialId: first, startedAtMs: 2_500, costNanos: 301n });
  await payCall(life, { trialId: second, startedAtMs: 1_500, costNanos: 100n });
  // Nobody settles this one: it expires, and is charged in full.
  await payCall(life, { trialId: second, startedAtMs: 0, reservedNanos: 50n, costNanos: null });
  await life.ledger.abandon(life.world.clock.now());
  await verdict(life, first, true);
  await verdict(life, second, false);

  const whole = { trials: 2, passed: 1, cost_nanos: "1151", cost_per_success_nanos: "1151" };
  for (const [by, group] of [
    ["agent_pair", "aider / any"],
    ["agent", "aider"],
    ["pair", "any"],
    ["task", "task"],
  ] as const) {
    const report = await budgets.costs("p", by);
    assert.deepEqual(report, {
      ...{ project: "p", currency: "CAD", by, ...whole },
      rows: [{ group, tokens: "45", ...whole }],
    });
  }
  const { rows } = await budgets.costs("p", "phase");
  assert.deepEqual(
    rows.map((row) => [row.group, row.trials, row.cost_nanos, row.cost_per_success_nanos]),
    [
      ["plan", 1, "700", "700"],
      ["edit", 1, "301", "301"],
      ["no phase", 1, "100", null],
      ["no call", 1, "50", null],
    ],
  );
  assert.ok(projectId.startsWith("project_"));
});

async function phaseStarted(life: Life, trialId: TrialId, phase: string, atMs: number) {
  const { id: projectId } = await life.projects.find("p");
  await life.db.sql.execute(sql`insert into event (project_id, trial_id, type, data, at)
    values (${projectId}, ${trialId}, 'phase.started', ${JSON.stringify({ phase })}::jsonb,
      ${new Date(atMs).toISOString()})`);
  return { projectId };
}

test("the export adds up to what was spent, with what expired and what was taken back", async () => {
  await using life = await openTrialLife({});
  const budgets = budgetsOf(life);
  const trialId = await openRunning(life);
  const { ledger, ids } = life;
  await payCall(life, { trialId, startedAtMs: 1_000 });
  const wrong = await payCall(life, { trialId, startedAtMs: 2_000 });
  await payCall(life, { trialId, startedAtMs: 3_000, costNanos: null });
  await ledger.abandon(life.world.clock.now());
  const back = { id: ids.next("transfer"), transferId: wrong.settleId, amountNanos: 200n };
  assert.equal((await ledger.reverse({ ...back, note: "billed twice" })).outcome, "reversed");
  // Expired while its holder lived: the late settlement corrects it.
  const late = await payCall(life, { trialId, startedAtMs: 0, costNanos: null });
  await ledger.abandon(life.world.clock.now());
  const settlement = { id: late.settleId, pendingId: late.pendingId, amountNanos: 600n };
  assert.equal((await ledger.settle(settlement)).outcome, "corrected");
  await life.db.sql.execute(sql`insert into call
    select ${ids.next("call")}, trial_id, key_id, ${late.pendingId}, wire, side, model,
      model_requested, provider, price_version, reserved_nanos, 600, 1, 0, 0, 1, 0, false, 200,
      null, null, null, started_at, null, ended_at
    from call where transfer_id = ${wrong.pendingId}`);

  const text = await budgets.exportSpend("p", { format: "json" });
  const lines = JSON.parse(text) as Record<string, string>[];
  const billed = lines.map((line) => [
    line["x_CostNanos"],
    line["ChargeClass"],
    line["x_IsEstimated"],
  ]);
  assert.deepEqual(billed.map((cells) => cells.join(" ")).sort(), [
    "-200 Correction false",
    "1000  true",
    "600  false",
    "700  false",
    "700  false",
  ]);
  const sum = lines.reduce((total, line) => total + BigInt(line["x_CostNanos"] ?? ""), 0n);
  const { balance } = await budgets.get("p");
  assert.equal(String(sum), balance.spent_nanos);
  const total = lines.reduce((units, line) => units + Number(line["BilledCost"]), 0);
  assert.equal(total.toFixed(9), "0.000002800");
  assert.equal(
    lines.find((line) => line["ChargeClass"] === "Correction")?.["x_Note"],
    "billed twice",
  );
});

test("what happened to budgets is told newest first, page by page", async () => {
  await using life = await openTrialLife({});
  await apply(life);
  const budgets = budgetsOf(life);
  const trialId = await openRunning(life);
  await payCall(life, { trialId, startedAtMs: 0, reservedNanos: 9_000n, costNanos: 9_000n });
  await createMarksTask(life.db, life.world.clock, createLog("silent")).activate();

  const all = await budgets.events("p", { limit: 50 });
  assert.deepEqual(
    all.events.map(({ scope, kind, percent }) => [scope, kind, percent]),
    [
      ["trial", "threshold", 90],
      ["trial", "threshold", 80],
      ["trial", "threshold", 50],
      ["day", "replenished", null],
    ],
  );
  assert.equal(all.next_cursor, null);
  const first = await budgets.events("p", { limit: 3 });
  const rest = await budgets.events("p", { limit: 3, before: first.next_cursor ?? "" });
  assert.deepEqual([...first.events, ...rest.events], all.events);
  assert.equal((await budgets.events(trialId, { limit: 50 })).events.length, 3);
  await assert.rejects(budgets.events("p", { limit: 1, before: "x" }), { code: "invalid_request" });
});

test("adherence: the most ever used of each budget, whatever was given back since", async () => {
  await using life = await openTrialLife({});
  const budgets = budgetsOf(life);
  const trialId = await openRunning(life);
  const { ledger, ids } = life;
  const open = await payCall(life, {
    trialId,
    startedAtMs: 0,
    reservedNanos: 600n,
    costNanos: null,
  });
  const paid = await payCall(life, {
    trialId,
    startedAtMs: 0,
    reservedNanos: 900n,
    costNanos: 100n,
  });
  await ledger.release({ id: ids.next("transfer"), pendingId: open.pendingId });
  const back = { id: ids.next("transfer"), transferId: paid.settleId, note: "a gift" };
  assert.equal((await ledger.reverse(back)).outcome, "reversed");

  const report = await budgets.adherence("p", { limit: 50 });
  const [project, trial] = report.rows;
  assert.deepEqual([report.is_within, report.budget_count, report.next_cursor], [true, 2, null]);
  assert.deepEqual(
    [project, trial].map((row) => [row?.scope, row?.limit_nanos, row?.peak_nanos]),
    [
      ["project", "1000000000", "1500"],
      ["trial", "1000000", "1500"],
    ],
  );
  assert.equal(trial?.least_available_nanos, "998500");
  assert.ok(trial?.peak_at !== null);
  assert.equal(report.journal, null, "nothing is signed yet");

  const first = await budgets.adherence("p", { limit: 1 });
  const second = await budgets.adherence("p", { limit: 1, before: first.next_cursor ?? "" });
  assert.deepEqual([...first.rows, ...second.rows], report.rows);
  assert.equal(second.next_cursor, null);

  await life.db.sql.execute(sql`insert into journal_entry
    select row_number() over (order by seq), id, sha256('x') from transfer order by seq limit 3`);
  await life.db.sql.execute(sql`insert into journal_checkpoint
    values (2, sha256('x'), '2026-11-21T12:00:00Z', 'file:1', 'signature')`);
  const { journal } = await budgets.adherence("p", { limit: 1 });
  assert.deepEqual(
    [journal?.position, journal?.key_id, journal?.signed_at],
    [2, "file:1", "2026-11-21T12:00:00.000Z"],
  );
  assert.ok((journal?.covered_transfers ?? 0) <= 2 && (journal?.all_transfers ?? 0) >= 6);
});

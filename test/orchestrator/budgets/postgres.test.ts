/**
 * Goal: a top-up moves the money once for one key, whatever is asked with that key; a statement is
 * read page by page without a gap; the spend export has every call of the project, exactly.
 */
import assert from "node:assert/strict";
import { test } from "node:test";
import { createBudgets } from "../../../orchestrator/budgets/postgres.ts";
import type { Statement } from "../../../orchestrator/contract/budgets.ts";
import type { TrialId } from "../../../orchestrator/runtime/ids.ts";
import { auditLedger } from "../../support/audit.ts";
import { payCall } from "../../support/paid-call.ts";
import { openTrialLife } from "../../support/trial-life.ts";

const UNIT = 1_000_000_000n;
const CAD = (amountNanos: bigint) => ({ amount_nanos: String(amountNanos), currency: "CAD" });
const DAY_MS = 86_400_000;
const STARTED_MS = Date.parse("2026-11-20T12:00:00Z");

type Life = Awaited<ReturnType<typeof openTrialLife>>;

function budgetsOf({ db, ledger, projects, world }: Life) {
  return createBudgets({ db, ledger, projects, clock: world.clock });
}

/** A trial whose agent runs, with its key. */
async function openRunning(life: Life): Promise<TrialId> {
  const id = await life.create();
  await life.engine.advance();
  await life.enrol(id);
  return id;
}

test("a top-up with one key moves the money once, however often and at once it is asked", async () => {
  await using life = await openTrialLife({});
  const budgets = budgetsOf(life);
  const funded = async () => BigInt((await budgets.get("p")).balance.funded_nanos);
  const before = await funded();

  const first = await budgets.topUp("p", CAD(2n * UNIT), "key-1");
  assert.equal(BigInt(first.balance.funded_nanos), before + 2n * UNIT);
  assert.deepEqual(await budgets.topUp("p", CAD(2n * UNIT), "key-1"), first);
  await Promise.all([1, 2, 3, 4].map(() => budgets.topUp("p", CAD(UNIT), "key-2")));
  assert.equal(await funded(), before + 3n * UNIT);

  await assert.rejects(budgets.topUp("p", CAD(UNIT), "key-1"), {
    code: "idempotency_mismatch",
    message: "Idempotency-Key: it has moved another amount; use a new key for a new top-up",
  });
  const trial = await openRunning(life);
  const topped = await budgets.topUp(trial, CAD(5n), "key-1");
  assert.equal(topped.owner, `trial/${trial}`, "another budget's key is another key");
  assert.equal(topped.balance.funded_nanos, "1000005");
  assert.equal(await funded(), before + 3n * UNIT);
  await auditLedger(life.world.database);
});

test("a top-up that cannot be is refused by its field, and moves nothing", async () => {
  await using life = await openTrialLife({});
  const budgets = budgetsOf(life);
  const before = await budgets.get("p");
  const waiting = await life.create();
  const refusals: readonly [string, ReturnType<typeof CAD>, string, RegExp][] = [
    ["p", { ...CAD(1n), currency: "USD" }, "invalid_request", /^currency: .*in CAD, not USD$/],
    ["p", CAD(0n), "invalid_request", /^amount_nanos: must be more than 0/],
    ["p", CAD(2n ** 63n - 1n), "invalid_request", /^amount_nanos: .* fit the ledger$/],
    ["q", CAD(1n), "not_found", /no project "q"/],
    ["trial_01jd7sm1g0e0080000000000t1", CAD(1n), "not_found", /no trial trial_/],
    [waiting, CAD(1n), "conflict", /no budget yet/],
  ];
  for (const [name, wanted, code, message] of refusals) {
    await assert.rejects(budgets.topUp(name, wanted, "key"), { code, message });
  }
  assert.deepEqual((await budgets.get("p")).balance, before.balance);
  const { owner, balance } = before;
  assert.deepEqual(await budgets.list(), [{ owner, balance }]);
});

test("a key that has moved its money is answered as before, also when the budget is full", async () => {
  await using life = await openTrialLife({});
  const budgets = budgetsOf(life);
  const most = 2n ** 62n;
  const full = await budgets.topUp("p", CAD(most), "key");
  assert.deepEqual(await budgets.topUp("p", CAD(most), "key"), full);
});

test("the last money of all budgets together is refused, not failed", async () => {
  await using life = await openTrialLife({});
  const budgets = budgetsOf(life);
  await life.projects.apply({
    file_name: "autocode.yaml",
    folder: life.world.home,
    file_text: "project: q\ncurrency: CAD\nbudget: { total: 1, per_trial: 1 }\n",
  });
  await budgets.topUp("p", CAD(2n ** 62n), "key");
  const refused = { code: "invalid_request", message: /^amount_nanos: .* fit the ledger$/ };
  await assert.rejects(budgets.topUp("q", CAD(2n ** 62n), "key"), refused);
});

test("a statement has each movement once, page by page, newest first", async () => {
  await using life = await openTrialLife({});
  const budgets = budgetsOf(life);
  const trial = await openRunning(life);
  for (let call = 0; call < 3; call++)
    await payCall(life, { trialId: trial, startedAtMs: STARTED_MS });
  for (let key = 0; key < 4; key++) await budgets.topUp("p", CAD(1n), `key-${key}`);

  for (const [name, kinds] of [
    ["p", { direct: 5, pending: 3, post: 3 }],
    [trial, { direct: 1, pending: 3, post: 3 }],
  ] as const) {
    const whole = await budgets.statement(name, { limit: 100 });
    assert.equal(whole.next_cursor, null);
    assert.deepEqual(
      Object.fromEntries(
        [...Map.groupBy(whole.lines, ({ kind }) => kind)].map(([kind, of]) => [kind, of.length]),
      ),
      kinds,
    );
    const times = whole.lines.map(({ at }) => at);
    assert.deepEqual(times, times.toSorted().toReversed());
    const paged: Statement["lines"] = [];
    for (let before: string | null | undefined; before !== null; ) {
      const options = { limit: 2, ...(before === undefined ? {} : { before }) };
      const page: Statement = await budgets.statement(name, options);
      paged.push(...page.lines);
      before = page.next_cursor;
    }
    assert.deepEqual(paged, whole.lines);
    assert.equal(whole.balance.spent_nanos, "2100");
  }
});

test("the spend export has every call of the project, in time bounds, as csv and json", async () => {
  await using life = await openTrialLife({});
  const budgets = budgetsOf(life);
  const trial = await openRunning(life);
  for (const day of [0, 1, 2])
    await payCall(life, { trialId: trial, startedAtMs: STARTED_MS + day * DAY_MS });
  const json = async (options = {}) =>
    JSON.parse(await budgets.exportSpend("p", { format: "json", ...options })) as Record<
      string,
      string
    >[];

  const all = await json();
  assert.deepEqual(
    all.map((row) => [row["BilledCost"], row["ChargePeriodStart"]?.slice(0, 10)]),
    ["20", "21", "22"].map((day) => ["0.000000700", `2026-11-${day}`]),
  );
  assert.deepEqual(
    new Set(all.map((row) => [row["x_TrialId"], row["SubAccountName"], row["x_Agent"]].join(" "))),
    new Set([`${trial} p aider`]),
  );
  assert.deepEqual(await json({ since: "2026-11-21", until: "2026-11-22" }), all.slice(1, 2));
  assert.deepEqual(await json({ since: "2027-01-01" }), []);

  const csv = (await budgets.exportSpend("p", { format: "csv" })).split("\r\n");
  assert.equal(csv.length, 1 + all.length + 1);
  assert.equal(csv[0]?.split(",").length, Object.keys(all[0] ?? {}).length);
  assert.ok(csv[1]?.startsWith("0.000000700,"));

  await assert.rejects(json({ since: "yesterday" }), {
    code: "invalid_request",
    message: /^since: "yesterday" is no time; use /,
  });
  const unknown = budgets.exportSpend("q", { format: "csv" });
  await assert.rejects(unknown, { code: "not_found" });
});

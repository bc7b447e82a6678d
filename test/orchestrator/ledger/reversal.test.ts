/** Putting things right: reversals, income, notes, and what a huge amount does. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { NANOS_MAX } from "../../../orchestrator/money.ts";
import { auditLedger } from "../../support/audit.ts";
import { amounts, openTestLedger } from "../../support/ledger.ts";

test("a charge is taken back in parts, on every budget that had paid, and never above it", async () => {
  await using fixture = await openTestLedger();
  const { ledger, ids, database } = fixture;
  const { budget: project } = await fixture.openBudget(1_000n);
  const { budget, spend } = await fixture.openBudget(100n);
  const pendingId = ids.next("transfer");
  const reservation = { budget, within: [project], spend, amountNanos: 80n, timeoutMs: 1_000 };
  await ledger.reserve({ id: pendingId, ...reservation });
  const transferId = ids.next("transfer");
  await ledger.settle({ id: transferId, pendingId, amountNanos: 60n });

  const note = "charged twice by the provider";
  const part = { id: ids.next("transfer"), transferId, amountNanos: 25n, note };
  assert.deepEqual(await ledger.reverse(part), { outcome: "reversed", amountNanos: 25n });
  assert.deepEqual(await ledger.reverse(part), { outcome: "already_reversed" });
  const whole = { transferId, note };
  assert.deepEqual(await ledger.reverse({ id: ids.next("transfer"), ...whole, amountNanos: 36n }), {
    outcome: "exceeds_transfer",
    remainingNanos: 35n,
  });
  // Everybody at once: the sum stays within the original.
  const rivals = await Promise.all(
    Array.from({ length: 6 }, () =>
      ledger.reverse({ id: ids.next("transfer"), ...whole, amountNanos: 10n }),
    ),
  );
  assert.equal(rivals.filter(({ outcome }) => outcome === "reversed").length, 3);
  const rest = await ledger.reverse({ id: ids.next("transfer"), ...whole });
  assert.deepEqual(rest, { outcome: "reversed", amountNanos: 5n });
  assert.deepEqual(await ledger.reverse({ id: ids.next("transfer"), ...whole }), {
    outcome: "exceeds_transfer",
    remainingNanos: 0n,
  });
  for (const [account, fundedNanos] of [
    [budget, 100n],
    [project, 1_000n],
  ] as const) {
    const untouched = { fundedNanos, reservedNanos: 0n, spentNanos: 0n };
    assert.deepEqual(amounts(await ledger.balance(account)), {
      ...untouched,
      availableNanos: fundedNanos,
    });
    const [line] = (await ledger.statement(account, { limit: 20 })).slice(-4, -3);
    assert.deepEqual([line?.reason, line?.note, line?.reversesId], ["reversal", note, transferId]);
  }
  assert.equal(amounts(await ledger.balance(spend)).fundedNanos, 0n);
  await auditLedger(database);
});

test("what is no charge or funding is not reversed; funds that are used stay", async () => {
  await using fixture = await openTestLedger();
  const { ledger, ids, database } = fixture;
  const { budget, spend } = await fixture.openBudget(100n);
  const reverse = (transferId: `transfer_${string}`, amountNanos?: bigint) =>
    ledger.reverse({
      id: ids.next("transfer"),
      transferId,
      note: "a test",
      ...(amountNanos === undefined ? {} : { amountNanos }),
    });
  assert.deepEqual(await reverse(ids.next("transfer")), { outcome: "transfer_not_found" });

  const pendingId = ids.next("transfer");
  await ledger.reserve({
    id: pendingId,
    budget,
    within: [],
    spend,
    amountNanos: 30n,
    timeoutMs: 9,
  });
  assert.deepEqual(await reverse(pendingId), { outcome: "not_reversible" });
  const [funding] = (await ledger.statement(budget, { limit: 10 })).slice(-1);
  assert.ok(funding !== undefined);
  assert.deepEqual(await reverse(funding.transferId), {
    outcome: "insufficient_funds",
    budget,
    availableNanos: 70n,
    reservedNanos: 30n,
  });
  const taken = { id: ids.next("transfer"), transferId: funding.transferId, note: "a test" };
  const partly = { outcome: "reversed", amountNanos: 70n };
  assert.deepEqual(await ledger.reverse({ ...taken, amountNanos: 70n }), partly);
  assert.deepEqual(amounts(await ledger.balance(budget)), {
    fundedNanos: 30n,
    reservedNanos: 30n,
    spentNanos: 0n,
    availableNanos: 0n,
  });
  assert.deepEqual(await reverse(taken.id), { outcome: "not_reversible" });
  await assert.rejects(reverse(funding.transferId, 0n), RangeError);
  await auditLedger(database);
});

test("a correction takes back what nobody had reversed before", async () => {
  await using fixture = await openTestLedger();
  const { ledger, ids, clock, database } = fixture;
  const { budget, spend } = await fixture.openBudget(100n);
  const pendingId = ids.next("transfer");
  await ledger.reserve({
    id: pendingId,
    budget,
    within: [],
    spend,
    amountNanos: 50n,
    timeoutMs: 1,
  });
  clock.ms += 10;
  await ledger.expire(10);
  const [posted] = await ledger.statement(budget, { limit: 1 });
  assert.ok(posted?.reason === "expired");
  const { transferId } = posted;
  await ledger.reverse({ id: ids.next("transfer"), transferId, amountNanos: 45n, note: "a guess" });
  const settled = await ledger.settle({ id: ids.next("transfer"), pendingId, amountNanos: 20n });
  assert.equal(settled.outcome, "corrected");
  // 50 was posted and 45 given back: the cost of 20 had been passed already, so nothing more is.
  assert.equal(amounts(await ledger.balance(budget)).spentNanos, 5n);
  await auditLedger(database);
});

test("income is recorded once, and can be taken back", async () => {
  await using fixture = await openTestLedger();
  const { ledger, ids, database } = fixture;
  const common = { owner: "project/a", currency: "CAD", note: "invoice 12" };
  const income = { id: ids.next("transfer"), ...common, amountNanos: 500n };
  const results = await Promise.all(Array.from({ length: 8 }, () => ledger.recordIncome(income)));
  assert.equal(results.filter(({ outcome }) => outcome === "recorded").length, 1);
  assert.equal(results.filter(({ outcome }) => outcome === "already_recorded").length, 7);
  const account = await ledger.findAccount("income", "project/a");
  assert.ok(account !== null);
  assert.equal(amounts(await ledger.balance(account)).fundedNanos, 500n);
  const note = "refunded";
  await ledger.reverse({
    id: ids.next("transfer"),
    transferId: income.id,
    amountNanos: 200n,
    note,
  });
  assert.equal(amounts(await ledger.balance(account)).fundedNanos, 300n);
  await assert.rejects(ledger.recordIncome({ ...income, amountNanos: 0n }), RangeError);
  const most = { id: ids.next("transfer"), ...common, amountNanos: NANOS_MAX };
  await assert.rejects(ledger.recordIncome(most), { code: "invalid_request" });
  await auditLedger(database);
});

test("funding past what the ledger can count is refused", async () => {
  await using fixture = await openTestLedger();
  const { ledger, ids, database } = fixture;
  const { budget } = await fixture.openBudget(100n);
  const from = await ledger.findAccount("funding", "test/1");
  assert.ok(from !== null);
  const funding = { from, to: budget, reason: "topup", note: "by ana" };
  const refusal = { code: "invalid_request", message: /more than 9223372036 units in all/ };
  const fund = (amountNanos: bigint) =>
    ledger.fund({ id: ids.next("transfer"), ...funding, amountNanos });
  await assert.rejects(fund(NANOS_MAX), refusal);
  assert.deepEqual(await fund(NANOS_MAX - 100n), { outcome: "funded" });
  await assert.rejects(fund(1n), refusal);
  const [line] = await ledger.statement(budget, { limit: 1 });
  assert.equal(line?.note, "by ana");
  await auditLedger(database);
});

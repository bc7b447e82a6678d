/**
 * The ledger by itself: outcomes, idempotence, levels, expiry. Its agreement with a model is in
 * `model.test.ts`; what concurrency and faults do to it, in `concurrency.test.ts` and
 * `faults.test.ts`.
 */
import assert from "node:assert/strict";
import { test } from "node:test";
import type { LedgerOptions } from "../../../orchestrator/ledger/postgres.ts";
import type { TransferId } from "../../../orchestrator/runtime/ids.ts";
import { auditLedger } from "../../support/audit.ts";
import { amounts, openTestLedger } from "../../support/ledger.ts";

/** Alone and in company, a request must get the same answer: each suite runs both ways. */
const WAYS: [string, LedgerOptions][] = [
  ["single statements", { batchMax: 1 }],
  ["group commit", {}],
];

test("an owner's account is opened once, and only as it is", async () => {
  await using fixture = await openTestLedger();
  const { ledger, ids } = fixture;
  const account = {
    kind: "budget",
    owner: "trial/a",
    currency: "CAD",
    mustNotExceed: true,
  } as const;

  const opened = await Promise.all(
    Array.from({ length: 8 }, () => ledger.open({ id: ids.next("account"), ...account })),
  );
  assert.equal(new Set(opened).size, 1);
  assert.equal(await ledger.findAccount("budget", "trial/a"), opened[0]);
  assert.equal(await ledger.findAccount("spend", "trial/a"), null);
  await assert.rejects(ledger.open({ id: ids.next("account"), ...account, currency: "USD" }), {
    code: "conflict",
  });
});

test("funding repeats nothing", async () => {
  await using fixture = await openTestLedger();
  const { ledger, ids } = fixture;
  const from = await ledger.open({
    id: ids.next("account"),
    kind: "funding",
    owner: "organisation/CAD",
    currency: "CAD",
    mustNotExceed: false,
  });
  const { budget } = await fixture.openBudget(0n);
  const funding = {
    id: ids.next("transfer"),
    from,
    to: budget,
    amountNanos: 9_007_199_254_740_993n,
    reason: "topup",
  };
  const outcomes = await Promise.all(Array.from({ length: 8 }, () => ledger.fund(funding)));
  assert.equal(outcomes.filter(({ outcome }) => outcome === "funded").length, 1);
  assert.equal(outcomes.filter(({ outcome }) => outcome === "already_funded").length, 7);
  assert.equal((await ledger.balance(budget))?.fundedNanos, 9_007_199_254_740_993n);
  const lost = { ...funding, id: ids.next("transfer"), to: ids.next("account") };
  assert.deepEqual(await ledger.fund(lost), { outcome: "account_not_found" });
  await auditLedger(fixture.database);
});

for (const [way, options] of WAYS) {
  test(`every outcome of reserve, settle and release (${way})`, async () => {
    await using fixture = await openTestLedger(options);
    const { ledger, ids } = fixture;
    const { budget, spend } = await fixture.openBudget(100n);
    const reserve = (amountNanos: bigint, over = {}) => {
      const id = ids.next("transfer");
      const reservation = { id, budget, within: [], spend, amountNanos, timeoutMs: 1_000, ...over };
      return { id, reservation, result: ledger.reserve(reservation) };
    };

    const first = reserve(60n);
    const balance = (reservedNanos: bigint, spentNanos: bigint) => ({
      fundedNanos: 100n,
      reservedNanos,
      spentNanos,
      availableNanos: 100n - reservedNanos - spentNanos,
    });
    assert.deepEqual(await first.result, { outcome: "reserved", balance: balance(60n, 0n) });
    assert.deepEqual(await ledger.reserve(first.reservation), { outcome: "already_reserved" });
    assert.deepEqual(await reserve(41n).result, {
      outcome: "insufficient_funds",
      budget,
      availableNanos: 40n,
      reservedNanos: 60n,
    });
    const unknown = { outcome: "account_not_found" };
    assert.deepEqual(await reserve(1n, { budget: ids.next("account") }).result, unknown);
    assert.deepEqual(await reserve(1n, { spend: ids.next("account") }).result, unknown);
    assert.deepEqual(await reserve(1n, { within: [ids.next("account")] }).result, unknown);
    assert.deepEqual(await reserve(1n, { spend: budget, budget: spend }).result, unknown);
    await assert.rejects(reserve(-1n).result, RangeError);
    await assert.rejects(reserve(1n, { within: [budget] }).result, RangeError);

    const resolution = (over = {}) => ({
      id: ids.next("transfer"),
      pendingId: first.id,
      amountNanos: 25n,
      ...over,
    });
    const exceeds = { outcome: "exceeds_reservation", reservedNanos: 60n };
    const missing = { outcome: "reservation_not_found" };
    assert.deepEqual(await ledger.settle(resolution({ amountNanos: 61n })), exceeds);
    assert.deepEqual(await ledger.settle(resolution({ pendingId: ids.next("transfer") })), missing);
    const settled = { outcome: "settled", balance: balance(0n, 25n) };
    assert.deepEqual(await ledger.settle(resolution()), settled);
    assert.deepEqual(await ledger.settle(resolution()), { outcome: "already_resolved" });
    assert.deepEqual(await ledger.release(resolution()), { outcome: "already_resolved" });

    const second = reserve(75n);
    assert.deepEqual(await second.result, { outcome: "reserved", balance: balance(75n, 25n) });
    const release = { id: ids.next("transfer"), pendingId: second.id };
    const released = { outcome: "released", balance: balance(0n, 25n) };
    assert.deepEqual(await ledger.release(release), released);
    assert.deepEqual(await ledger.release(release), { outcome: "already_resolved" });
    assert.deepEqual(amounts(await ledger.balance(budget)), balance(0n, 25n));
    await auditLedger(fixture.database);
  });

  test(`a limit holds at every level, and the tightest is named (${way})`, async () => {
    await using fixture = await openTestLedger(options);
    const { ledger, ids } = fixture;
    const { budget: project } = await fixture.openBudget(1_000n);
    const { budget: day } = await fixture.openBudget(50n);
    const { budget, spend } = await fixture.openBudget(70n);
    const within = [project, day];
    const id = ids.next("transfer");
    const reservation = { id, budget, within, spend, amountNanos: 80n, timeoutMs: 1_000 };

    const short = {
      outcome: "insufficient_funds",
      budget: day,
      availableNanos: 50n,
      reservedNanos: 0n,
    };
    assert.deepEqual(await ledger.reserve(reservation), short);
    const { outcome } = await ledger.reserve({ ...reservation, amountNanos: 50n });
    assert.equal(outcome, "reserved");
    const settlement = { id: ids.next("transfer"), pendingId: id, amountNanos: 30n };
    assert.equal((await ledger.settle(settlement)).outcome, "settled");
    for (const [account, fundedNanos] of [
      [project, 1_000n],
      [day, 50n],
      [budget, 70n],
    ] as const) {
      assert.deepEqual(amounts(await ledger.balance(account)), {
        fundedNanos,
        reservedNanos: 0n,
        spentNanos: 30n,
        availableNanos: fundedNanos - 30n,
      });
    }
    await auditLedger(fixture.database);
  });

  test(`what expires is posted in full, once (${way})`, async () => {
    await using fixture = await openTestLedger(options);
    const { ledger, ids, clock } = fixture;
    const { budget, spend } = await fixture.openBudget(100n);
    const common = { budget, within: [], spend, timeoutMs: 1_000 };
    const made: TransferId[] = [];
    for (const amountNanos of [10n, 20n, 30n]) {
      const id = ids.next("transfer");
      made.push(id);
      await ledger.reserve({ id, ...common, amountNanos });
      clock.ms += 100;
    }
    assert.equal(await ledger.expire(10), 0);
    clock.ms += 750;
    assert.equal(await ledger.expire(10), 1);
    clock.ms += 1_000;
    const pendingId = made[1] ?? ids.next("transfer");
    await ledger.release({ id: ids.next("transfer"), pendingId });
    const expired = await Promise.all([ledger.expire(10), ledger.expire(10)]);
    assert.equal(expired[0] + expired[1], 1);
    assert.equal(await ledger.expire(10), 0);
    const expected = { fundedNanos: 100n, reservedNanos: 0n, spentNanos: 40n, availableNanos: 60n };
    assert.deepEqual(amounts(await ledger.balance(budget)), expected);
    await auditLedger(fixture.database);
  });

  test(`a late settlement corrects what expiry posted, once (${way})`, async () => {
    await using fixture = await openTestLedger(options);
    const { ledger, ids, clock } = fixture;
    const { budget: project } = await fixture.openBudget(1_000n);
    const { budget, spend } = await fixture.openBudget(100n);
    const common = { budget, within: [project], spend, timeoutMs: 1_000 };
    const [posted, released, voided] = [
      ids.next("transfer"),
      ids.next("transfer"),
      ids.next("transfer"),
    ];
    await ledger.reserve({ id: posted, ...common, amountNanos: 30n });
    await ledger.reserve({ id: released, ...common, amountNanos: 20n, expiresTo: "post" });
    await ledger.reserve({ id: voided, ...common, amountNanos: 50n, expiresTo: "void" });
    clock.ms += 2_000;
    const expired = await Promise.all([ledger.expire(10), ledger.expire(10)]);
    assert.equal(expired[0] + expired[1], 3);
    const spent = (spentNanos: bigint) => ({
      fundedNanos: 100n,
      reservedNanos: 0n,
      spentNanos,
      availableNanos: 100n - spentNanos,
    });
    assert.deepEqual(amounts(await ledger.balance(budget)), spent(50n));

    const late = { id: ids.next("transfer"), pendingId: posted, amountNanos: 31n };
    const exceeds = { outcome: "exceeds_reservation", reservedNanos: 30n };
    assert.deepEqual(await ledger.settle(late), exceeds);
    const settlement = { ...late, amountNanos: 12n };
    const corrected = { outcome: "corrected", balance: spent(32n) };
    assert.deepEqual(await ledger.settle(settlement), corrected);
    assert.deepEqual(await ledger.settle(settlement), { outcome: "already_resolved" });
    const other = { id: ids.next("transfer"), pendingId: posted };
    assert.deepEqual(await ledger.release(other), { outcome: "already_resolved" });

    const release = { id: ids.next("transfer"), pendingId: released };
    const returned = { outcome: "corrected", balance: spent(12n) };
    assert.deepEqual(await ledger.release(release), returned);
    const void_ = { id: ids.next("transfer"), pendingId: voided, amountNanos: 1n };
    assert.deepEqual(await ledger.settle(void_), { outcome: "already_resolved" });
    assert.equal((await ledger.balance(project))?.spentNanos, 12n);
    assert.equal(await ledger.expire(10), 0);
    const lines = await ledger.statement(budget, { limit: 20 });
    const [correction] = lines.filter(({ reason }) => reason === "corrected").slice(-1);
    assert.deepEqual([correction?.kind, correction?.amountNanos], ["direct", 18n]);
    assert.deepEqual(
      lines.filter(({ kind }) => kind === "void").map(({ reason }) => reason),
      ["expired"],
    );
    await auditLedger(fixture.database);
  });

  test(`a settlement that costs all that expiry posted corrects nothing (${way})`, async () => {
    await using fixture = await openTestLedger(options);
    const { ledger, ids, clock } = fixture;
    const { budget, spend } = await fixture.openBudget(100n);
    const pendingId = ids.next("transfer");
    const amountNanos = 30n;
    await ledger.reserve({ id: pendingId, budget, within: [], spend, amountNanos, timeoutMs: 1 });
    clock.ms += 2_000;
    await ledger.expire(10);
    const settlement = { id: ids.next("transfer"), pendingId, amountNanos };
    assert.equal((await ledger.settle(settlement)).outcome, "corrected");
    assert.deepEqual(await ledger.settle(settlement), { outcome: "already_resolved" });
    assert.equal((await ledger.balance(budget))?.spentNanos, 30n);
  });
}

test("a statement pages through an account's history, newest first", async () => {
  await using fixture = await openTestLedger();
  const { ledger, ids, clock } = fixture;
  const { budget: project } = await fixture.openBudget(1_000n);
  const { budget, spend } = await fixture.openBudget(100n);
  clock.ms += 1;
  const pendingId = ids.next("transfer");
  const common = { budget, within: [project], spend, timeoutMs: 1_000 };
  await ledger.reserve({ id: pendingId, ...common, amountNanos: 40n });
  clock.ms += 1;
  await ledger.settle({ id: ids.next("transfer"), pendingId, amountNanos: 7n });

  for (const account of [project, budget]) {
    const all = await ledger.statement(account, { limit: 10 });
    assert.deepEqual(
      all.map(({ kind, reason, amountNanos, at }) => [kind, reason, amountNanos, clock.ms - at]),
      [
        ["post", "call", 7n, 0],
        ["pending", "call", 40n, 1],
        ["direct", "test", account === project ? 1_000n : 100n, 2],
      ],
    );
    const [newest] = await ledger.statement(account, { limit: 1 });
    assert.deepEqual(newest, all[0]);
    const before = newest?.transferId ?? pendingId;
    assert.deepEqual(await ledger.statement(account, { limit: 10, before }), all.slice(1));
  }
  assert.equal((await ledger.statement(spend, { limit: 10 })).length, 2);
});

test("abandoned reservations are posted in full at once; a repeat does nothing", async () => {
  await using fixture = await openTestLedger();
  const { ledger, clock, ids } = fixture;
  const { budget, spend } = await fixture.openBudget(1_000n);
  const reservation = { budget, within: [], spend, amountNanos: 300n, timeoutMs: 3_600_000 };
  await ledger.reserve({ ...reservation, id: ids.next("transfer") });
  clock.ms += 1_000;
  const startedMs = clock.ms;
  await ledger.reserve({ ...reservation, id: ids.next("transfer"), amountNanos: 50n });
  assert.equal(await ledger.abandon(startedMs), 1);
  assert.equal(await ledger.abandon(startedMs), 0);
  assert.deepEqual(amounts(await ledger.balance(budget)), {
    fundedNanos: 1_000n,
    reservedNanos: 50n,
    spentNanos: 300n,
    availableNanos: 650n,
  });
  await auditLedger(fixture.database);
});

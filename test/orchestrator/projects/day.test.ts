/** Daily allowances: funded once a day, whoever asks and however often, in the project's days. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { createLedger } from "../../../orchestrator/ledger/postgres.ts";
import { createDays, type Day } from "../../../orchestrator/projects/day.ts";
import { auditLedger } from "../../support/audit.ts";
import { amounts, openTestLedger } from "../../support/ledger.ts";

test("a day is funded once by all who open it, and each day anew", async () => {
  await using fixture = await openTestLedger();
  const { ledger, ids, clock, database } = fixture;
  const day: Day = {
    projectId: ids.next("project"),
    timeZone: "America/Toronto",
    currency: "CAD",
    allowanceNanos: 5_000n,
  };
  // As after restarts: nothing is remembered but what the ledger holds.
  const openers = Array.from({ length: 6 }, () =>
    createDays(createLedger(database, clock), ids, clock),
  );
  clock.ms = Date.parse("2026-11-21T04:30:00Z");
  const opened = await Promise.all(openers.map((days) => days.dayAccount(day)));
  const [first] = opened;
  assert.ok(first !== undefined);
  assert.equal(new Set(opened).size, 1);
  const balance = await ledger.balance(first);
  assert.equal(balance?.owner, `day/${day.projectId}/2026-11-20`);
  assert.equal(balance?.fundedNanos, 5_000n);

  // Half an hour later it is the next day in Toronto.
  clock.ms = Date.parse("2026-11-21T05:00:00Z");
  const [days] = openers;
  assert.ok(days !== undefined);
  const second = await days.dayAccount(day);
  assert.notEqual(second, first);
  assert.equal(await days.dayAccount(day), second);
  assert.equal((await ledger.balance(second))?.availableNanos, 5_000n);
  await auditLedger(database);
});

test("an allowance raised during the day counts at once, a lowered one does not", async () => {
  await using fixture = await openTestLedger();
  const { ledger, ids, clock, database } = fixture;
  const day: Day = {
    projectId: ids.next("project"),
    timeZone: "UTC",
    currency: "CAD",
    allowanceNanos: 100n,
  };
  const days = createDays(ledger, ids, clock);
  const account = await days.dayAccount(day);
  const raised = { ...day, allowanceNanos: 250n };
  const others = [raised, day, raised].map((one) =>
    createDays(createLedger(database, clock), ids, clock).dayAccount(one),
  );
  assert.deepEqual(new Set(await Promise.all(others)), new Set([account]));
  assert.equal(await days.dayAccount({ ...day, allowanceNanos: 1n }), account);
  assert.deepEqual(amounts(await ledger.balance(account)), {
    fundedNanos: 250n,
    reservedNanos: 0n,
    spentNanos: 0n,
    availableNanos: 250n,
  });
  await auditLedger(database);
});

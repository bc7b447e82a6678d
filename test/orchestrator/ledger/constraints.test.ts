/**
 * Goal: the tables themselves refuse what the code above them never asks for: the pair of each
 * check, for the day that the code is wrong.
 *
 * Method: statements that no part of ours contains, against the migrated tables.
 */
import assert from "node:assert/strict";
import { test } from "node:test";
import { type SQL, sql } from "drizzle-orm";
import { rows, serverError } from "../../../orchestrator/db/rows.ts";
import { openTestLedger } from "../../support/ledger.ts";

test("the tables refuse to overspend, and to resolve or make a transfer twice", async (t) => {
  await using fixture = await openTestLedger();
  const { ledger, ids, database } = fixture;
  const { budget, spend } = await fixture.openBudget(100n);
  const pendingId = ids.next("transfer");
  const path = { budget, within: [], spend };
  await ledger.reserve({ id: pendingId, ...path, amountNanos: 60n, timeoutMs: 1_000 });
  await ledger.settle({ id: ids.next("transfer"), pendingId, amountNanos: 50n });

  /** The constraint that refuses `statement`. */
  async function refuser(statement: SQL): Promise<string> {
    try {
      await rows(database.sql, statement);
    } catch (error) {
      return serverError(error)?.constraint ?? "none";
    }
    return "nobody";
  }

  await t.test("an account that must not be exceeded", async () => {
    for (const column of [sql`debits_pending_nanos`, sql`debits_posted_nanos`]) {
      const above = sql`update account set ${column} = ${column} + 51 where id = ${budget}`;
      assert.equal(await refuser(above), "account_never_overspent");
    }
    const all = sql`update account set debits_pending_nanos = 50 where id = ${budget}`;
    assert.equal(await refuser(all), "nobody", "the last nano may be spent");
    const less = sql`update account set credits_posted_nanos = 99 where id = ${budget}`;
    assert.equal(await refuser(less), "account_never_overspent");
  });

  await t.test("a second resolution of a reservation, a second transfer of an id", async () => {
    const copy = (id: string, kind: string) => sql`
      insert into transfer (id, kind, debit_account_id, credit_account_id, amount_nanos,
        pending_id, reason, created_at)
      values (${id}, ${kind}, ${budget}, ${spend}, 1,
        ${kind === "direct" ? null : pendingId}, 'call', now())`;
    assert.equal(await refuser(copy(ids.next("transfer"), "post")), "transfer_resolved_once");
    assert.equal(await refuser(copy(ids.next("transfer"), "void")), "transfer_resolved_once");
    assert.equal(await refuser(copy(pendingId, "direct")), "transfer_pkey");
  });
});

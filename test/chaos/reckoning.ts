/** The ledger's account of what happened, held against the provider's own. */
import assert from "node:assert/strict";
import { sql } from "drizzle-orm";
import type { Database } from "../../orchestrator/db/database.ts";
import { readNanos, rows } from "../../orchestrator/db/rows.ts";
import { auditLedger } from "../support/audit.ts";
import { type Billed, costOf } from "./provider.ts";

export interface Reckoning {
  calls: number;
  /** What the ledger says was spent, of which `flaggedNanos` by expiry, in full. */
  spentNanos: bigint;
  flaggedNanos: bigint;
  /** What the provider says it did; `lostNanos` of it for gateways that died before settling. */
  providedNanos: bigint;
  lostNanos: bigint;
}

/**
 * An answer that the gateway cut, its next slice refused or its time over, says so: an own model's
 * server may have come further than what had reached the gateway by then.
 */
const CUT = /^(the budget does not cover more of the answer|the call took longer than \d+ ms)$/;

/**
 * Each call has one record at the provider and one charge; both say the same of every call whose
 * gateway lived to settle it. What the others did is covered by what expiry posted in full.
 */
export async function reckon(db: Database, provided: readonly Billed[]): Promise<Reckoning> {
  await auditLedger(db);
  const byId = new Map(provided.map((one) => [one.callId, one]));
  assert.equal(byId.size, provided.length, "a call was forwarded twice");
  const written = await rows<{
    id: string;
    cost: string;
    reserved: string;
    status: number;
    error: string | null;
  }>(
    db.sql,
    sql`select id, cost_nanos as cost, reserved_nanos as reserved, status, error from call`,
  );
  let settledNanos = 0n;
  for (const { id, cost, reserved, status, error } of written) {
    const [costNanos, reservedNanos] = [readNanos(cost), readNanos(reserved)];
    const one = byId.get(id);
    byId.delete(id);
    settledNanos += costNanos;
    assert.ok(costNanos <= reservedNanos, `${id} cost more than was reserved`);
    if (one === undefined) {
      assert.equal(costNanos, 0n, `${id} was charged (status ${status}) and never forwarded`);
      continue;
    }
    const difference = costOf(one) - costNanos;
    assert.ok(
      difference === 0n || (CUT.test(error ?? "") && difference > 0n),
      `${id}: charged ${costNanos}, the provider says ${costOf(one)}: ` +
        JSON.stringify({ ...one, status, error }),
    );
  }
  const lostNanos = [...byId.values()].reduce((sum, one) => sum + costOf(one), 0n);
  const [books] = await rows<{ spent: string; flagged: string }>(
    db.sql,
    sql`
      with taken as (
        select transfer.kind, reason, amount_nanos - coalesce((
            select sum(back.amount_nanos) from transfer as back
            where back.reverses_id = transfer.id), 0) as net,
          exists (select from transfer as back where back.reverses_id = transfer.id) as is_corrected
        from transfer join account on account.id = debit_account_id
        where transfer.kind = 'post' and currency = 'CAD'
      )
      select coalesce(sum(net), 0)::text as spent,
        coalesce(sum(net) filter (where reason = 'expired' and not is_corrected), 0)::text as flagged
      from taken`,
  );
  assert.ok(books !== undefined);
  const [spentNanos, flaggedNanos] = [readNanos(books.spent), readNanos(books.flagged)];
  const providedNanos = provided.reduce((sum, one) => sum + costOf(one), 0n);
  assert.ok(lostNanos <= flaggedNanos, `${lostNanos} lost, only ${flaggedNanos} posted by expiry`);
  assert.equal(spentNanos, settledNanos + flaggedNanos, "spent: settled calls and flagged ones");
  return { calls: provided.length, spentNanos, flaggedNanos, providedNanos, lostNanos };
}

/** What the books of a simulated ledger must say: at every step, and of each call in the end. */
import assert from "node:assert/strict";
import { sql } from "drizzle-orm";
import type { Sql } from "../../orchestrator/db/database.ts";
import { readNanos, rows } from "../../orchestrator/db/rows.ts";
import type { AccountId, TransferId } from "../../orchestrator/runtime/ids.ts";
import type { SimulatedCall } from "./ledger-world.ts";

/** Budgets that nest: each of `leaves` is inside all of `around`; one spend account. */
export interface Tree {
  around: readonly { id: AccountId; fundedNanos: bigint }[];
  leaves: readonly { id: AccountId; fundedNanos: bigint }[];
  spend: AccountId;
}

interface Balances {
  reservedNanos: bigint;
  /** What was posted, less what was taken back. */
  spentNanos: bigint;
  fundedNanos: bigint;
  isWithin: boolean;
}

/**
 * At any instant: reserved + spent <= funded at each level, what was funded is what was given, and
 * every debit is a credit: of the leaves, of what encloses them, of the spend account.
 */
export async function checkTree(db: { sql: Sql }, tree: Tree): Promise<void> {
  const all = [...tree.around, ...tree.leaves];
  const found = await readBalances(db, [...all.map(({ id }) => id), tree.spend]);
  for (const { id, fundedNanos } of all) {
    const balance = found.get(id);
    assert.ok(balance?.isWithin, `${id} is over its limit`);
    assert.equal(balance.fundedNanos, fundedNanos, `${id} was given something`);
  }
  const sum = (key: "reservedNanos" | "spentNanos") =>
    tree.leaves.reduce((total, { id }) => total + (found.get(id)?.[key] ?? 0n), 0n);
  for (const { id } of tree.around) {
    assert.equal(found.get(id)?.reservedNanos, sum("reservedNanos"), `${id} holds what its own do`);
    assert.equal(found.get(id)?.spentNanos, sum("spentNanos"), `${id} spent what its own did`);
  }
  const spend = found.get(tree.spend);
  assert.equal(spend?.reservedNanos, sum("reservedNanos"), "debits and credits pending");
  assert.equal(spend?.spentNanos, sum("spentNanos"), "debits and credits posted");
}

async function readBalances(
  db: { sql: Sql },
  ids: readonly AccountId[],
): Promise<Map<AccountId, Balances>> {
  const found = await rows<Record<"id" | "kind" | "dp" | "dd" | "cp" | "cc" | "back", string>>(
    db.sql,
    sql`/* prepared: simulation.tree */
      select id, kind, debits_pending_nanos as dp, debits_posted_nanos as dd,
        credits_pending_nanos as cp, credits_posted_nanos as cc, reversed_nanos as back
      from account where id = any(${sql.param(ids)})`,
  );
  return new Map(
    found.map((row) => {
      const [dp, dd, cp, cc, back] = [row.dp, row.dd, row.cp, row.cc, row.back].map(readNanos) as [
        bigint,
        bigint,
        bigint,
        bigint,
        bigint,
      ];
      const isSpend = row.kind === "spend";
      const balance = {
        reservedNanos: isSpend ? cp : dp,
        spentNanos: isSpend ? cc - dd : dd - back,
        fundedNanos: cc - back,
        isWithin: dp + dd <= cc,
      };
      return [row.id as AccountId, balance];
    }),
  );
}

interface Written extends Record<string, unknown> {
  id: TransferId;
  kind: "direct" | "pending" | "post" | "void";
  amount_nanos: string;
  pending_id: TransferId | null;
  reverses_id: TransferId | null;
  reason: string;
}

/**
 * In the end: each call that was forwarded is charged once, at its cost or, when nobody came to
 * settle it, in full and marked so; every other one costs nothing, or is marked as expired; and
 * nothing else was ever spent. Returns how many were posted by expiry.
 */
export async function checkCalls(
  db: { sql: Sql },
  tree: Tree,
  calls: readonly SimulatedCall[],
): Promise<number> {
  const found = await rows<Written>(
    db.sql,
    sql`select id, kind, amount_nanos, pending_id, reverses_id, reason from transfer
      where credit_account_id = ${tree.spend} or debit_account_id = ${tree.spend}`,
  );
  const byId = new Map(found.map((one) => [one.id, one]));
  const resolutions = Map.groupBy(found, ({ pending_id }) => pending_id);
  const reversals = Map.groupBy(found, ({ reverses_id }) => reverses_id);
  let expected = 0;
  let expired = 0;
  for (const call of calls) {
    const pending = byId.get(call.pendingId);
    if (call.reserved === "yes") assert.ok(pending, `${call.pendingId} was acknowledged and lost`);
    if (call.reserved === "no") assert.equal(pending, undefined);
    if (pending === undefined) continue;
    expected += 1;
    assert.equal(pending.kind, "pending");
    const resolved = resolutions.get(call.pendingId) ?? [];
    assert.equal(resolved.length, 1, `${call.pendingId} is resolved ${resolved.length} times`);
    const [one] = resolved;
    assert.ok(one !== undefined);
    const taken = reversals.get(one.id) ?? [];
    assert.ok(taken.length <= 1, `${one.id} is reversed ${taken.length} times`);
    expected += 1 + taken.length;
    checkCharge(call, one, taken[0]);
    if (one.reason === "expired") expired += 1;
  }
  assert.equal(found.length, expected, "transfers that belong to no call");
  return expired;
}

function checkCharge(call: SimulatedCall, one: Written, reversal: Written | undefined): void {
  const back = reversal === undefined ? 0n : BigInt(reversal.amount_nanos);
  const chargedNanos = one.kind === "void" ? 0n : BigInt(one.amount_nanos) - back;
  const facts = `${call.pendingId}: ${one.kind} ${one.reason} ${chargedNanos}`;
  assert.ok(chargedNanos >= 0n && chargedNanos <= call.amountNanos, facts);
  if (one.id === call.settleId) {
    assert.equal(chargedNanos, call.costNanos, facts);
    assert.equal(reversal, undefined, facts);
  } else if (one.id === call.releaseId) {
    assert.ok(!call.isForwarded, `${facts}: forwarded, and free`);
  } else {
    assert.match(one.reason, /^expired/, facts);
    assert.equal(one.kind, call.expiresTo, facts);
    const isCorrected = reversal !== undefined;
    // It was known to end later, by its driver, for what that took.
    const ownNanos = call.isForwarded ? call.costNanos : 0n;
    const wantedNanos = isCorrected ? ownNanos : call.amountNanos;
    if (one.kind === "post") assert.equal(chargedNanos, wantedNanos, facts);
    else assert.ok(!call.isForwarded, `${facts}: forwarded, and free`);
  }
}

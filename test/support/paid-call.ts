/** A trial's call as it is in the books once it is over, for tests of what is made of them. */
import assert from "node:assert/strict";
import { sql } from "drizzle-orm";
import { rows } from "../../orchestrator/db/rows.ts";
import {
  derivedId,
  type KeyId,
  type TransferId,
  type TrialId,
} from "../../orchestrator/runtime/ids.ts";
import type { Life } from "../simulation/world.ts";

export interface PaidCall {
  trialId: TrialId;
  startedAtMs: number;
  reservedNanos?: bigint;
  /** What it settles; null leaves the reservation open, without a row of a call. */
  costNanos?: bigint | null;
  within?: "project" | "day";
}

/** Reserves on the trial's budget and its project's, settles, and writes the call's row. */
export async function payCall(
  life: Pick<Life, "db" | "ids" | "ledger" | "projects">,
  call: PaidCall,
): Promise<{ pendingId: TransferId; settleId: TransferId }> {
  const { db, ids, ledger, projects } = life;
  const { trialId, startedAtMs, reservedNanos = 1_000n, costNanos = 700n } = call;
  const [trial] = await rows<{ project: string; key_id: KeyId }>(
    db.sql,
    sql`select project.name as project, virtual_key.id as key_id
      from trial join project on project.id = trial.project_id
      join virtual_key on virtual_key.trial_id = trial.id
      where trial.id = ${trialId} order by virtual_key.created_at desc limit 1`,
  );
  const budget = await ledger.findAccount("budget", `trial/${trialId}`);
  assert.ok(trial !== undefined && budget !== null, "the trial has no key, or no budget");
  const accounts = await projects.accounts(await projects.find(trial.project));
  const pendingId = ids.next("transfer");
  const within = [accounts.organisation, accounts.budget];
  const path = { budget, within, spend: accounts.spend };
  const wanted = { id: pendingId, ...path, amountNanos: reservedNanos, timeoutMs: 60_000 };
  assert.equal((await ledger.reserve(wanted)).outcome, "reserved");
  const settleId = derivedId("transfer", "settle", pendingId);
  if (costNanos === null) return { pendingId, settleId };

  await db.sql.execute(sql`
    insert into call (id, trial_id, key_id, transfer_id, wire, side, model, model_requested,
      provider, price_version, reserved_nanos, cost_nanos, input_tokens, cache_read_tokens,
      cache_write_tokens, output_tokens, reasoning_tokens, is_estimated, status, started_at,
      ended_at)
    values (${ids.next("call")}, ${trialId}, ${trial.key_id}, ${pendingId}, 'openai.chat',
      'normal', 'normal-1', 'normal', 'simulated', 'simulated@1', ${reservedNanos}, ${costNanos},
      10, 0, 0, 5, 0, false, 200, ${new Date(startedAtMs).toISOString()},
      ${new Date(startedAtMs + 1).toISOString()})`);
  const settlement = { id: settleId, pendingId, amountNanos: costNanos };
  assert.match((await ledger.settle(settlement)).outcome, /^(settled|corrected)$/);
  return { pendingId, settleId };
}

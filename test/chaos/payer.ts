/** A trial with a budget and a key, inside a project's budget, for whoever calls a gateway. */
import assert from "node:assert/strict";
import { sql } from "drizzle-orm";
import type { Database } from "../../orchestrator/db/database.ts";
import { rows } from "../../orchestrator/db/rows.ts";
import type { Grant, PriceSnapshot } from "../../orchestrator/keys/keys.ts";
import { createKeys } from "../../orchestrator/keys/postgres.ts";
import { createLedger } from "../../orchestrator/ledger/postgres.ts";
import { rfc3339, systemClock } from "../../orchestrator/runtime/clock.ts";
import { type AccountId, createIds } from "../../orchestrator/runtime/ids.ts";
import { systemRandom } from "../../orchestrator/runtime/random.ts";

/** 1 nano for a token of input, 2 for one of output. */
export const PRICE: PriceSnapshot = {
  version: "chaos@2026-01-01",
  currency: "CAD",
  inputNanosPerMillion: "1000000",
  cacheReadNanosPerMillion: "500000",
  cacheWriteNanosPerMillion: "1000000",
  outputNanosPerMillion: "2000000",
};
export const PROVIDER = "chaos";
const KEY_MS = 3_600_000;
const WIRES = ["openai.chat", "openai.responses", "anthropic.messages"] as const;

export interface Payer {
  grant: Grant;
  secret: string;
  budget: AccountId;
  project: AccountId;
  spend: AccountId;
}

export interface PayerOptions {
  /** Rations tokens too: so many for the trial, and as many for the project. */
  tokens?: bigint;
}

/** @param fundedNanos the trial's; the project's is as large, so that either may be the limit. */
export async function openPayer(
  database: Database,
  fundedNanos: bigint,
  { tokens }: PayerOptions = {},
): Promise<Payer> {
  const clock = systemClock;
  const ids = createIds(clock, systemRandom);
  const ledger = createLedger(database, clock);
  const [projectId, taskId, trialId] = [ids.next("project"), ids.next("task"), ids.next("trial")];
  const at = rfc3339(clock.now());
  for (const statement of [
    sql`insert into project (id, name, currency, time_zone, config, created_at, updated_at)
      values (${projectId}, ${projectId.replace("_", "-")}, 'CAD', 'UTC', '{}', ${at}, ${at})`,
    sql`insert into task (id, project_id, name, content_sha256, instruction, base_commit, test,
        has_hidden_tests, agent_wall_ms, verify_wall_ms, source, created_at)
      values (${taskId}, ${projectId}, 'task', ${"0".repeat(64)}, 'do it', ${"0".repeat(40)}, '{}',
        false, 1, 1, 'test', ${at})`,
    sql`insert into trial (id, project_id, task_id, agent, pair, is_scripted, attempt, seed,
        limit_nanos, wall_ms, state, created_at, updated_at)
      values (${trialId}, ${projectId}, ${taskId}, 'test', 'test', true, 1, 1,
        ${fundedNanos}, 1000, 'running', ${at}, ${at})`,
  ]) {
    await rows(database.sql, statement);
  }
  const money = await openPath("CAD", `${trialId}`, fundedNanos);
  const rationed = tokens === undefined ? null : await openPath("TOK", `${trialId}/tokens`, tokens);
  const { project, budget, spend } = money;
  const grant: Grant = {
    trialId,
    projectId,
    currency: "CAD",
    enclosing: [project],
    budget,
    spend,
    models: (["normal", "thinking"] as const).map((side) => ({
      side,
      name: `chaos-${side}`,
      upstreamName: `chaos/${side}`,
      provider: PROVIDER,
      wires: WIRES,
      contextTokens: 100_000,
      maxOutputTokens: 4_096,
      price: PRICE,
    })),
    budgetStopStatus: 403,
    ...(rationed === null
      ? {}
      : {
          tokens: {
            budget: rationed.budget,
            within: [rationed.project],
            spend: rationed.spend,
          },
        }),
  };
  const keys = createKeys(database, clock, ids, systemRandom);
  const { secret } = await keys.issue(grant, clock.now() + KEY_MS);
  return { grant, secret, budget, project, spend };

  async function openPath(currency: string, name: string, amount: bigint) {
    const open = (kind: "funding" | "budget" | "spend", owner: string) =>
      ledger.open({
        id: ids.next("account"),
        kind,
        owner,
        currency,
        mustNotExceed: kind === "budget",
      });
    const funding = await open("funding", `project/${name}`);
    const project = await open("budget", `project/${name}`);
    const budget = await open("budget", `trial/${name}`);
    const spend = await open("spend", `project/${name}`);
    for (const to of [project, budget]) {
      const transfer = { id: ids.next("transfer"), from: funding, to, reason: "test" };
      const { outcome } = await ledger.fund({ ...transfer, amountNanos: amount });
      assert.equal(outcome, "funded");
    }
    return { project, budget, spend };
  }
}

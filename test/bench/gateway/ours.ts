/**
 * Our gateway as it is run: `proxy/gateway/main.ts` on an embedded PostgreSQL with disk flushes on,
 * keys with budgets inside a day's, a project's and an organisation's, each call reserved durably
 * before it is forwarded and settled durably after.
 */

import { join, resolve } from "node:path";
import { execPath } from "node:process";
import { sql } from "drizzle-orm";
import type { EmbeddedDatabase } from "../../../orchestrator/db/embedded.ts";
import type { Grant } from "../../../orchestrator/keys/keys.ts";
import { createKeys } from "../../../orchestrator/keys/postgres.ts";
import { createLedger } from "../../../orchestrator/ledger/postgres.ts";
import { systemClock as clock, rfc3339 } from "../../../orchestrator/runtime/clock.ts";
import { type AccountId, createIds } from "../../../orchestrator/runtime/ids.ts";
import { systemRandom as random } from "../../../orchestrator/runtime/random.ts";
import { type Measured, startMeasured } from "./processes.ts";

const ROOT = resolve(import.meta.dirname, "../../..");
const ids = createIds(clock, random);
const LARGE = 10n ** 16n;

export function startOurs(
  database: EmbeddedDatabase,
  upstreamPort: number,
  { cpu, home }: { cpu: number; home: string },
): Promise<Measured> {
  // As `npm run gateway` does.
  const heap = [
    "--max-semi-space-size=8",
    "--initial-old-space-size=64",
    "--external-memory-accounted-in-global-limit",
  ];
  const args = [...heap, join(ROOT, "proxy/gateway/main.ts")];
  const profile = process.env["BENCH_CPU_PROF_DIR"];
  if (profile !== undefined) args.unshift("--cpu-prof", `--cpu-prof-dir=${profile}`);
  return startMeasured(execPath, {
    args,
    cpu,
    port: null,
    env: {
      AUTOCODE_HOME: home,
      DATABASE_URL: database.url,
      AUTOCODE_GATEWAY_PORT: "0",
      AUTOCODE_GATEWAY_GRACE_MS: "1000",
      VLLM_BASE_URL: `http://127.0.0.1:${upstreamPort}/v1`,
    },
  });
}

/** A project with a daily allowance, and `count` trials of it, each with a key of its own. */
export async function issueKeys(database: EmbeddedDatabase, count: number): Promise<string[]> {
  const ledger = createLedger(database, clock);
  const keys = createKeys(database, clock, ids, random);
  const [project, task] = [ids.next("project"), ids.next("task")];
  const at = rfc3339(clock.now());
  const name = project.replace("_", "-");
  const budget = { total: "1000", per_trial: "1", daily_allowance: String(LARGE / 10n ** 9n) };
  const config = JSON.stringify({ project: name, currency: "CAD", budget });
  await database.sql.execute(sql`
    insert into project (id, name, currency, time_zone, config, daily_allowance_nanos,
      created_at, updated_at)
    values (${project}, ${name}, 'CAD', 'UTC', ${config}::jsonb, ${String(LARGE)},
      ${at}, ${at})`);
  await database.sql.execute(sql`
    insert into task (id, project_id, name, content_sha256, instruction, base_commit, test,
      has_hidden_tests, agent_wall_ms, verify_wall_ms, source, created_at)
    values (${task}, ${project}, 'task', ${"0".repeat(64)}, 'do it', ${"0".repeat(40)}, '{}',
      false, 1, 1, 'test', ${at})`);
  const funding = await open("funding", `bench/${project}`, false);
  const spend = await open("spend", `project/${project}`, false);
  const enclosing = [
    await open("budget", `organisation/bench/${project}`, false),
    await fund(await open("budget", `project/${project}`, true)),
  ];
  return Promise.all(Array.from({ length: count }, () => issueKey()));

  async function issueKey(): Promise<string> {
    const trial = ids.next("trial");
    await database.sql.execute(sql`
      insert into trial (id, project_id, task_id, agent, pair, is_scripted, attempt, seed,
        limit_nanos, wall_ms, state, created_at, updated_at)
      values (${trial}, ${project}, ${task}, 'test', 'test', true, 1, 1,
        ${String(LARGE)}, 1000, 'running', ${at}, ${at})`);
    const grant: Grant = {
      trialId: trial,
      projectId: project,
      currency: "CAD",
      enclosing,
      budget: await fund(await open("budget", `trial/${trial}`, true)),
      spend,
      models: [model("normal"), model("thinking")],
      budgetStopStatus: 403,
    };
    return (await keys.issue(grant, clock.now() + 3_600_000)).secret;
  }

  function open(kind: "funding" | "budget" | "spend", owner: string, mustNotExceed: boolean) {
    return ledger.open({ id: ids.next("account"), kind, owner, currency: "CAD", mustNotExceed });
  }

  async function fund(to: AccountId): Promise<AccountId> {
    const id = ids.next("transfer");
    await ledger.fund({ id, from: funding, to, amountNanos: LARGE, reason: "bench" });
    return to;
  }
}

function model(side: "normal" | "thinking"): Grant["models"][number] {
  return {
    side,
    name: `bench-${side}`,
    upstreamName: "m",
    provider: "vllm",
    wires: ["openai.chat"],
    contextTokens: 1_000_000,
    maxOutputTokens: 4_096,
    price: {
      version: "bench@2026-01-01",
      currency: "CAD",
      inputNanosPerMillion: "1000000",
      cacheReadNanosPerMillion: "500000",
      cacheWriteNanosPerMillion: "1000000",
      outputNanosPerMillion: "2000000",
    },
  };
}

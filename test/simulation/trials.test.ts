/**
 * Goal: wherever the orchestrator is killed, every trial ends in exactly one terminal state, no
 * money is lost, charged twice or left held, and nothing a given-up worker says counts.
 *
 * Method: one seed decides the workers' fates and at which database operation each life of the
 * process ends, before or after that operation took effect. The database, the ledger, the engine,
 * the sessions and the keys are the real ones. Replay a failure with SEED=n.
 */
import assert from "node:assert/strict";
import { mkdir, mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { sql } from "drizzle-orm";
import { rows } from "../../orchestrator/db/rows.ts";
import { Problem } from "../../orchestrator/problem.ts";
import { type ApprovalId, derivedId, type TrialId } from "../../orchestrator/runtime/ids.ts";
import type { Random } from "../../orchestrator/runtime/random.ts";
import { isTerminal } from "../../orchestrator/trials/trial.ts";
import { auditLedger } from "../support/audit.ts";
import type { TestDatabase } from "../support/database.ts";
import { createWorkers, newTally, type Tally } from "./workers.ts";
import { type Life, openWorld, waitForLeases } from "./world.ts";

const SEEDS =
  process.env["SEED"] === undefined
    ? Array.from({ length: Number(process.env["SEEDS"] ?? 12) }, (_, index) => index + 1)
    : [Number(process.env["SEED"])];
const TRIALS = 6;
const LIVES_MAX = 60;
const ROUNDS_MAX = 400;

const totals: Tally = newTally();

for (const seed of SEEDS) {
  test(`trials under kills, SEED=${seed}`, async () => {
    await using world = await openWorld(seed);
    const tally = newTally();
    const workers = createWorkers(world.random, tally);
    const { scheduler } = workers;
    const never = Number.MAX_SAFE_INTEGER;
    const first = world.open({ operations: never, isAppliedAtDeath: false, scheduler });
    const trialIds = await prepare(first, 1 + world.random.below(4));

    for (let life = 0; life < LIVES_MAX && !(await haveEnded(first, trialIds)); life++) {
      const isLast = life >= LIVES_MAX - 20;
      const operations = isLast ? never : 5 + world.random.below(60);
      const isAppliedAtDeath = world.random.below(2) === 0;
      const now = world.open({ operations, isAppliedAtDeath, scheduler });
      for (let round = 0; round < ROUNDS_MAX; round++) {
        await now.engine.advance().catch((error: unknown) => {
          if (!now.db.isDead()) throw error;
        });
        await workers.act(now).catch((error: unknown) => {
          if (!now.db.isDead()) throw error;
        });
        await answerOne(now, seed, tally).catch((error: unknown) => {
          if (!now.db.isDead()) throw error;
        });
        if (now.db.isDead()) break;
        if (world.random.below(8) === 0) await auditLedger(world.database);
        if (await haveEnded(first, trialIds)) break;
      }
      if (now.db.isDead()) tally.killedLives += 1;
      await resumePaused(first, trialIds, { random: world.random, seed, tally });
      await waitForLeases(world.database);
    }
    // Those that were given up speak once more, after the end.
    await workers.act(first);
    await check(first, world.database, trialIds);
    for (const key of Object.keys(totals) as (keyof Tally)[]) totals[key] += tally[key];
  });
}

test("the simulation met what it is for", { skip: SEEDS.length < 12 }, () => {
  // A run in which nothing went wrong has tested nothing.
  for (const [what, count] of Object.entries(totals)) assert.ok(count > 0, `never: ${what}`);
  assert.ok(totals.killedLives >= 50, `killed only ${totals.killedLives} times`);
});

async function prepare(life: Life, broke: number): Promise<TrialId[]> {
  const folder = await mkdtemp(join(tmpdir(), "autocode-task-"));
  try {
    await mkdir(join(folder, "task/tests"), { recursive: true });
    await mkdir(join(folder, "task/environment"), { recursive: true });
    await writeFile(join(folder, "task/task.toml"), "[agent]\ntimeout_sec = 60\n");
    await writeFile(join(folder, "task/instruction.md"), "Do it.\n");
    await writeFile(join(folder, "task/tests/test.sh"), "exit 0\n");
    await writeFile(join(folder, "task/environment/a.txt"), "a\n");
    await life.projects.apply({
      file_name: "autocode.yaml",
      folder,
      file_text: [
        "project: simulated",
        "currency: CAD",
        "budget: { total: 1, per_trial: 0.001 }",
        "tasks: [task]",
        "limits: { concurrency: 3, retries: 1 }",
      ].join("\n"),
    });
  } finally {
    await rm(folder, { recursive: true });
  }
  const trials = [];
  for (let index = 0; index < TRIALS; index++) {
    const limit_nanos = index < broke ? "1200" : "1000000";
    const cell = { project: "simulated", agent: "aider", pair: "any", task: "task" };
    trials.push(await life.trials.create({ ...cell, limit_nanos, seed: index }));
  }
  return trials.map(({ id }) => id as TrialId);
}

async function haveEnded(life: Life, trialIds: readonly TrialId[]): Promise<boolean> {
  const trials = await Promise.all(trialIds.map((id) => life.trials.get(id)));
  return trials.every(({ state }) => isTerminal(state));
}

/** A person answers what waits longest, with more money or an end; a kill may come in between. */
async function answerOne({ approvals }: Life, seed: number, tally: Tally): Promise<void> {
  const [asked] = await approvals.list({ state: "open" });
  if (asked === undefined) return;
  const { content_sha256 } = asked;
  const id = asked.id as ApprovalId;
  // By turns: so few are asked for that drawn answers were now and then all of one kind.
  if ((seed + tally.approvals + tally.rejections) % 2 === 0) {
    await approvals.reject(id, { content_sha256, reason: "too dear" });
    tally.rejections += 1;
  } else {
    await approvals.approve(id, { content_sha256, amount_nanos: "100000" });
    tally.approvals += 1;
  }
}

/** A person answers what the trials ask, or tops one up unasked and lets it go on. */
async function resumePaused(
  life: Life,
  trialIds: readonly TrialId[],
  { random, seed, tally }: { random: Random; seed: number; tally: Tally },
): Promise<void> {
  for (const id of trialIds) {
    const trial = await life.trials.get(id);
    if (trial.state !== "paused") continue;
    if (random.below(4) > 0) {
      await answerOne(life, seed, tally).catch(unlessAnswered);
      continue;
    }
    const budget = await life.ledger.findAccount("budget", `trial/${id}`);
    const from = await life.ledger.findAccount("funding", "organisation/CAD");
    assert.ok(budget !== null && from !== null);
    const transfer = { id: life.ids.next("transfer"), from, to: budget, reason: "topup" };
    await life.ledger.fund({ ...transfer, amountNanos: 100_000n });
    await life.trials.resume(id).catch(unlessAnswered);
  }
}

/** What a killed life had sent to the database may still be done after its end. */
function unlessAnswered(error: unknown): void {
  if (!(error instanceof Problem && error.code === "conflict")) throw error;
}

async function check(life: Life, database: TestDatabase, ids: readonly TrialId[]): Promise<void> {
  await auditLedger(database);
  for (const id of ids) {
    const trial = await life.trials.get(id);
    assert.ok(isTerminal(trial.state), `${id} is ${trial.state}`);
    const events = await life.trials.events(id, 0, 10_000);
    const states = events.filter(({ type }) => type === "trial.state").map(({ data }) => data);
    assert.equal(states.filter(({ to }) => isTerminal(to as never)).length, 1);
    for (const [index, { from }] of states.entries()) {
      assert.equal(from, index === 0 ? null : states[index - 1]?.["to"], "a chain of states");
    }
    const balance = trial.budget;
    assert.ok(balance !== null);
    assert.ok(
      BigInt(balance.spent_nanos) + BigInt(balance.reserved_nanos) <= BigInt(balance.funded_nanos),
    );
  }
  const alive = await rows(
    database.sql,
    sql`select id from virtual_key where revoked_at is null
      union all select id from allocation where ended_at is null`,
  );
  assert.deepEqual(alive, [], "keys and allocations outlived their trials");
  await checkApprovals(database);
  const limits = await rows<{ owner: string; amount_nanos: string }>(
    database.sql,
    sql`select account.owner, transfer.amount_nanos from transfer
      join account on account.id = transfer.credit_account_id
      where transfer.reason = 'limit' order by account.owner`,
  );
  const expected = await rows(
    database.sql,
    sql`select 'trial/' || id as owner, limit_nanos as amount_nanos from trial
      order by owner`,
  );
  assert.deepEqual(limits, expected, "a trial's limit is funded once, wherever it was killed");
}

/** Its money moved exactly where a person granted it. */
async function checkApprovals(database: TestDatabase): Promise<void> {
  const asked = await rows<{ id: string; state: string; topped_up_nanos: string | null }>(
    database.sql,
    sql`select id, state, topped_up_nanos from approval`,
  );
  for (const { id, state, topped_up_nanos: granted } of asked) {
    assert.notEqual(state, "open", "no trial waits for a person any more");
    const [moved] = await rows<{ amount_nanos: string }>(
      database.sql,
      sql`select amount_nanos from transfer where id = ${derivedId("transfer", "approval", id)}`,
    );
    assert.equal(moved?.amount_nanos ?? null, state === "granted" ? granted : null);
  }
}

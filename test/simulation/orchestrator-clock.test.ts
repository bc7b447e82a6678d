/**
 * Goal (R14): an orchestrator whose clock jumps an hour forward or back at every step gives up no
 * trial, takes no lease before its time, and lets no enrolment, approval or pause run out or last.
 *
 * Method: the engine, sessions and approvals over a real database, by whose clock they measure; the
 * injected clock jumps. Money, keys and days are in `clock.test.ts`, top-ups and summer time in the
 * tests of `orchestrator/projects/`, a worker's clock in `chaos/worker-clock.test.ts`.
 */
import assert from "node:assert/strict";
import { rm } from "node:fs/promises";
import { test } from "node:test";
import { sql } from "drizzle-orm";
import type { ApprovalId, TrialId } from "../../orchestrator/runtime/ids.ts";
import { seededRandom } from "../../orchestrator/runtime/random.ts";
import { isTerminal } from "../../orchestrator/trials/trial.ts";
import { auditLedger } from "../support/audit.ts";
import { writeTaskFolder } from "../support/trial-world.ts";
import { createWorkers, newTally, type WorkerFate } from "./workers.ts";
import { type Life, openWorld, type World, waitForLeases } from "./world.ts";

const HOUR_MS = 3_600_000;
const TURNS_MAX = 200;
const WELL: WorkerFate = {
  callsLeft: 2,
  ending: "report",
  outcome: "finished",
  verdict: "passed",
  meetsQuota: false,
};

/** A world whose clock is set by `jump`, and workers that do their work. */
async function openJumping(fate: Partial<WorkerFate> = {}) {
  const world = await openWorld(1);
  const real = world.clock.now;
  let offsetMs = 0;
  const jump = (ms: number) => {
    offsetMs = ms;
  };
  world.clock.now = () => real() + offsetMs;
  const workers = createWorkers(seededRandom(1), newTally(), () => ({ ...WELL, ...fate }));
  const open = () => openLife(world, workers);
  const life = open();
  await applyProject(life);
  return { world, workers, life, open, jump, [Symbol.asyncDispose]: world[Symbol.asyncDispose] };
}

test("a trial ends as ever, though the clock jumps at every turn", async () => {
  for (const jumpsMs of [
    [0, HOUR_MS, -HOUR_MS],
    [-HOUR_MS, 0, HOUR_MS],
  ]) {
    await using opened = await openJumping();
    const { world, workers, life, jump } = opened;
    const id = await create(life, "100000");
    for (let turn = 0; turn < TURNS_MAX && !(await hasEnded(life, id)); turn++) {
      jump(jumpsMs[turn % jumpsMs.length] ?? 0);
      await life.engine.advance();
      await workers.act(life);
    }
    const { state, tries, budget } = await life.trials.get(id);
    assert.deepEqual([state, tries], ["succeeded", 1]);
    assert.deepEqual([budget?.spent_nanos, budget?.reserved_nanos], ["1400", "0"]);
    assert.equal(workers.all().length, 2, "one agent, one verifier");
    await auditLedger(world.database);
  }
});

for (const offsetMs of [HOUR_MS, -HOUR_MS, 48 * HOUR_MS]) {
  test(`an engine whose clock is off by ${offsetMs} ms takes no lease before its time`, async () => {
    await using opened = await openJumping();
    const { world, life, jump } = opened;
    const id = await create(life, "100000");
    await world.database.sql.execute(sql`
      update trial set lease_until = clock_timestamp() + interval '40 ms' where id = ${id}`);
    jump(offsetMs);
    assert.equal(await life.engine.advance(), 0, "another's step may still be going on");
    assert.equal((await life.trials.get(id)).state, "queued");
    await waitForLeases(world.database);
    assert.ok((await life.engine.advance()) > 0);
  });

  test(`an enrolment token is as good when the clock is off by ${offsetMs} ms`, async () => {
    await using opened = await openJumping();
    const { workers, life, jump } = opened;
    await create(life, "100000");
    await life.engine.advance();
    const [worker] = workers.all();
    const token = worker?.placement.enrolmentToken ?? "";
    jump(offsetMs);
    const { spec } = await life.sessions.enrol(token);
    assert.equal(spec.purpose, "agent");
    await assert.rejects(life.sessions.enrol(token), { code: "unauthenticated" }, "once");
  });
}

test("an approval is answered after the clock was set back behind its question", async () => {
  await using opened = await openJumping();
  const { world, workers, life, jump } = opened;
  const id = await create(life, "1200");
  const goOn = async (isThere: (state: string) => boolean) => {
    for (let turn = 0; turn < TURNS_MAX; turn++) {
      if (isThere((await life.trials.get(id)).state)) return;
      await life.engine.advance();
      await workers.act(life);
    }
    assert.fail((await life.trials.get(id)).state);
  };
  jump(HOUR_MS);
  await goOn((state) => state === "paused");
  jump(-HOUR_MS);
  const [asked] = await life.approvals.list({ state: "open" });
  assert.ok(asked !== undefined);
  const { content_sha256 } = asked;
  const answer = { content_sha256, amount_nanos: "50000" };
  await life.approvals.approve(asked.id as ApprovalId, answer);
  await goOn((state) => state === "succeeded");
  const { budget } = await life.trials.get(id);
  assert.equal(budget?.funded_nanos, "51200", "granted once");
  await auditLedger(world.database);
});

function openLife(world: World, { scheduler }: ReturnType<typeof createWorkers>): Life {
  const operations = Number.MAX_SAFE_INTEGER;
  return world.open({ operations, isAppliedAtDeath: false, scheduler, staleMs: 30_000 });
}

async function create(life: Life, limit_nanos: string): Promise<TrialId> {
  const cell = { project: "p", agent: "aider", pair: "any", task: "task" };
  return (await life.trials.create({ ...cell, limit_nanos })).id as TrialId;
}

async function hasEnded(life: Life, id: TrialId): Promise<boolean> {
  return isTerminal((await life.trials.get(id)).state);
}

async function applyProject(life: Life): Promise<void> {
  const folder = await writeTaskFolder();
  await life.projects.apply({
    file_name: "autocode.yaml",
    folder,
    file_text: "project: p\ncurrency: CAD\nbudget: { total: 1, per_trial: 0.001 }\ntasks: [task]\n",
  });
  await rm(folder, { recursive: true });
}

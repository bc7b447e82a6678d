/**
 * Goal: one engine at a time holds a trial, limits hold however many act at once, and a cancel
 * ends a trial wherever it is.
 *
 * Method: real engines, steps and database; a scheduler that does what the test says.
 */
import assert from "node:assert/strict";
import { test } from "node:test";
import { sql } from "drizzle-orm";
import { rows } from "../../../orchestrator/db/rows.ts";
import type { TrialId } from "../../../orchestrator/runtime/ids.ts";
import { agentReport, openTrialWorld, type TrialWorld } from "../../support/trial-world.ts";

test("two engines never both take a trial", async () => {
  await using opened = await openTrialWorld();
  const ids = await Promise.all(Array.from({ length: 12 }, () => opened.create()));
  const second = opened.another({ concurrency: 4 });
  for (let round = 0; round < 3; round++) {
    await Promise.all([opened.life.engine.advance(), second.engine.advance()]);
  }
  const placed = opened.scheduler.placements.map(({ trialId }) => trialId);
  assert.deepEqual(placed.toSorted(), ids.toSorted());
});

test("a held lease is respected until it runs out", async () => {
  await using opened = await openTrialWorld();
  const id = await opened.create();
  await lease(opened, id, "1 hour");
  assert.equal(await opened.life.engine.advance(), 0);
  assert.equal(await opened.state(id), "queued");
  await lease(opened, id, "-1 second");
  await opened.life.engine.advance();
  assert.equal(await opened.state(id), "placed");
});

test("an engine that overran its lease does not release another's", async () => {
  await using opened = await openTrialWorld();
  const id = await opened.create();
  opened.scheduler.capacity = async () => {
    await lease(opened, id, "1 hour");
    return 0;
  };
  await opened.life.engine.advance();
  const held = await rows(
    opened.world.database.sql,
    sql`select id from trial where lease_until > clock_timestamp()`,
  );
  assert.deepEqual(held, [{ id }]);
});

test("a step that throws leaves the trial claimable, and the others go on", async () => {
  await using opened = await openTrialWorld();
  const [bad, good] = [await opened.create(), await opened.create()];
  const place = opened.scheduler.place;
  let failures = 0;
  opened.scheduler.place = async (placement) => {
    if (placement.trialId === bad && failures++ === 0) throw new Error("away");
    await place(placement);
  };
  await opened.life.engine.advance();
  assert.equal(await opened.state(good), "placed");
  // Placed in the books and unknown to the scheduler: lost, and tried again.
  await opened.life.engine.advance();
  await opened.world.database.sql.execute(sql`update trial set not_before = null`);
  await opened.life.engine.advance();
  assert.equal(await opened.state(bad), "placed");
  assert.equal((await opened.life.trials.get(bad)).tries, 2);
});

test("the most urgent goes first, then the oldest", async () => {
  await using opened = await openTrialWorld();
  const low = await opened.create({ priority: -1 });
  const first = await opened.create();
  const second = await opened.create();
  const urgent = await opened.create({ priority: 5 });
  await opened.another({ concurrency: 1 }).engine.advance();
  const placed = opened.scheduler.placements.map(({ trialId }) => trialId);
  assert.deepEqual(placed, [urgent, first, second, low]);
});

test("a project's concurrency holds with several lanes and engines", async () => {
  await using opened = await openTrialWorld("{ concurrency: 2 }");
  for (let index = 0; index < 8; index++) await opened.create();
  const second = opened.another({ concurrency: 4 });
  await Promise.all([opened.life.engine.advance(), second.engine.advance()]);
  assert.equal(opened.scheduler.placements.length, 2);
});

test("an experiment's concurrency holds too, and so do the scheduler's slots", async () => {
  await using opened = await openTrialWorld();
  const common = { project: "demo", agents: ["aider"], pairs: ["any"], tasks: ["task"] };
  const wanted = { ...common, attempts: 5, assignment: "all" } as const;
  const limited = { ...wanted, agents: ["aider"], pairs: ["any"], tasks: ["task"] };
  await opened.life.trials.createExperiment({ ...limited, name: "one-by-one", concurrency: 1 });
  await opened.life.engine.advance();
  assert.equal(opened.scheduler.placements.length, 1);
  opened.scheduler.slots = 0;
  await opened.create();
  await opened.life.engine.advance();
  assert.equal(opened.scheduler.placements.length, 1);
});

for (const state of ["queued", "admitted", "placed", "running", "verifying", "paused"] as const) {
  test(`a cancel ends a trial that is ${state}`, async () => {
    await using opened = await openTrialWorld();
    const { life, scheduler } = opened;
    const id = await opened.create();
    await bring(opened, id, state);
    assert.equal(await opened.state(id), state);
    await life.trials.cancel(id);
    await life.engine.advance();
    // Its worker does not obey: after its grace the scheduler ends it.
    for (const [allocation, status] of scheduler.statuses) {
      if (status === "running") await scheduler.stop(allocation);
    }
    await life.engine.advance();
    const trial = await life.trials.get(id);
    assert.deepEqual([trial.state, trial.reason], ["cancelled", "cancelled on request"]);
    const left = await rows(
      opened.world.database.sql,
      sql`select id from virtual_key where revoked_at is null
        union all select id from allocation where ended_at is null
        union all select id from approval where state = 'open'`,
    );
    assert.deepEqual(left, []);
    await life.trials.cancel(id);
    assert.equal(await opened.state(id), "cancelled");
  });
}

/** Through the real steps, as far as `state`. */
async function bring(opened: TrialWorld, id: TrialId, state: string): Promise<void> {
  const { life, scheduler, world } = opened;
  if (state === "queued") return;
  if (state === "admitted") {
    await world.database.sql.execute(sql`update trial set state = 'admitted' where id = ${id}`);
    return;
  }
  await life.engine.advance();
  if (state === "placed") return;
  const { allocation_token } = await life.sessions.enrol(
    scheduler.placements[0]?.enrolmentToken ?? "",
  );
  await life.engine.advance();
  if (state === "running") return;
  const session = await life.sessions.authenticate(allocation_token);
  const outcome = state === "paused" ? "budget" : "finished";
  await life.sessions.report(session, agentReport(outcome));
  await life.engine.advance();
}

async function lease(opened: TrialWorld, id: TrialId, from: string): Promise<void> {
  await opened.world.database.sql.execute(sql`
    update trial set lease_until = clock_timestamp() + ${from}::interval where id = ${id}`);
}

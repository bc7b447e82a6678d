/**
 * Goal: a step that looked at a trial before a newer allocation took it over changes nothing, even
 * though the trial is in the very state that the step saw.
 */
import assert from "node:assert/strict";
import { test } from "node:test";
import { findTrial } from "../../../orchestrator/trials/rows.ts";
import { createTransitions } from "../../../orchestrator/trials/transitions.ts";
import { openTrialLife } from "../../support/trial-life.ts";

test("a step of an older allocation neither ends, pauses, requeues nor moves the trial", async () => {
  await using life = await openTrialLife({});
  const id = await life.create();
  await life.engine.advance();
  const seen = await findTrial(life.db.sql, id);
  assert.equal(seen?.state, "placed");
  life.scheduler.newest(id).status = "lost";
  for (let round = 0; round < 50 && (await life.trials.get(id)).tries < 2; round++) {
    await life.engine.advance();
  }
  const before = await findTrial(life.db.sql, id);
  assert.deepEqual([before?.state, before?.fence], ["placed", seen.fence + 1]);

  const { end, pause, requeue, move } = createTransitions(life.db, life.world.clock, life.ids);
  const ending = { to: "failed", verdict: "failed", reward: 0, reason: "late", flags: [] } as const;
  assert.equal(await end(seen, ending), false);
  assert.equal(await pause(seen, "late", null), false);
  const retry = { failureClass: "worker_lost", delayMs: 0, isFromCheckpoint: true };
  assert.equal(await requeue(seen, retry), false);
  assert.equal(await move(seen, "running", {}), false);
  assert.deepEqual(await findTrial(life.db.sql, id), before);
  await life.enrol(id);
});

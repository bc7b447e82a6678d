/**
 * Goal: what a scheduler says no to for good ends a trial in the engine's words, before or after it
 * was admitted; what passes is waited for, with the reason on the trial, and costs nothing.
 */
import assert from "node:assert/strict";
import { test } from "node:test";
import { Problem } from "../../../orchestrator/problem.ts";
import { openTrialWorld } from "../../support/trial-world.ts";

test("a scheduler that is away, or lets us not, is waited for", async () => {
  await using opened = await openTrialWorld();
  const { life, scheduler } = opened;
  const { capacity } = scheduler;
  const id = await opened.create();
  for (const code of ["unavailable", "forbidden"] as const) {
    scheduler.capacity = () => Promise.reject(new Problem(code, `it is ${code}`));
    await life.engine.advance();
    const waiting = await life.trials.get(id);
    const why = `waits for the scheduler: it is ${code}`;
    assert.deepEqual([waiting.state, waiting.tries, waiting.reason], ["queued", 0, why]);
  }
  scheduler.capacity = capacity;
  await life.engine.advance();
  const placed = await life.trials.get(id);
  assert.deepEqual([placed.state, placed.tries, placed.reason], ["placed", 1, null]);
});

test("what no host will ever have ends the trial before it has a budget", async () => {
  await using opened = await openTrialWorld();
  const { life, scheduler } = opened;
  scheduler.capacity = () =>
    Promise.reject(new Problem("invalid_request", 'Nomad refused: no node pool "gpu"'));
  const id = await opened.create();
  await life.engine.advance();
  const ended = await life.trials.get(id);
  assert.equal(ended.state, "errored");
  assert.equal(ended.reason, 'the scheduler refused it: Nomad refused: no node pool "gpu"');
  assert.deepEqual(scheduler.placements, []);
});

test("a placement that is refused for good ends the trial, and nothing is half-placed", async () => {
  await using opened = await openTrialWorld();
  const { life, scheduler } = opened;
  scheduler.place = () => Promise.reject(new Problem("invalid_request", "too large a payload"));
  const id = await opened.create();
  await life.engine.advance();
  const ended = await life.trials.get(id);
  assert.deepEqual([ended.state, ended.tries], ["errored", 1]);
  assert.equal(ended.reason, "the scheduler refused it: too large a payload");
});

test("a placement that got no answer is asked for again, as another try", async () => {
  await using opened = await openTrialWorld();
  const { life, scheduler } = opened;
  const { place } = scheduler;
  scheduler.place = () => Promise.reject(new Problem("unavailable", "no answer"));
  const id = await opened.create();
  await life.engine.advance();
  assert.equal(await opened.state(id), "placed");
  scheduler.place = place;
  await life.engine.advance();
  const again = await life.trials.get(id);
  assert.deepEqual([again.state, again.tries], ["placed", 2]);
  assert.deepEqual(
    scheduler.placements.map(({ trialId }) => trialId),
    [id],
  );
});

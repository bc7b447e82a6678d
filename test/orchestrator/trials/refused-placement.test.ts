/**
 * Goal: what a scheduler says no to for good ends a trial in the engine's words, before or after it
 * was admitted; what passes is waited for, with the reason on the trial, and costs nothing.
 */
import assert from "node:assert/strict";
import { test } from "node:test";
import { Problem } from "../../../orchestrator/problem.ts";
import { eventually } from "../../support/eventually.ts";
import { openTrialLife } from "../../support/trial-life.ts";
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

test("a placement that got no answer is asked for again, and costs no try", async () => {
  await using opened = await openTrialWorld();
  const { life, scheduler } = opened;
  const { place } = scheduler;
  scheduler.place = () => Promise.reject(new Problem("unavailable", "no answer"));
  const id = await opened.create();
  await life.engine.advance();
  const waiting = await life.trials.get(id);
  assert.deepEqual(
    [waiting.state, waiting.tries, waiting.reason],
    ["admitted", 0, "waits for the scheduler: no answer"],
  );
  scheduler.place = place;
  await eventually(
    async () => {
      await life.engine.advance();
      return opened.state(id);
    },
    (state) => state === "placed",
  );
  const again = await life.trials.get(id);
  assert.deepEqual([again.state, again.tries, again.reason], ["placed", 1, null]);
  assert.deepEqual(
    scheduler.placements.map(({ trialId }) => trialId),
    [id],
  );
});

test("a verifier that cannot be placed now is waited for, however often that is", async () => {
  await using life = await openTrialLife({});
  const { scheduler } = life;
  const { place } = scheduler;
  const id = await life.create();
  const reach = (wanted: string) =>
    eventually(
      async () => {
        await life.engine.advance();
        return life.trials.get(id);
      },
      ({ state }) => state === wanted,
    );
  await reach("placed");
  const token = await life.enrol(id);
  await reach("running");
  let refusals = 0;
  scheduler.place = () => {
    refusals++;
    return Promise.reject(new Problem("forbidden", "Permission denied"));
  };
  await life.reportAgent(token, "finished");
  await eventually(
    async () => {
      await life.engine.advance();
      return refusals;
    },
    (count) => count > 5,
  );
  const waiting = await life.trials.get(id);
  const why = "waits for the scheduler: Permission denied";
  assert.deepEqual([waiting.state, waiting.reason], ["verifying", why]);

  scheduler.place = place;
  const placed = await eventually(
    async () => {
      await life.engine.advance();
      return scheduler.placements.length;
    },
    (count) => count === 2,
  );
  assert.equal(placed, 2);
  assert.equal((await life.trials.get(id)).reason, null);
});

/** Goal: what bodies may have in them comes back from the database as it was brought. */
import assert from "node:assert/strict";
import test from "node:test";
import { systemClock } from "../../../orchestrator/runtime/clock.ts";
import type { TrialId } from "../../../orchestrator/runtime/ids.ts";
import { createReplayTrials } from "../../../orchestrator/trials/replay.ts";
import { cassetteOf } from "../../support/cassettes.ts";
import { createMemoryTraffic } from "../../support/memory-traffic.ts";
import { openTrialLife } from "../../support/trial-life.ts";

test("a cassette with nulls, half characters and quotes is kept as it is", async () => {
  await using life = await openTrialLife({});
  const of = await life.trials.get(await life.create());
  const odd = 'NUL \0, half \ud83d, whole \u{1f511}, \\u0000 "q"';
  const made = cassetteOf([{ path: "/v1/messages", body: odd, answer: odd }]);
  const { agent, task, pair, seed } = of;
  const cassette = { ...made, trial: { ...made.trial, agent, task, pair, seed } };
  const replay = await life.trials.replayCassette({ project: of.project, cassette });
  const { replay_of: source } = replay;
  assert.equal(source, replay.id);
  const replays = createReplayTrials({
    ...{ db: life.world.database, traffic: createMemoryTraffic() },
    ...{ clock: systemClock, ids: life.ids },
  });
  assert.deepEqual(await replays.cassette(replay.id as TrialId), cassette);
});

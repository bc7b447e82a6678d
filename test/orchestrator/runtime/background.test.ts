/** Background tasks: activated at once and again, never over themselves, whatever they throw. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { startBackground } from "../../../orchestrator/runtime/background.ts";
import { createLog } from "../../../orchestrator/runtime/log.ts";

const log = createLog("silent");

test("a task that fails is activated again", async () => {
  let activations = 0;
  const thrice = Promise.withResolvers<void>();
  const background = startBackground(
    [
      {
        name: "failing",
        periodMs: 1,
        activate: async () => {
          if (++activations === 3) thrice.resolve();
          throw new Error("as it often does");
        },
      },
    ],
    log,
  );
  await thrice.promise;
  await background.stop();
  assert.ok(activations >= 3);
});

test("stop waits for what runs, and nothing starts after it", async () => {
  const started = Promise.withResolvers<void>();
  const finish = Promise.withResolvers<void>();
  let running = 0;
  let most = 0;
  let activations = 0;
  const background = startBackground(
    [
      {
        name: "slow",
        periodMs: 1,
        activate: async () => {
          activations++;
          most = Math.max(most, ++running);
          started.resolve();
          await finish.promise;
          running--;
        },
      },
      { name: "resting", periodMs: 3_600_000, activate: async () => "nothing to do" },
    ],
    log,
  );
  await started.promise;
  const stopped = background.stop().then(() => running);
  // The task is still at it, so stop must be waiting.
  const first = await Promise.race([stopped, new Promise((resolve) => setImmediate(resolve, -1))]);
  assert.equal(first, -1);
  finish.resolve();
  assert.equal(await stopped, 0);
  await background.stop();
  assert.deepEqual({ most, activations }, { most: 1, activations: 1 });
});

/** Background tasks: activated at once and again, never over themselves, whatever they throw. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { startBackground } from "../../../orchestrator/runtime/background.ts";
import { createLog } from "../../../orchestrator/runtime/log.ts";
import { eventually } from "../../support/eventually.ts";

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

test("a task that another leads waits for its duty, and is activated as soon as it comes", async () => {
  const listeners = new Set<(duty: string) => void>();
  let isOurs = false;
  let asked = 0;
  const activated = Promise.withResolvers<void>();
  const task = {
    name: "sealing",
    periodMs: 3_600_000,
    activate: async () => activated.resolve(),
  };
  const background = startBackground([task], log, {
    lead: async (duty) => {
      assert.equal(duty, "sealing");
      asked += 1;
      return isOurs ? { isHeld: () => true, confirm: async () => true } : null;
    },
    onGain: (listener) => {
      listeners.add(listener);
      return { [Symbol.dispose]: () => void listeners.delete(listener) };
    },
  });
  await eventually(
    () => asked,
    (count) => count === 1,
  );
  isOurs = true;
  for (const listener of listeners) listener("another duty");
  for (const listener of listeners) listener("sealing");
  await activated.promise;
  await background.stop();
  assert.equal(listeners.size, 0);
});

test("a task whose duty the database says is another's is not activated", async () => {
  let asked = 0;
  const confirm = async () => {
    asked += 1;
    return false;
  };
  const lead = async () => ({ isHeld: () => true, confirm });
  const task = { name: "sealing", periodMs: 1, activate: async () => assert.fail("activated") };
  const onGain = () => ({ [Symbol.dispose]: () => {} });
  const background = startBackground([task], log, { lead, onGain });
  await eventually(
    () => asked,
    (count) => count > 2,
  );
  await background.stop();
});

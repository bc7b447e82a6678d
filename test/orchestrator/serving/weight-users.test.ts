/**
 * Goal: weights are not removed under a pair that comes up at the same moment: one of the two waits
 * for the other, whichever was first. Nobody waits while their files are deleted.
 *
 * Method: both through their public functions over a real database, each stopped in its middle
 * until the other is seen to wait for its lock.
 */
import assert from "node:assert/strict";
import { test } from "node:test";
import { sql } from "drizzle-orm";
import { rows } from "../../../orchestrator/db/rows.ts";
import { withServedWeights } from "../../../orchestrator/serving/weight-users.ts";
import { createPulls } from "../../../orchestrator/weights/pulls.ts";
import { eventually } from "../../support/eventually.ts";
import {
  catalog,
  openServedWorld,
  type ServedWorldOptions,
  storedWeights,
} from "../../support/served-models.ts";

const NORMAL = "qwen2.5-coder-14b-instruct";
const UP = { plan: { pair: "14b", gpu: "h100", gpu_count: 2 } };

/** What removes calls `onRemove` before it frees a byte, and `onDelete` before it deletes files. */
async function openRace(
  onRemove: (used: readonly string[]) => Promise<void>,
  onDelete: () => Promise<void>,
  options: ServedWorldOptions = {},
) {
  const world = await openServedWorld(options);
  const never = () => assert.fail("not asked for");
  const weights = {
    ...{ ...storedWeights(), list: never, verify: never, freeBytes: never },
    remove: async (_card: unknown, _name: string, used: readonly string[]) => {
      await onRemove(used);
      return 1;
    },
    deleteRemoved: onDelete,
  };
  const pulls = createPulls(weights, catalog.cards, catalog, world.folder, (work) =>
    withServedWeights(world.database, work),
  );
  return { world, remove: () => pulls.remove({ model: NORMAL, quantisation: "bf16" }) };
}

async function untilSomebodyWaits({ database }: Awaited<ReturnType<typeof openServedWorld>>) {
  const waiting = () =>
    rows(
      database.sql,
      sql`select from pg_locks where locktype = 'advisory' and not granted
        and database = (select oid from pg_database where datname = current_database())`,
    );
  await eventually(waiting, ({ length }) => length === 1, 20_000);
}

test("a pair that comes up while its weights are removed waits, and pulls them anew", async () => {
  const [begun, gate] = [Promise.withResolvers<void>(), Promise.withResolvers<void>()];
  const deletes = Promise.withResolvers<void>();
  const race = await openRace(
    async (used) => {
      assert.deepEqual(used, []);
      begun.resolve();
      await gate.promise;
    },
    () => deletes.promise,
  );
  await using world = race.world;
  const removed = race.remove();
  await begun.promise;
  const up = world.models.up(UP);
  try {
    await untilSomebodyWaits(world);
    assert.deepEqual(await world.models.list(), []);
    gate.resolve();
    await eventually(world.models.list, ({ length }) => length === 1, 20_000);
  } finally {
    // The database's close waits for both.
    gate.resolve();
    deletes.resolve();
    await Promise.allSettled([removed, up]);
  }
  assert.equal((await removed).freed_bytes, 1);
  assert.equal((await up).is_wanted, true);
});

test("weights whose pair is just coming up are in use", async () => {
  const [begun, gate] = [Promise.withResolvers<void>(), Promise.withResolvers<void>()];
  const seen: (readonly string[])[] = [];
  const race = await openRace(
    async (used) => void seen.push(used),
    async () => {},
    {
      launcher: (real) => ({
        ...real,
        addresses: async (plan) => {
          begun.resolve();
          await gate.promise;
          return real.addresses(plan);
        },
      }),
    },
  );
  await using world = race.world;
  const up = world.models.up(UP);
  await begun.promise;
  const removed = race.remove();
  try {
    await untilSomebodyWaits(world);
    assert.deepEqual(seen, [], "nothing is removed before it is known who comes");
  } finally {
    gate.resolve();
    await Promise.allSettled([up, removed]);
  }
  await Promise.all([up, removed]);
  assert.deepEqual(seen, [["bf16"]]);
});

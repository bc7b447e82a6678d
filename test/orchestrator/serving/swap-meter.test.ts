/** Goal: a swap lasts from when the GPUs are free to when it answers, and is written down once. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { sql } from "drizzle-orm";
import { rows } from "../../../orchestrator/db/rows.ts";
import { systemClock } from "../../../orchestrator/runtime/clock.ts";
import { createIds } from "../../../orchestrator/runtime/ids.ts";
import { systemRandom } from "../../../orchestrator/runtime/random.ts";
import { readServers, type ServerRow } from "../../../orchestrator/serving/rows.ts";
import { createSwapMeter } from "../../../orchestrator/serving/swap-meter.ts";
import { openServedWorld } from "../../support/served-models.ts";

const RUNNING = { state: "running", startedAtMs: 0 } as const;

test("from when the other has left until it answers; one that had not left is no swap", async () => {
  await using world = await openServedWorld({ residency: "alternate" });
  await world.models.up({ plan: { pair: "14b", gpu: "h100", gpu_count: 2 } });
  const { sql: db } = world.database;
  let nowMs = 1_000;
  const meter = createSwapMeter(world.database, systemClock, () => nowMs);
  const trialId = createIds(systemClock, systemRandom).next("trial");
  const read = async (): Promise<[ServerRow, ServerRow]> => {
    await db.execute(sql`update model_server set is_awake = side = 'normal',
      turn_by = case when side = 'normal' then ${trialId} end`);
    const [normal, thinking] = await readServers(db);
    assert.ok(normal !== undefined && thinking !== undefined);
    return [normal, thinking];
  };
  const swaps = () =>
    rows<{ duration_ms: string; gpu_ms: string; trial_id: string }>(
      db,
      sql`select duration_ms, gpu_ms, trial_id from model_swap`,
    );

  const [normal, thinking] = await read();
  meter.begin();
  meter.look(thinking, null, RUNNING);
  nowMs += 100;
  meter.look(thinking, "sleep", RUNNING);
  nowMs += 30;
  meter.look(normal, "wake", RUNNING);
  nowMs += 20;
  meter.look({ ...normal, state: "starting" }, null, RUNNING);
  nowMs += 10;
  await Promise.all([meter.end(normal), meter.end(normal)]);
  assert.deepEqual(await swaps(), [{ duration_ms: "60", gpu_ms: "60", trial_id: trialId }]);

  // A download is not in it, and neither is what a leader before this one had seen.
  await db.execute(sql`delete from model_swap`);
  const [again] = await read();
  meter.begin();
  meter.look(again, "start", { state: "absent" });
  nowMs += 1_000;
  meter.forget(again);
  await meter.end(again);
  assert.deepEqual(await swaps(), []);

  // Nor what this process had begun for another trial, or long ago, when it led before.
  const other = createIds(systemClock, systemRandom).next("trial");
  const [first] = await read();
  meter.look(first, "start", { state: "absent" });
  nowMs += 60_000;
  await db.execute(sql`update model_server set turn_by = ${other} where side = 'normal'`);
  const [second] = await readServers(db);
  assert.ok(second !== undefined);
  meter.look({ ...second, state: "starting" }, null, RUNNING);
  nowMs += 5;
  await meter.end(second);
  assert.deepEqual(
    (await swaps()).map(({ duration_ms, trial_id }) => [duration_ms, trial_id]),
    [["5", other]],
  );
  await db.execute(sql`delete from model_swap`);
  const [third] = await read();
  meter.look(third, "start", { state: "absent" });
  nowMs += 3_600_000;
  meter.look({ ...third, state: "starting" }, null, RUNNING);
  nowMs += 7;
  await meter.end(third);
  assert.deepEqual(
    (await swaps()).map(({ duration_ms }) => duration_ms),
    ["7"],
  );
});

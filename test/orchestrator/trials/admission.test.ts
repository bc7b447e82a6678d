/** Goal: no more trials run at once than the project allows and the scheduler has places for. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { sql } from "drizzle-orm";
import { openTrialLife } from "../../support/trial-life.ts";

test("several steps at once admit no more trials than the project allows", async () => {
  await using life = await openTrialLife({ limits: "{ concurrency: 1 }" });
  for (let index = 0; index < 6; index++) await life.create();
  for (let round = 0; round < 3; round++) await life.engine.advance();
  assert.equal(life.scheduler.placements.length, 1);
});

test("several steps at once admit no more trials than there are free places", async () => {
  await using life = await openTrialLife({ slots: 2 });
  for (let index = 0; index < 8; index++) await life.create();
  for (let round = 0; round < 3; round++) await life.engine.advance();
  assert.equal(life.scheduler.placements.length, 2);
});

test("an allocation that waits in line is not taken for a silent worker", async () => {
  await using life = await openTrialLife({ staleMs: 1_000 });
  const id = await life.create();
  await life.engine.advance();
  const placed = life.scheduler.newest(id);
  placed.status = "pending";
  await silentFor(5);
  await life.engine.advance();
  assert.equal((await life.trials.get(id)).tries, 1);
  // Its time begins when it starts.
  placed.status = "running";
  await life.engine.advance();
  assert.equal((await life.trials.get(id)).tries, 1);
  await silentFor(5);
  await life.engine.advance();
  assert.equal(placed.status, "failed");

  async function silentFor(seconds: number): Promise<void> {
    await life.world.database.sql.execute(sql`
      update allocation set heartbeat_at = clock_timestamp() - ${`${seconds} s`}::interval`);
  }
});

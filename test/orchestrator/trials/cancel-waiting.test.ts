/** Goal: a person who asks for the end of a trial does not wait for its next try. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { sql } from "drizzle-orm";
import { openTrialLife } from "../../support/trial-life.ts";

test("a trial that waits for its next try is cancelled at once", async () => {
  await using life = await openTrialLife({});
  const id = await life.create();
  await life.world.database.sql.execute(sql`
    update trial set not_before = clock_timestamp() + interval '1 hour'`);
  await life.engine.advance();
  assert.equal((await life.trials.get(id)).state, "queued");
  await life.trials.cancel(id);
  await life.engine.advance();
  assert.equal((await life.trials.get(id)).state, "cancelled");
});

/** A claim lasts as long as its step, however short its lease: and no longer than that. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { sql } from "drizzle-orm";
import { rows } from "../../../orchestrator/db/rows.ts";
import { eventually } from "../../support/eventually.ts";
import { openTrialWorld } from "../../support/trial-world.ts";

test("a step that takes longer than a lease keeps its trial, and frees it at its end", async () => {
  await using opened = await openTrialWorld();
  const first = opened.another({ leaseMs: 300 });
  const second = opened.another({ leaseMs: 300 });
  const id = await opened.create();
  const entered = Promise.withResolvers<void>();
  const finish = Promise.withResolvers<void>();
  let asked = 0;
  opened.scheduler.capacity = async () => {
    asked += 1;
    entered.resolve();
    await finish.promise;
    return 0;
  };
  const advancing = first.engine.advance();
  await entered.promise;
  const [taken] = await leases();
  await eventually(
    () => leases(),
    ([lease]) => Number(lease?.until_ms) > Number(taken?.until_ms) + 600,
  );
  assert.equal(await second.engine.advance(), 0);
  assert.equal(asked, 1);
  finish.resolve();
  await advancing;
  assert.deepEqual(await leases(), [{ until_ms: null }]);
  assert.equal(await opened.state(id), "queued");

  function leases() {
    return rows<{ until_ms: string | null }>(
      opened.world.database.sql,
      sql`select (extract(epoch from lease_until) * 1000)::bigint::text as until_ms from trial`,
    );
  }
});

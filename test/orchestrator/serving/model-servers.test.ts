/** Goal: a pair costs what its plan says it costs, and what people ask of it is made true. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { sql } from "drizzle-orm";
import { rows } from "../../../orchestrator/db/rows.ts";
import { openServedWorld } from "../../support/served-models.ts";

const NORMAL = "qwen2.5-coder-14b-instruct";
const PLAN = { pair: "14b", gpu: "h100", gpu_count: 2 };

test("brought up again in the first currency, a pair is priced in it again", async () => {
  await using world = await openServedWorld();
  const { sql: db } = world.database;
  for (const currency of ["USD", "USD", "CAD", "USD"]) {
    await world.models.up({ plan: { ...PLAN, currency } });
    // As after a `down` that its engines have followed.
    await db.execute(sql`delete from model_server`);
  }
  const priced = await rows<{ currency: string }>(
    db,
    sql`select currency from own_model_price where model = ${NORMAL} order by effective_from`,
  );
  assert.deepEqual(
    priced.map(({ currency }) => currency),
    ["USD", "CAD", "USD"],
  );
});

test("down forgets a pair of a machine that no orchestrator is on any more", async () => {
  await using world = await openServedWorld();
  await world.models.up({ plan: PLAN });
  await world.database.sql.execute(sql`update model_server set machine = 'renamed'`);
  const down = await world.models.down("14b");
  assert.deepEqual([down.pair, down.is_wanted], ["coder-14b", false]);
  assert.deepEqual(await world.models.list(), []);
});

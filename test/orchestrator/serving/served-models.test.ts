/** Goal: what gateways are told of engines is what they can reach, and a wait ends when told to. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { sql } from "drizzle-orm";
import { systemClock as clock } from "../../../orchestrator/runtime/clock.ts";
import { createIds } from "../../../orchestrator/runtime/ids.ts";
import { createLog } from "../../../orchestrator/runtime/log.ts";
import { systemRandom } from "../../../orchestrator/runtime/random.ts";
import { openServedModels, type Served } from "../../../orchestrator/serving/served-models.ts";
import { MACHINE, openServedWorld } from "../../support/served-models.ts";

const log = createLog("silent");
const trialId = createIds(clock, systemRandom).next("trial");
const PLAN = { pair: "14b", gpu: "h100", gpu_count: 2, context_tokens: 16_384 };

test("another machine's loopback is out of reach, and its engines say so", async () => {
  await using world = await openServedWorld();
  await world.models.up({ plan: PLAN });
  await world.database.sql.execute(sql`update model_server set state = 'ready'`);
  for (const [machine, away] of [
    [MACHINE, null],
    ["elsewhere", /listens on test-machine for that machine alone; set AUTOCODE_ENGINES_HOST/],
  ] as const) {
    const seen: Served[] = [];
    const learn = (served: Served) => void seen.push(served);
    const options = { periodMs: 60_000, waitMaxMs: 60_000, machine };
    const deps = { db: world.database, clock, log };
    await using _ = await openServedModels(deps, learn, options);
    for (const engine of seen[0]?.engines ?? assert.fail("nothing was learned")) {
      assert.equal(engine.contextTokens, 16_384);
      if (away === null) assert.equal(engine.away, null);
      else assert.match(engine.away?.detail ?? "", away);
    }
  }
});

test("a wait ends with its signal, also while the database does not answer", async () => {
  await using world = await openServedWorld();
  await world.models.up({ plan: PLAN });
  const { database } = world;
  const leaving = new AbortController();
  const execute = async () => {
    leaving.abort();
    throw new Error("the connection was lost");
  };
  const broken = Object.assign(Object.create(database.sql), { execute });
  let isBroken = false;
  const db = Object.create(database, { sql: { get: () => (isBroken ? broken : database.sql) } });
  const options = { periodMs: 60_000, waitMaxMs: 60_000 };
  await using served = await openServedModels({ db, clock, log }, () => {}, options);
  isBroken = true;
  await served.until("served/coder-14b/normal", trialId, leaving.signal);
  assert.equal(leaving.signal.aborted, true);
});

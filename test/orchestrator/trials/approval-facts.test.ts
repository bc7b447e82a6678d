/** Goal: what a person is asked rests on this trial's calls and on those like it, and no others. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { sql } from "drizzle-orm";
import { rows } from "../../../orchestrator/db/rows.ts";
import { derivedId, type TrialId } from "../../../orchestrator/runtime/ids.ts";
import { gatherApprovalFacts } from "../../../orchestrator/trials/approval-facts.ts";
import { findTrial } from "../../../orchestrator/trials/rows.ts";
import { openTrialLife } from "../../support/trial-life.ts";

type Life = Awaited<ReturnType<typeof openTrialLife>>;

/** Calls as the gateway records them, on a transfer that is there. */
async function addCalls(life: Life, id: TrialId, costs: readonly number[]): Promise<void> {
  const transfer = derivedId("transfer", "limit", id);
  for (const cost of costs) {
    const at = new Date(life.world.clock.now()).toISOString();
    await life.db.sql.execute(sql`
      insert into call (id, trial_id, key_id, transfer_id, wire, side, model, model_requested,
        provider, price_version, reserved_nanos, cost_nanos, input_tokens, cache_read_tokens,
        cache_write_tokens, output_tokens, reasoning_tokens, is_estimated, status, started_at,
        ended_at)
      select ${life.ids.next("call")}, ${id}, id, ${transfer}, 'openai.chat', 'normal', 'm', 'm',
        'p', 'v', ${cost}, ${cost}, ${cost / 10}, 0, 0, 5, 0, false, 200, ${at}, ${at}
      from virtual_key where trial_id = ${id} limit 1`);
  }
}

async function addSwap(
  life: Life,
  id: TrialId,
  [charged, uncharged]: readonly [number, number],
  side = "normal",
) {
  const at = new Date(life.world.clock.now()).toISOString();
  await life.db.sql.execute(sql`
    insert into model_swap (transfer_id, trial_id, pair, side, model, ended_at, duration_ms, gpu_ms,
      cost_nanos, currency, charged_nanos, uncharged_nanos)
    values (${derivedId("transfer", "swap", id, side)}, ${id}, 'any', ${side}, 'm', ${at}, 1, 1, 1,
      'CAD', ${charged}, ${uncharged})`);
}

async function facts(life: Life, id: TrialId) {
  const trial = await findTrial(life.db.sql, id);
  assert.ok(trial !== null);
  return gatherApprovalFacts(life.db.sql, trial);
}

async function finish(life: Life, id: TrialId): Promise<void> {
  await life.db.sql.execute(sql`
    update trial set state = 'failed', verdict = 'failed', ended_at = now() where id = ${id}`);
}

async function startOne(life: Life, costs: readonly number[]): Promise<TrialId> {
  const id = await life.create();
  await life.engine.advance();
  await life.enrol(id);
  await addCalls(life, id, costs);
  return id;
}

test("its own calls, until three trials like it have finished dearer than it is now", async () => {
  await using life = await openTrialLife({ slots: 20 });
  const id = await startOne(life, [100, 100, 100]);
  const alone = await facts(life, id);
  assert.deepEqual(alone.forecast, {
    low_nanos: "100",
    high_nanos: "900",
    confidence_percent: 50,
    basis: "own_calls",
    evidence_count: 3,
  });
  assert.deepEqual([alone.shortage, alone.suggested_nanos], [null, "10000000"]);

  for (const costs of [[400], [500], [200], [900]]) await finish(life, await startOne(life, costs));
  // One that still runs is no evidence.
  await startOne(life, [5_000]);
  const { forecast } = await facts(life, id);
  assert.deepEqual(forecast, {
    low_nanos: "100",
    high_nanos: "600",
    confidence_percent: 50,
    basis: "finished_trials",
    evidence_count: 3,
  });
});

test("swaps are a part of what trials cost; a pair that is not loaded may cost one more", async () => {
  await using life = await openTrialLife({ slots: 20 });
  const id = await startOne(life, [100, 100, 100]);
  for (const costs of [[400], [500], [900]]) {
    const like = await startOne(life, costs);
    await finish(life, like);
    await addSwap(life, like, [30, 10]);
  }
  await addSwap(life, id, [20, 0]);
  const range = async () => {
    const { forecast } = await facts(life, id);
    return [forecast?.low_nanos, forecast?.high_nanos, forecast?.swap_nanos];
  };
  // From 430 to 930 in all, of which 320 are spent.
  assert.deepEqual(await range(), ["110", "610", undefined], "its pair is nobody's to load");
  await bringUp(life, "normal");
  assert.deepEqual(await range(), ["110", "610", undefined], "it is loaded");
  await putToSleep(life, "normal");
  // As the four before: 40, 40, 40 and 20.
  assert.deepEqual(await range(), ["110", "645", "35"]);
});

test("the next swap is what each side that is not loaded cost, which a trial pays all of", async () => {
  await using life = await openTrialLife({ slots: 20 });
  const id = await startOne(life, [100, 100, 100]);
  for (const thinking of [100, 300]) {
    const like = await startOne(life, [400]);
    await addSwap(life, like, [30, 10]);
    await addSwap(life, like, [thinking, 0], "thinking");
  }
  const next = async () => (await facts(life, id)).forecast?.swap_nanos;
  for (const side of ["normal", "thinking"]) await bringUp(life, side);
  assert.equal(await next(), undefined, "both are loaded");
  await putToSleep(life, "thinking");
  assert.equal(await next(), "200", "the models alternate: one side is loaded");
  await putToSleep(life, "normal");
  assert.equal(await next(), "240", "none is loaded");
});

async function bringUp({ db, world }: Life, side: string): Promise<void> {
  const at = new Date(world.clock.now()).toISOString();
  await db.sql.execute(sql`
    insert into model_server (pair, side, model, machine, base_url, plan, accepted_licences,
      is_awake, state, detail, since, brought_up_at)
    values ('any', ${side}, 'm', 'here', ${`http://127.0.0.1/${side}`}, '{}', '{}', true, 'ready',
      '', ${at}, ${at})`);
}

async function putToSleep({ db }: Life, side: string): Promise<void> {
  await db.sql.execute(
    sql`update model_server set is_awake = false, state = 'sleeping' where side = ${side}`,
  );
}

test("tokens are forecast in tokens", async () => {
  await using life = await openTrialLife({});
  const id = await startOne(life, [1_000, 1_000, 1_000]);
  const budget = await life.ledger.open({
    id: life.ids.next("account"),
    kind: "budget",
    owner: `tokens/trial/${id}`,
    currency: "TOK",
    mustNotExceed: true,
  });
  const short = { unit: "tokens", budget, requiredNanos: 9_000n, availableNanos: 200n } as const;
  await life.events.exhausted(id, short);
  const [told] = await rows<{ unit: string }>(
    life.db.sql,
    sql`select data ->> 'unit' as unit from event where type = 'budget.exhausted'`,
  );
  assert.equal(told?.unit, "TOK");
  const { shortage, forecast, suggested_nanos: suggested } = await facts(life, id);
  assert.deepEqual(
    [shortage?.level, shortage?.unit, shortage?.required_nanos],
    ["trial", "TOK", "9000"],
  );
  // 105 tokens a call: three times three more, less what is left; the next call lacks more.
  assert.deepEqual([forecast?.high_nanos, suggested], ["945", "9000"]);
});

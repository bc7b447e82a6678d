/**
 * Goal: an engine's samples are as often as they are to be and no oftener, are of all that was seen
 * since the last, and go when they are old; what an idle engine counted is told at once.
 *
 * Method: texts as vLLM writes them, a moved clock, the real table.
 */
import assert from "node:assert/strict";
import test from "node:test";
import { sql } from "drizzle-orm";
import { rows } from "../../../orchestrator/db/rows.ts";
import { createEngineSamples } from "../../../orchestrator/serving/engine-samples.ts";
import { openTestDatabase, type TestDatabase } from "../../support/database.ts";
import { engineText } from "../../support/engine-text.ts";

const START_MS = Date.UTC(2026, 10, 20, 12);
const ENGINE = { provider: "served/coder-14b/normal", startedAtMs: START_MS - 60_000, gpus: 2 };

function readSamples(db: TestDatabase) {
  return rows<Record<string, unknown>>(
    db.sql,
    sql`select extract(epoch from at - ${new Date(START_MS).toISOString()}::timestamptz)::float as s,
        running_mean, running_max, waiting_max, kv_cache_usage_max, generation_tokens::int as tokens,
        gpus from engine_sample order by at`,
  );
}

test("a sample every ten seconds, of what was seen since the last", async () => {
  await using db = await openTestDatabase();
  const clock = { ms: START_MS, now: () => clock.ms };
  const { observe } = createEngineSamples(db, clock);
  const look = async (running: number, generationTokens: number, more = {}) => {
    const text = engineText("m", { running, generationTokens, ...more });
    const due = await observe(ENGINE, text);
    clock.ms += 1_000;
    return due.map((reading) => reading.generationTokens);
  };
  assert.deepEqual(await look(0, 0), [0], "the first look is where it begins");
  for (let second = 1; second < 10; second++) {
    const more = second === 5 ? { waiting: 3, kvCacheUsage: 0.5 } : {};
    assert.deepEqual(await look(second === 9 ? 10 : 1, second * 20, more), []);
  }
  assert.deepEqual(await look(1, 200), [200]);
  // Its last call ends: counted at once, and written down once five seconds have gone.
  assert.deepEqual(await look(0, 210), [210]);
  assert.deepEqual(await look(0, 210), [], "nothing is new");
  clock.ms += 3_000;
  assert.deepEqual(await look(0, 215), [215]);
  assert.deepEqual(
    await readSamples(db),
    [
      ...[{ s: 0, running_mean: 0, running_max: 0, waiting_max: 0, kv_cache_usage_max: 0 }],
      ...[{ s: 10, running_mean: 1.9, running_max: 10, waiting_max: 3, kv_cache_usage_max: 0.5 }],
      ...[{ s: 16, running_mean: 0, running_max: 0, waiting_max: 0, kv_cache_usage_max: 0 }],
    ].map((row, index) => ({ ...row, tokens: [0, 200, 215][index], gpus: 2 })),
  );

  // Started again: at once, whenever the last was.
  const again = { ...ENGINE, startedAtMs: clock.ms };
  assert.equal((await observe(again, engineText("m", { running: 1 }))).length, 1);
  // A clock that was put back is no reason to wait for it.
  clock.ms -= 3_600_000;
  assert.equal((await observe(again, engineText("m", { running: 1 }))).length, 1);
  assert.deepEqual(await observe(again, "not an engine's"), []);
});

test("old samples go", async () => {
  await using db = await openTestDatabase();
  const clock = { ms: START_MS, now: () => clock.ms };
  const { observe, retention } = createEngineSamples(db, clock);
  const days = async (count: number) => {
    clock.ms = START_MS + count * 86_400_000;
    await observe(ENGINE, engineText("m", {}));
  };
  for (const count of [0, 1, 20]) await days(count);
  clock.ms = START_MS + 31 * 86_400_000 - 1;
  assert.deepEqual(await retention.activate(), { dropped: 1 });
  assert.deepEqual(await retention.activate(), { dropped: 0 });
  assert.equal((await readSamples(db)).length, 2);
});

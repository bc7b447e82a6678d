/**
 * Goal: a trial's figures are of its own calls, and of those samples alone that lie around them, of
 * an engine whose name is as long as a name may be.
 *
 * Method: a trial with calls in the books, and samples as the observer writes them.
 */
import assert from "node:assert/strict";
import test from "node:test";
import { sql } from "drizzle-orm";
import { createEngineSamples } from "../../../orchestrator/serving/engine-samples.ts";
import { readTrialEngines } from "../../../orchestrator/trials/engine-share-rows.ts";
import { engineText } from "../../support/engine-text.ts";
import { payCall } from "../../support/paid-call.ts";
import { openTrialLife } from "../../support/trial-life.ts";

/** The longest that a pair's name may be. */
const PROVIDER = `served/p${"x".repeat(62)}/thinking`;
const START_MS = Date.UTC(2026, 10, 20, 12);

test("a trial's calls are joined with the samples around them", async () => {
  await using life = await openTrialLife({});
  const trialId = await life.create();
  await life.engine.advance();
  await life.enrol(trialId);
  assert.deepEqual(await readTrialEngines(life.db.sql, trialId), []);

  for (const startedAtMs of [START_MS, START_MS + 600_000]) {
    await payCall(life, { trialId, startedAtMs });
  }
  await life.db.sql.execute(sql`update call set provider = ${PROVIDER}, gpu_ms = 500,
    first_byte_at = started_at + interval '1 second', ended_at = started_at + interval '5 seconds'`);
  const clock = { ms: START_MS, now: () => clock.ms };
  const { observe } = createEngineSamples(life.db, clock);
  const engine = { provider: PROVIDER, startedAtMs: 1, gpus: 4 };
  for (const [atS, running] of [
    [-300, 90],
    [-5, 0],
    [5, 3],
    [300, 90],
    [601, 90],
  ] as const) {
    clock.ms = START_MS + atS * 1_000;
    await observe(engine, engineText("m", { running, promptTokens: 10_000 + atS * 10 }));
  }
  const [share, ...others] = await readTrialEngines(life.db.sql, trialId);
  assert.deepEqual(others, []);
  const { provider, calls, load } = share ?? {};
  assert.deepEqual(
    [provider, calls?.call_count, calls?.gpu_ms, calls?.output_tokens_per_second],
    [PROVIDER, 2, 1_000, 1],
  );
  assert.deepEqual(
    [load?.sample_count, load?.sampled_ms, load?.running_max, load?.gpu_count],
    [1, 5_000, 3, 4],
  );
  // 15 tokens of its call, of 100.
  assert.deepEqual([load?.token_share, load?.gpu_share], [0.15, 0.025]);
});

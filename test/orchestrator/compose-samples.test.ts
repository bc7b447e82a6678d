/**
 * Goal: what an engine of ours counted is reconciled by that engine's own name, over a restart, and
 * a database that is away hinders nobody.
 */
import assert from "node:assert/strict";
import test from "node:test";
import { createObserver } from "../../orchestrator/compose-samples.ts";
import { rfc3339, systemClock } from "../../orchestrator/runtime/clock.ts";
import { createLog } from "../../orchestrator/runtime/log.ts";
import { countedSources } from "../../orchestrator/traffic/counted.ts";
import { createReconciler } from "../../orchestrator/traffic/reconciliation.ts";
import { openTestDatabase } from "../support/database.ts";
import { engineText } from "../support/engine-text.ts";
import { CODER_CARD, modelPlan, pairPlan } from "../support/model-plan.ts";
import { serverRow } from "../support/server-row.ts";

const log = createLog("silent");

test("an engine's tokens are compared under its own name, whatever it was restarted", async () => {
  await using db = await openTestDatabase();
  const observe = createObserver(db, log);
  const row = serverRow({
    pair: "coder-14b",
    side: "thinking",
    plan: pairPlan({ models: [modelPlan(CODER_CARD, { side: "thinking" })] }),
  });
  const look = (startedAtMs: number, promptTokens: number) =>
    observe(
      row,
      engineText("m", { promptTokens, generationTokens: promptTokens / 10 }),
      startedAtMs,
    );
  await look(1, 0);
  await look(1, 30_000);
  // Ray tells of all of its models in one text.
  await observe(row, `${engineText("m", { promptTokens: 30_000 })}${engineText("n", {})}`, 1);
  await look(2, 40_000);
  const sources = () => countedSources(db, "served/");
  const reconciler = createReconciler({ db, sources, clock: systemClock, log });
  const { rows } = await reconciler.reconcile(rfc3339(systemClock.now()).slice(0, 10));
  assert.deepEqual(
    rows.map((each) => [each.provider, each.their_input_tokens, each.their_output_tokens]),
    [["served/coder-14b/thinking", 70_000, 7_000]],
  );
  assert.match(rows[0]?.detail ?? "", /called around the gateway/);

  const away = { sql: { execute: () => Promise.reject(new Error("away")) } };
  await createObserver(away as never, log)(row, engineText("m", {}), 1);
});

/** Wires what is written down of engines that we look after. */
import type { Database } from "./db/database.ts";
import { systemClock as clock } from "./runtime/clock.ts";
import type { Log } from "./runtime/log.ts";
import { createEngineSamples } from "./serving/engine-samples.ts";
import { modelPlan, providerName } from "./serving/rows.ts";
import type { ServersDeps } from "./serving/servers.ts";
import { addCounted } from "./traffic/counted.ts";

/** Samples an engine, and counts its tokens for the reconciliation. */
export function createObserver(
  db: Pick<Database, "sql">,
  log: Log,
): NonNullable<ServersDeps["observe"]> {
  const samples = createEngineSamples(db, clock);
  return async (row, text, startedAtMs) => {
    const provider = providerName(row);
    try {
      const gpus = modelPlan(row).gpus.length;
      const engine = { provider, model: row.model, startedAtMs, gpus };
      for (const reading of await samples.observe(engine, text)) {
        const { model, promptTokens: inputTokens, generationTokens: outputTokens } = reading;
        const counters = { provider, model, inputTokens, outputTokens, startedAtMs };
        await addCounted(db, counters, clock.now());
      }
    } catch (error) {
      // Its figures hinder no engine.
      log.warn({ err: error, provider }, "an engine's figures were not written down");
    }
  };
}

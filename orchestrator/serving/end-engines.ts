/**
 * The end of a machine's engines with its last orchestrator. Its own gateway has ended its calls by
 * then; gateways of other processes may be in the middle of theirs, which an engine's own figures
 * tell: they are waited for. Rows stay: whoever starts next starts the engines again.
 *
 * Invariant: while another orchestrator of the machine stands in the register, nothing is ended.
 */
import { setTimeout as pause } from "node:timers/promises";
import { sql } from "drizzle-orm";
import type { Database } from "../db/database.ts";
import { type Clock, rfc3339 } from "../runtime/clock.ts";
import type { Log } from "../runtime/log.ts";
import type { EngineClient } from "./engine-client.ts";
import { readEngineMetrics } from "./engine-metrics.ts";
import type { EngineOptions } from "./engine-state.ts";
import { engineId, readServers, SERVED_CHANNEL, type ServerRow } from "./rows.ts";
import type { EngineLauncher } from "./serving.ts";

export interface EndingDeps {
  db: Pick<Database, "sql">;
  launcher: Pick<EngineLauncher, "condition" | "stop">;
  client: Pick<EngineClient, "answers" | "metrics">;
  /** Whether another orchestrator of this machine lives. */
  isShared: () => Promise<boolean>;
  clock: Clock;
  log: Log;
}

type EndingOptions = Pick<EngineOptions, "settleMs" | "endMaxMs" | "missesMax">;

const LOOK_MS = 200;

/** Resolves when all that could be ended is; never rejects for an engine's sake. */
export async function endEngines(
  { db, launcher, client, isShared, clock, log }: EndingDeps,
  { machine, engine }: { machine: string; engine: EndingOptions },
): Promise<void> {
  if (await isShared()) return;
  const servers = await readServers(db.sql, sql`machine = ${machine}`);
  // Gateways hear of it before: from now on they send nothing here.
  await db.sql.execute(sql`
    with ending as (update model_server
      set state = 'starting', since = ${rfc3339(clock.now())}, metrics = null,
        detail = 'ended with its orchestrator; the next one here starts it again'
      where machine = ${machine} and state = 'ready' returning pair)
    select pg_notify(${SERVED_CHANNEL}, '') from ending limit 1`);
  await Promise.all(servers.map(end));

  async function end(row: ServerRow): Promise<void> {
    try {
      // Another that ends beside us may have written down, of one with calls, that it starts.
      if (row.state !== "sleeping") await drain(row);
      // Whoever came meanwhile serves it, and gateways send calls to it again.
      if (!(await isShared())) await launcher.stop(engineId(row));
    } catch (error) {
      // A cluster that is away: it runs on, and whoever starts next finds it.
      log.warn({ err: error, engine: engineId(row) }, "engine not ended");
    }
  }

  async function drain(row: ServerRow): Promise<void> {
    const endMs = performance.now() + engine.endMaxMs;
    const settledMs = performance.now() + engine.settleMs;
    let misses = 0;
    while (performance.now() < endMs) {
      if ((await launcher.condition(engineId(row))).state !== "running" || (await isShared()))
        return;
      const isSettled = performance.now() >= settledMs;
      const inFlight = await readInFlight(row);
      if (performance.now() >= endMs) break;
      // A large prefill lets an engine miss a look; one that loads misses each.
      const isMissed = inFlight === null && !(await client.answers(row.base_url, row.model));
      misses = isMissed ? misses + 1 : 0;
      if (isSettled && (inFlight === 0 || misses >= engine.missesMax)) return;
      await pause(Math.min(LOOK_MS, engine.settleMs));
    }
    log.warn({ engine: engineId(row) }, "engine ended with calls that it had not answered");
  }

  /** Null: it does not say. It may then be answering calls, if it answers at all. */
  async function readInFlight(row: ServerRow): Promise<number | null> {
    const text = await client.metrics(row.base_url);
    const metrics = text === null ? null : readEngineMetrics(text, clock.now(), null);
    return metrics === null ? null : metrics.running + metrics.waiting;
  }
}

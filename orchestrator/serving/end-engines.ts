/**
 * The end of a machine's engines with its last orchestrator. Its own gateway has ended its calls by
 * then; gateways of other processes may be in the middle of theirs, which an engine's own figures
 * tell: they are waited for. Rows stay: whoever starts next starts the engines again.
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
  clock: Clock;
  /** Milliseconds that are never set back. */
  nowMs: () => number;
  log: Log;
}

const LOOK_MS = 200;

/** Resolves when all that could be ended is; never rejects for an engine's sake. */
export async function endEngines(
  { db, launcher, client, clock, nowMs, log }: EndingDeps,
  { machine, engine }: { machine: string; engine: Pick<EngineOptions, "settleMs" | "endMaxMs"> },
): Promise<void> {
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
      if (row.state === "ready" || row.state === "draining") await drain(row);
      await launcher.stop(engineId(row));
    } catch (error) {
      // A cluster that is away: it runs on, and whoever starts next finds it.
      log.warn({ err: error, engine: engineId(row) }, "engine not ended");
    }
  }

  async function drain(row: ServerRow): Promise<void> {
    const sinceMs = nowMs();
    while (nowMs() - sinceMs < engine.endMaxMs) {
      if ((await launcher.condition(engineId(row))).state !== "running") return;
      if (nowMs() - sinceMs >= engine.settleMs && !(await isAnswering(row))) return;
      await pause(Math.min(LOOK_MS, engine.settleMs));
    }
    log.warn({ engine: engineId(row) }, "engine ended with calls that it had not answered");
  }

  /** One that answers, and does not say what, may be answering calls. */
  async function isAnswering(row: ServerRow): Promise<boolean> {
    const text = await client.metrics(row.base_url);
    const metrics = text === null ? null : readEngineMetrics(text, clock.now(), null);
    if (metrics === null) return client.answers(row.base_url, row.model);
    return metrics.running + metrics.waiting > 0;
  }
}

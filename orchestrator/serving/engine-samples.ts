/**
 * Samples of engines: what their figures are written down as, so that a trial can be shown what
 * its engines did meanwhile. One row an engine every ten seconds, or after five when its last call
 * has ended, so that little is lost of one that ends then; kept for some weeks.
 *
 * What is remembered between two rows (how loaded it was since the last) may be lost: a row of the
 * next writer is of what it saw itself, and counters are the engine's own.
 */
import { sql } from "drizzle-orm";
import type { Database } from "../db/database.ts";
import type { BackgroundTask } from "../runtime/background.ts";
import { type Clock, type EpochMs, rfc3339 } from "../runtime/clock.ts";
import { type EngineReading, readEngine } from "./engine-reading.ts";

/** Whose figures they are. */
export interface SampledEngine {
  /** Its name in our calls. */
  readonly provider: string;
  /** Whose figures are asked for, where the text has others' too; absent: all that it has. */
  readonly model?: string;
  /** When the engine's process started; null: nobody can say. */
  readonly startedAtMs: EpochMs | null;
  /** GPUs that it runs on; null: not ours to know. */
  readonly gpus: number | null;
}

export interface EngineSamples {
  /**
   * Takes what its `/metrics` said just now. What should be counted: every ten seconds, and of an
   * idle engine whatever is new, so that nothing of one that ends in order is lost.
   */
  observe(engine: SampledEngine, text: string): Promise<readonly EngineReading[]>;
  /** A duty: rows that are too old go. */
  readonly retention: BackgroundTask;
}

/** How loaded it was, since its last row. */
interface Load {
  writtenAtMs: EpochMs;
  counted: EngineReading | null;
  startedAtMs: EpochMs | null;
  looks: number;
  running: number;
  runningMax: number;
  waiting: number;
  waitingMax: number;
  kvCacheUsageMax: number;
}

const EVERY_MS = 10_000;
const EVERY_IDLE_MS = 5_000;
const KEPT_MS = 30 * 86_400_000;
const RETENTION_PERIOD_MS = 3_600_000;

export function createEngineSamples(db: Pick<Database, "sql">, clock: Clock): EngineSamples {
  const loads = new Map<string, Load>();
  return {
    observe,
    retention: { name: "engine_samples", periodMs: RETENTION_PERIOD_MS, activate: drop },
  };

  async function observe(engine: SampledEngine, text: string): Promise<readonly EngineReading[]> {
    const nowMs = clock.now();
    const due: EngineReading[] = [];
    const found = readEngine(text);
    const own = found.filter(({ model }) => model === engine.model);
    for (const reading of own.length > 0 ? own : found) {
      const key = `${engine.provider} ${reading.model}`;
      const load = add(loads.get(key) ?? beginning(engine), reading);
      loads.set(key, load);
      const sinceMs = nowMs - load.writtenAtMs;
      // A clock that was put back must not silence it.
      const isTime = sinceMs >= EVERY_MS || sinceMs < 0 || load.startedAtMs !== engine.startedAtMs;
      const hasEnded = reading.running + reading.waiting === 0 && isNew(reading, load.counted);
      if (!isTime && !hasEnded) continue;
      due.push(reading);
      const isWritten = isTime || sinceMs >= EVERY_IDLE_MS;
      if (isWritten) await write(engine, reading, load, nowMs);
      const next = isWritten ? { ...beginning(engine), writtenAtMs: nowMs } : load;
      loads.set(key, { ...next, counted: reading });
    }
    return due;
  }

  async function write(
    { provider, startedAtMs, gpus }: SampledEngine,
    reading: EngineReading,
    load: Load,
    nowMs: EpochMs,
  ): Promise<void> {
    await db.sql.execute(sql`
      insert into engine_sample (provider, model, at, started_at, gpus, running_mean, running_max,
        waiting_mean, waiting_max, kv_cache_usage_max, prompt_tokens, cached_tokens,
        generation_tokens, preemptions, queue_ms, queued_calls, first_token_ms, first_token_calls)
      values (${provider}, ${reading.model}, ${rfc3339(nowMs)},
        ${startedAtMs === null ? null : rfc3339(startedAtMs)}, ${gpus},
        ${load.running / load.looks}, ${load.runningMax}, ${load.waiting / load.looks},
        ${load.waitingMax}, ${load.kvCacheUsageMax}, ${reading.promptTokens},
        ${reading.cachedTokens}, ${reading.generationTokens}, ${reading.preemptions},
        ${reading.queueMs}, ${reading.queuedCalls}, ${reading.firstTokenMs},
        ${reading.firstTokenCalls})
      on conflict (provider, model, at) do nothing`);
  }

  async function drop(): Promise<{ dropped: number }> {
    const before = rfc3339(clock.now() - KEPT_MS);
    const dropped = await db.sql.execute(sql`delete from engine_sample where at < ${before}`);
    return { dropped: dropped.rowCount ?? 0 };
  }
}

function beginning({ startedAtMs }: SampledEngine): Load {
  return {
    writtenAtMs: -Infinity,
    counted: null,
    startedAtMs,
    looks: 0,
    running: 0,
    runningMax: 0,
    waiting: 0,
    waitingMax: 0,
    kvCacheUsageMax: 0,
  };
}

function add(load: Load, { running, waiting, kvCacheUsage }: EngineReading): Load {
  return {
    ...load,
    looks: load.looks + 1,
    running: load.running + running,
    runningMax: Math.max(load.runningMax, running),
    waiting: load.waiting + waiting,
    waitingMax: Math.max(load.waitingMax, waiting),
    kvCacheUsageMax: Math.max(load.kvCacheUsageMax, kvCacheUsage),
  };
}

function isNew(reading: EngineReading, counted: EngineReading | null): boolean {
  return (
    reading.generationTokens !== counted?.generationTokens ||
    reading.promptTokens !== counted.promptTokens
  );
}

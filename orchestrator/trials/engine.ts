/**
 * Drives trials from `queued` to their end. Everything it knows is in the database: a claim
 * (lease + fence) takes a trial for one step, and each step can be repeated after a crash.
 *
 * Invariant: a trial reaches one terminal state once; what an older allocation says is refused.
 */
import { sql } from "drizzle-orm";
import type { Database } from "../db/database.ts";
import { rows } from "../db/rows.ts";
import type { Log } from "../runtime/log.ts";
import type { Scheduler } from "../scheduler/scheduler.ts";
import type { TrialRow } from "./rows.ts";
import type { Steps } from "./steps.ts";
import { ACTIVE_STATES } from "./trial.ts";
import type { Wakes } from "./wakes.ts";

export interface EngineOptions {
  /**
   * How long a claim lasts that nobody renews: so long waits a trial whose engine was killed. A
   * claim is renewed at every third of it for as long as its step takes.
   */
  leaseMs: number;
  /** How often it looks without being woken: for timeouts, and for what a lost wake left. */
  pollMs: number;
  /** Steps at once. */
  concurrency: number;
  /** No other engine works on this database: what one held when it was killed is free. */
  isAlone?: boolean;
}

export interface Engine extends AsyncDisposable {
  start(): void;
  /** One round over all that can be claimed now; returns how many trials it moved. */
  advance(): Promise<number>;
}

export function createEngine(
  {
    db,
    scheduler,
    wakes,
    steps,
    log,
  }: {
    db: Database;
    scheduler: Scheduler;
    wakes: Wakes;
    steps: Steps;
    log: Log;
  },
  { leaseMs, pollMs, concurrency, isAlone = false }: EngineOptions,
): Engine {
  let isStopping = false;
  let wake: () => void = () => {};
  let loop: Promise<void> = Promise.resolve();
  const subscriptions: Disposable[] = [];
  return { start, advance, [Symbol.asyncDispose]: stop };

  function start(): void {
    subscriptions.push(wakes.onTrial(() => wake()));
    subscriptions.push(scheduler.onEnd(() => wake()));
    loop = run();
  }

  async function stop(): Promise<void> {
    isStopping = true;
    wake();
    for (const subscription of subscriptions) subscription[Symbol.dispose]();
    await loop;
  }

  async function run(): Promise<void> {
    if (isAlone) await releaseAll();
    while (!isStopping) {
      // Armed before the look, so that a wake during it is not lost.
      const woken = new Promise<void>((resolve) => {
        wake = resolve;
      });
      try {
        await advance();
      } catch (error) {
        log.warn({ err: error }, "engine round failed");
      }
      let timer: NodeJS.Timeout | undefined;
      const elapsed = new Promise<void>((resolve) => {
        timer = setTimeout(resolve, pollMs);
      });
      if (!isStopping) await Promise.race([woken, elapsed]);
      clearTimeout(timer);
    }
  }

  async function advance(): Promise<number> {
    let moved = 0;
    const seen = new Set<string>();
    const lanes = Array.from({ length: concurrency }, async () => {
      while (!isStopping) {
        const trial = await claim([...seen]);
        if (trial === null) return;
        seen.add(trial.id);
        // A trial that moved may move again in this round; one that waits is left alone.
        if (await step(trial)) {
          moved += 1;
          seen.delete(trial.id);
        }
      }
    });
    await Promise.all(lanes);
    return moved;
  }

  /** Takes the most urgent trial that nobody holds, for one step. */
  async function claim(except: readonly string[]): Promise<TrialRow | null> {
    const [claimed] = await rows<TrialRow>(
      db.sql,
      sql`update trial set lease_until = clock_timestamp() + ${`${leaseMs} ms`}::interval
        where id = (
          select id from trial
          where (state = any(${sql.param(ACTIVE_STATES)}::text[])
              or (state = 'paused' and resume_at <= clock_timestamp()))
            and (lease_until is null or lease_until < clock_timestamp())
            and (not_before is null or not_before <= clock_timestamp() or cancel_requested)
            and id <> all(${sql.param(except)}::text[])
          order by priority desc, created_at, attempt, id
          limit 1 for update skip locked
        )
        returning *`,
    );
    return claimed ?? null;
  }

  /** Whether the trial moved. A step that fails leaves it where it was, for the next round. */
  async function step(trial: TrialRow): Promise<boolean> {
    const claimed = keep(trial);
    try {
      return await steps.advance(trial);
    } catch (error) {
      log.warn({ err: error, trial_id: trial.id, state: trial.state }, "trial step failed");
      return false;
    } finally {
      await release(trial, await claimed.last());
    }
  }

  /** Renews the claim until its last one is asked for. One that was lost stays lost. */
  function keep(trial: TrialRow): { last(): Promise<string | null> } {
    let leaseUntil = trial.lease_until;
    let renewing: Promise<void> = Promise.resolve();
    const timer = setInterval(() => {
      renewing = renewing.then(renew);
    }, leaseMs / 3);
    return { last };

    async function renew(): Promise<void> {
      try {
        const [renewed] = await rows<{ lease_until: string }>(
          db.sql,
          sql`update trial set lease_until = clock_timestamp() + ${`${leaseMs} ms`}::interval
            where id = ${trial.id} and lease_until = ${leaseUntil}::timestamptz
            returning lease_until`,
        );
        leaseUntil = renewed?.lease_until ?? leaseUntil;
      } catch (error) {
        log.warn({ err: error, trial_id: trial.id }, "claim not renewed");
      }
    }

    async function last(): Promise<string | null> {
      clearInterval(timer);
      await renewing;
      return leaseUntil;
    }
  }

  async function releaseAll(): Promise<void> {
    try {
      await db.sql.execute(sql`update trial set lease_until = null where lease_until is not null`);
    } catch (error) {
      log.warn({ err: error }, "leases of an earlier engine not released; they will run out");
    }
  }

  async function release(trial: TrialRow, leaseUntil: string | null): Promise<void> {
    try {
      // Its own lease alone: after a step that took too long, another engine may hold the trial.
      await db.sql.execute(sql`
        update trial set lease_until = null
        where id = ${trial.id} and lease_until = ${leaseUntil}::timestamptz`);
    } catch (error) {
      log.warn({ err: error, trial_id: trial.id }, "lease not released; it will run out");
    }
  }
}

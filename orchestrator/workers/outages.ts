/**
 * Gives up workers that are silent: an outage is noted, and what they had is lost.
 *
 * Invariant: only silence counts that this process has listened through. After a gap in its own
 * looking (it was paused, the database was away, another orchestrator led) or a jump of the
 * database's clock it listens for a whole lease first.
 */
import { type SQL, sql } from "drizzle-orm";
import type { Database, Sql } from "../db/database.ts";
import { rows } from "../db/rows.ts";
import type { BackgroundTask } from "../runtime/background.ts";
import type { Log } from "../runtime/log.ts";
import { FLEET_CHANNEL } from "./workers.ts";

export interface OutagesOptions {
  leaseMs: number;
  /** A clock that is never set, in milliseconds from any start. */
  monotonicMs?: () => number;
}

const PERIOD_MAX_MS = 2_000;

export function createOutagesTask(
  db: Pick<Database, "sql">,
  log: Log,
  { leaseMs, monotonicMs = () => performance.now() }: OutagesOptions,
): BackgroundTask {
  let last: { atMs: number; databaseMs: number } | null = null;
  let listeningSinceMs = 0;
  const lease = sql`${`${leaseMs} ms`}::interval`;
  return { name: "worker_outages", periodMs: Math.min(leaseMs / 6, PERIOD_MAX_MS), activate };

  async function activate(): Promise<{ outages: number }> {
    const [clock] = await rows<{ now_ms: string }>(
      db.sql,
      // A heartbeat from before a clock that was set back would hide a silence.
      sql`with mended as (
          update worker set heartbeat_at = clock_timestamp()
          where heartbeat_at > clock_timestamp() + ${lease} returning id
        )
        select (extract(epoch from clock_timestamp()) * 1000)::bigint as now_ms
        from (select count(*) from mended) as done`,
    );
    const now = { atMs: monotonicMs(), databaseMs: Number(clock?.now_ms) };
    const passedMs = last === null ? Number.POSITIVE_INFINITY : now.atMs - last.atMs;
    const jumpMs = last === null ? 0 : now.databaseMs - last.databaseMs - passedMs;
    if (passedMs > leaseMs / 2 || Math.abs(jumpMs) > leaseMs / 2) listeningSinceMs = now.atMs;
    last = now;
    if (now.atMs - listeningSinceMs < leaseMs) return { outages: 0 };
    return { outages: await giveUp() };
  }

  async function giveUp(): Promise<number> {
    return db.sql.transaction(async (transaction) => {
      const found = await rows<{ worker_id: string; name: string }>(
        transaction,
        sql`with overdue as (
            select id, name, heartbeat_at from worker
            where left_at is null and heartbeat_at < clock_timestamp() - ${lease} and not exists (
              select 1 from worker_outage where worker_id = worker.id and ended_at is null)
            for update skip locked
          ), noted as (
            insert into worker_outage (worker_id, started_at)
            select id, heartbeat_at from overdue
            on conflict do nothing returning worker_id
          )
          select worker_id, name from noted join overdue on overdue.id = worker_id`,
      );
      for (const { worker_id, name } of found) {
        log.warn({ worker_id, worker: name }, "worker is silent; what it had is placed elsewhere");
      }
      // Those that are leaving are not missed, but what they had is.
      await losePlacements(
        transaction,
        sql`worker_id in (
          select id from worker where heartbeat_at < clock_timestamp() - ${lease})`,
      );
      return found.length;
    });
  }
}

/** Ends what runs there as lost, and takes back what was not handed over yet. */
export async function losePlacements(transaction: Sql, where: SQL): Promise<void> {
  await transaction.execute(sql`
    with lost as (
      update placement set state = 'lost', ended_at = clock_timestamp()
      where state = 'running' and ${where} returning allocation_id
    ), back as (
      update placement set worker_id = null, assigned_at = null
      where state = 'pending' and ${where} returning allocation_id
    )
    select pg_notify(${FLEET_CHANNEL}, 'ended ' || allocation_id) from lost
    union all
    select pg_notify(${FLEET_CHANNEL}, 'room') from back`);
}

/** Workers and placements as tables have them, and the round that brings them together. */
import { sql } from "drizzle-orm";
import type { Capabilities, HostStatus, Requirements } from "../contract/workers.ts";
import type { Database, Sql } from "../db/database.ts";
import { rows } from "../db/rows.ts";
import type { AllocationId, WorkerId } from "../runtime/ids.ts";
import { FLEET_CHANNEL } from "../workers/workers.ts";
import { choose, type PlaceableWorker, type Waiting } from "./placement.ts";

export interface FleetWorker extends PlaceableWorker {
  id: WorkerId;
  name: string;
  /** As people see it: one that is late with its heartbeat is still ready until it is given up. */
  shown: HostStatus;
}

/** Any number: one round of all orchestrators at a time. */
const ROUND_LOCK = 52_175;
const ROUND_MAX = 10_000;

/** All that are there, and those that left but still end what they have. */
export async function readWorkers(
  db: Pick<Sql, "execute">,
  leaseMs: number,
): Promise<FleetWorker[]> {
  const found = await rows<{
    id: WorkerId;
    name: string;
    pool: string;
    slots: number;
    capabilities: Capabilities;
    shown: HostStatus;
    is_late: boolean;
    held: Requirements[];
  }>(
    db,
    sql`select worker.id, worker.name, worker.pool, worker.slots, worker.capabilities,
        case when outage.worker_id is not null then 'down'
          when worker.is_draining or worker.left_at is not null then 'draining'
          else 'ready' end as shown,
        worker.heartbeat_at < clock_timestamp() - ${`${leaseMs / 2} ms`}::interval as is_late,
        coalesce(had.held, '[]') as held
      from worker
      left join worker_outage outage on outage.worker_id = worker.id and outage.ended_at is null
      left join lateral (
        select jsonb_agg(requirements) as held from placement
        where worker_id = worker.id and state in ('pending', 'running')
      ) had on true
      where worker.left_at is null or had.held is not null
      order by worker.name`,
  );
  return found.map(({ is_late: isLate, ...worker }) => {
    // Nothing new for one that may be gone.
    const status: HostStatus = isLate && worker.shown === "ready" ? "down" : worker.shown;
    return { ...worker, status };
  });
}

/** What waits for a worker, oldest first. */
export async function notYetPlaced(db: Pick<Sql, "execute">): Promise<Waiting<AllocationId>[]> {
  return rows<Waiting<AllocationId> & Record<string, unknown>>(
    db,
    sql`select placement.allocation_id as id, placement.requirements, placement.priority,
        coalesce(trial.project_id, '') as owner
      from placement
      left join allocation on allocation.id = placement.allocation_id
      left join trial on trial.id = allocation.trial_id
      where placement.state = 'pending' and placement.worker_id is null
      order by placement.priority desc, placement.created_at, placement.allocation_id
      limit ${ROUND_MAX}`,
  );
}

/** Gives each placement that waits to a worker that it fits, and wakes those. */
export async function choosePlaces(
  db: Pick<Database, "sql">,
  { leaseMs }: { leaseMs: number },
): Promise<void> {
  if ((await notYetPlaced(db.sql)).length === 0) return;
  await db.sql.transaction(async (transaction) => {
    await transaction.execute(sql`select pg_advisory_xact_lock(${ROUND_LOCK})`);
    const waiting = await notYetPlaced(transaction);
    const choices = choose(waiting, await readWorkers(transaction, leaseMs));
    if (choices.length === 0) return;
    const ids = sql.param(choices.map(({ id }) => id));
    const workers = sql.param(choices.map(({ workerId }) => workerId));
    await transaction.execute(sql`
      with given as (
        update placement set worker_id = choice.worker_id, assigned_at = clock_timestamp()
        from unnest(${ids}::text[], ${workers}::text[]) as choice (allocation_id, worker_id)
        where placement.allocation_id = choice.allocation_id and placement.state = 'pending'
          and placement.worker_id is null
        returning placement.worker_id
      )
      select pg_notify(${FLEET_CHANNEL}, 'worker ' || worker_id)
      from (select distinct worker_id from given) as woken`);
  });
}

/** A host's sync, settled against the placements: what of it ended, is not its own, or is next. */
import { sql } from "drizzle-orm";
import type { HostOrders, HostSync } from "../contract/hosts.ts";
import type { Database } from "../db/database.ts";
import { rows } from "../db/rows.ts";
import { Problem } from "../problem.ts";
import type { AllocationId, WorkerId } from "../runtime/ids.ts";
import type { Log } from "../runtime/log.ts";
import { FLEET_CHANNEL } from "../workers/workers.ts";

type OpenPlacement = {
  allocation_id: AllocationId;
  is_stop_asked: boolean;
  is_enrolled: boolean;
};

/**
 * Keeps what the host says of its allocations.
 *
 * @param isFirst whether it was said just now: what it does not have was then lost on the way to
 * it, or with it.
 */
export async function settle(
  db: Pick<Database, "sql">,
  workerId: WorkerId,
  said: HostSync,
  { isFirst }: { isFirst: boolean },
): Promise<{ forget: string[]; stop: string[]; hasRoom: boolean }> {
  const running = said.allocations.filter(({ status }) => status === "running");
  const over = said.allocations.filter(
    ({ status }) => status !== "running" && status !== "stopping",
  );
  if (isFirst && over.length > 0) await keepEnds(db, workerId, over);
  const open = await rows<OpenPlacement>(
    db.sql,
    sql`select placement.allocation_id, is_stop_asked,
        coalesce(allocation.enrolled_at is not null, false) as is_enrolled
      from placement left join allocation on allocation.id = placement.allocation_id
      where worker_id = ${workerId} and state = 'running'`,
  );
  const has = new Set(said.allocations.map(({ allocation_id: id }) => id));
  if (isFirst) await findMissing(db, workerId, open, has);
  const wanted = new Set<string>(
    open.filter((each) => !each.is_stop_asked).map(({ allocation_id: id }) => id),
  );
  return {
    forget: over.map(({ allocation_id: id }) => id),
    stop: running.map(({ allocation_id: id }) => id).filter((id) => !wanted.has(id)),
    hasRoom: said.allocations.length - over.length < said.slots,
  };
}

async function keepEnds(
  db: Pick<Database, "sql">,
  workerId: WorkerId,
  over: HostSync["allocations"],
): Promise<void> {
  const ids = sql.param(over.map(({ allocation_id: id }) => id));
  const states = sql.param(over.map(({ status }) => status));
  await db.sql.execute(sql`
    with ended as (
      update placement set state = told.state, ended_at = clock_timestamp()
      from unnest(${ids}::text[], ${states}::text[]) as told (allocation_id, state)
      where placement.allocation_id = told.allocation_id and worker_id = ${workerId}
        and placement.state in ('pending', 'running')
      returning placement.allocation_id
    )
    select pg_notify(${FLEET_CHANNEL}, 'ended ' || allocation_id) from ended`);
}

/**
 * What was handed to the host and it has not: handed again when the answer with it was lost, else
 * lost with what the host forgot.
 */
async function findMissing(
  db: Pick<Database, "sql">,
  workerId: WorkerId,
  open: readonly OpenPlacement[],
  has: ReadonlySet<string>,
): Promise<void> {
  const missing = open.filter(({ allocation_id: id }) => !has.has(id));
  if (missing.length === 0) return;
  const isAgain = (each: OpenPlacement) => !each.is_enrolled && !each.is_stop_asked;
  const again = sql.param(missing.filter(isAgain).map(({ allocation_id: id }) => id));
  const gone = sql.param(missing.filter((e) => !isAgain(e)).map(({ allocation_id: id }) => id));
  await db.sql.execute(sql`
    with again as (
      update placement set state = 'pending'
      where allocation_id = any(${again}::text[]) and worker_id = ${workerId} and state = 'running'
    ), lost as (
      update placement set state = 'lost', ended_at = clock_timestamp()
      where allocation_id = any(${gone}::text[]) and worker_id = ${workerId} and state = 'running'
      returning allocation_id
    )
    select pg_notify(${FLEET_CHANNEL}, 'ended ' || allocation_id) from lost`);
}

/** What was chosen for this worker, each with a token of its own. */
export async function handOver(
  {
    db,
    issueEnrolment,
    log,
  }: {
    db: Pick<Database, "sql">;
    issueEnrolment: (allocationId: AllocationId) => Promise<string>;
    log: Log;
  },
  workerId: WorkerId,
): Promise<HostOrders["start"]> {
  const chosen = await rows<{ allocation_id: AllocationId }>(
    db.sql,
    sql`select allocation_id from placement
      where worker_id = ${workerId} and state = 'pending'
      order by priority desc, created_at, allocation_id`,
  );
  const start: HostOrders["start"] = [];
  for (const { allocation_id: id } of chosen) {
    const token = await tokenFor(id);
    if (token === null) continue;
    // It may have been stopped, or taken back, meanwhile.
    const [handed] = await rows(
      db.sql,
      sql`with handed as (
          update placement set state = 'running'
          where allocation_id = ${id} and worker_id = ${workerId} and state = 'pending'
          returning allocation_id
        ), noted as (
          update allocation set host = worker.name from worker
          where worker.id = ${workerId} and allocation.id in (select allocation_id from handed)
        )
        select allocation_id from handed`,
    );
    if (handed !== undefined) start.push({ allocation_id: id, enrolment_token: token });
  }
  return start;

  async function tokenFor(id: AllocationId): Promise<string | null> {
    try {
      return await issueEnrolment(id);
    } catch (error) {
      const isOver = error instanceof Problem && error.code === "conflict";
      log.warn({ err: error, allocation_id: id, worker_id: workerId }, "no enrolment token");
      // The trial went on without it; what only waits for the secrets is tried at the next sync.
      if (isOver) await endAsFailed(db, id);
      return null;
    }
  }
}

async function endAsFailed(db: Pick<Database, "sql">, id: AllocationId): Promise<void> {
  await db.sql.execute(sql`
    with ended as (
      update placement set state = 'failed', ended_at = clock_timestamp()
      where allocation_id = ${id} and state = 'pending' returning allocation_id
    )
    select pg_notify(${FLEET_CHANNEL}, 'ended ' || allocation_id) from ended`);
}

/**
 * How records leave the embedded store: a day's partition at once where nothing else is in it, rows
 * in batches where other projects' are.
 *
 * Every step is a transaction of its own, and what is cut off between two is gone on with at the
 * next call. A partition is not waited for: whoever reads it now keeps it until the next call.
 */
import { sql } from "drizzle-orm";
import { BACKUP_LOCK } from "../backup/backup.ts";
import type { Database, Sql } from "../db/database.ts";
import { listPartitions, type Partition } from "../db/partitions.ts";
import { readTime, rows, serverError } from "../db/rows.ts";
import { type EpochMs, rfc3339 } from "../runtime/clock.ts";
import type { ProjectId } from "../runtime/ids.ts";
import type { Log } from "../runtime/log.ts";
import type { FieldClass, Traffic } from "./traffic.ts";

const BATCH_ROWS = 2_000;
/** Of one call; the next one goes on. */
const BATCHES_MAX = 500;
const LOCK_TIMEOUT_MS = 200;
const LOCK_NOT_AVAILABLE = "55P03";

type Whose = ProjectId | null | "everyone";

/** What a class lies in; what is dropped last is what is counted. */
const TABLES: Readonly<Record<FieldClass, readonly string[]>> = {
  meta: ["flow_headers", "flow_body", "flow"],
  headers: ["flow_headers"],
  body: ["flow_body"],
};

export function createExpiry(db: Database, log: Log): Pick<Traffic, "expire" | "boundary"> {
  return { expire, boundary };

  async function expire(whose: Whose, what: FieldClass, before: EpochMs): Promise<number> {
    let count = 0;
    for (const table of TABLES[what]) {
      count = await dropDays(table, whose, before);
      if (whose !== "everyone") count += await deleteRows(table, whose, before);
    }
    return count;
  }

  /** Days that ended before then and hold nobody else's rows. */
  async function dropDays(table: string, whose: Whose, before: EpochMs): Promise<number> {
    let count = 0;
    for (const partition of await listPartitions(db.sql, table)) {
      if (partition.endMs > before) break;
      if (await hasOthers(db.sql, partition, whose)) continue;
      count += await dropDay(table, partition, whose);
    }
    return count;
  }

  async function dropDay(table: string, partition: Partition, whose: Whose): Promise<number> {
    const day = sql.identifier(partition.name);
    const [held] = await rows<{ count: string }>(db.sql, sql`select count(*) from ${day}`);
    try {
      return await db.sql.transaction(async (tx) => {
        // Not while a backup reads it.
        const [lock] = await rows<{ is_free: boolean }>(
          tx,
          sql`select pg_try_advisory_xact_lock(${BACKUP_LOCK}) as is_free,
            set_config('lock_timeout', ${String(LOCK_TIMEOUT_MS)}, true)`,
        );
        if (lock?.is_free !== true) return 0;
        // In the order of those who read and write: the table, then its partition.
        await tx.execute(sql`lock table only ${sql.identifier(table)} in access exclusive mode`);
        await tx.execute(sql`lock table ${day} in access exclusive mode`);
        if (await hasOthers(tx, partition, whose)) return 0;
        await tx.execute(sql`drop table ${day}`);
        return Number(held?.count ?? 0);
      });
    } catch (error) {
      if (serverError(error)?.code !== LOCK_NOT_AVAILABLE) throw error;
      log.debug({ partition: partition.name }, "a day of traffic is being read, it is kept");
      return 0;
    }
  }

  /** By the index: it is asked under a lock that everyone waits for. */
  async function hasOthers(
    from: Pick<Sql, "execute">,
    { name }: Partition,
    whose: Whose,
  ): Promise<boolean> {
    if (whose === "everyone") return false;
    const day = sql.identifier(name);
    const [other] = await rows<{ found: boolean }>(
      from,
      whose === null
        ? sql`select exists (select from ${day} where project_id is not null) as found`
        : sql`select exists (select from ${day} where project_id is null)
            or exists (select from ${day} where project_id < ${whose})
            or exists (select from ${day} where project_id > ${whose}) as found`,
    );
    return other?.found !== false;
  }

  async function deleteRows(
    table: string,
    projectId: ProjectId | null,
    before: EpochMs,
  ): Promise<number> {
    const from = sql.identifier(table);
    const whose = projectId === null ? sql`project_id is null` : sql`project_id = ${projectId}`;
    let count = 0;
    for (let batches = 0; batches < BATCHES_MAX; batches++) {
      const result = await db.sql.execute(sql`
        delete from ${from} where (started_at, id) in (
          select started_at, id from ${from}
          where ${whose} and started_at < ${rfc3339(before)}::timestamptz
          order by started_at limit ${BATCH_ROWS})`);
      const deleted = result.rowCount ?? 0;
      count += deleted;
      if (deleted < BATCH_ROWS) break;
    }
    return count;
  }

  /** The newest content that is too much, and with it all that began before. */
  async function boundary(projectId: ProjectId, bytesMax: number): Promise<EpochMs | null> {
    const [found] = await rows<{ started_at: string }>(
      db.sql,
      sql`with kept as (
          select started_at, id, byte_count from flow_headers where project_id = ${projectId}
          union all
          select started_at, id, byte_count from flow_body where project_id = ${projectId}
        ), summed as (
          select started_at, sum(byte_count) over (order by started_at desc, id desc) as bytes
          from kept
        )
        select started_at from summed where bytes > ${bytesMax}
        order by started_at desc limit 1`,
    );
    return found === undefined ? null : readTime(found.started_at) + 1;
  }
}

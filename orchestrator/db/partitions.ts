/**
 * Tables with a partition for each day of UTC, named after it: `<table>_20261121`.
 *
 * A partition is made beside its table and then attached, which hinders neither those who read nor
 * those who write: `create table … partition of` would wait for all of them, and all for it.
 */
import { sql } from "drizzle-orm";
import { Problem } from "../problem.ts";
import type { EpochMs } from "../runtime/clock.ts";
import type { Sql } from "./database.ts";
import { rows, serverError } from "./rows.ts";

/** Any number that is nobody else's, the same for ever: what makers of partitions wait for. */
const PARTITIONS_LOCK = 7_205_761;
const LOCK_TIMEOUT_MS = 5_000;
const LOCK_NOT_AVAILABLE = "55P03";
const DAY_MS = 86_400_000;

/** A day of UTC as names have it: "20261121". */
export type Day = string;

export interface Partition {
  name: string;
  /** From then on. */
  startMs: EpochMs;
  /** Until then. */
  endMs: EpochMs;
}

/** @throws RangeError for a time before the year 1 or after the year 9999. */
export function dayOf(atMs: EpochMs): Day {
  const text = new Date(atMs).toISOString();
  if (!/^\d{4}-/.test(text)) throw new RangeError(`dayOf: ${text} is in no year of four digits`);
  return text.slice(0, 10).replaceAll("-", "");
}

/** The partitions that a table has, the earliest first. */
export async function listPartitions(
  db: Pick<Sql, "execute">,
  table: string,
): Promise<Partition[]> {
  const found = await rows<{ name: string }>(
    db,
    sql`select relname as name from pg_inherits join pg_class on pg_class.oid = inhrelid
      where inhparent = to_regclass(${table}) order by relname`,
  );
  return found.flatMap(({ name }) => {
    const read = readPartitionName(name);
    return read?.table === table ? [{ name, ...spanOf(read.day) }] : [];
  });
}

/**
 * Makes the partitions of these days where they are missing. Safe in several processes at once;
 * where none is missing, nobody is waited for.
 *
 * @throws Problem `unavailable` when a lock was not to be had for so long: ask again later.
 */
export async function makePartitions(
  db: Sql,
  tables: readonly string[],
  days: readonly Day[],
  lockTimeoutMs = LOCK_TIMEOUT_MS,
): Promise<void> {
  if ((await missingOf(db, tables, days)).length === 0) return;
  try {
    await db.transaction(async (tx) => {
      await tx.execute(sql`select set_config('lock_timeout', ${String(lockTimeoutMs)}, true)`);
      await tx.execute(sql`select pg_advisory_xact_lock(${PARTITIONS_LOCK})`);
      // Another may have made them while we waited.
      for (const { table, day } of await missingOf(tx, tables, days)) {
        for (const statement of partitionStatements(table, day)) {
          await tx.execute(sql.raw(statement));
        }
      }
    });
  } catch (cause) {
    if (serverError(cause)?.code !== LOCK_NOT_AVAILABLE) throw cause;
    const what = `a day of ${tables.join(", ")} could not be made within ${lockTimeoutMs} ms`;
    const detail = `The database is held by another: ${what}; it is tried again`;
    throw new Problem("unavailable", detail, { cause });
  }
}

async function missingOf(
  db: Pick<Sql, "execute">,
  tables: readonly string[],
  days: readonly Day[],
): Promise<{ table: string; day: Day }[]> {
  const wanted = days.flatMap((day) => tables.map((table) => ({ table, day })));
  const names = wanted.map(({ table, day }) => `${table}_${day}`);
  // By a look into the table of tables: `to_regclass` may answer from before another's commit.
  const found = await rows<{ name: string }>(
    db,
    sql`select relname as name from pg_class
      where relname = any(${sql.param(names)}::name[]) and pg_table_is_visible(oid)`,
  );
  const there = new Set(found.map(({ name }) => name));
  return wanted.filter(({ table, day }) => !there.has(`${table}_${day}`));
}

/** What makes one partition; names and bounds cannot be parameters. */
export function partitionStatements(table: string, day: Day): string[] {
  const { startMs, endMs } = spanOf(day);
  const [from, to] = [startMs, endMs].map((atMs) => `'${new Date(atMs).toISOString()}'`);
  const [parent, name] = [table, `${table}_${day}`].map(
    (each) => `"${each.replaceAll('"', '""')}"`,
  );
  return [
    `create table ${name} (like ${parent} including all)`,
    `alter table ${parent} attach partition ${name} for values from (${from}) to (${to})`,
  ];
}

/** A partition's table and day by its name; null when it is none's. */
export function readPartitionName(name: string): { table: string; day: Day } | null {
  const [, table, day] = /^(.+)_(\d{8})$/.exec(name) ?? [];
  return table === undefined || day === undefined ? null : { table, day };
}

function spanOf(day: Day): { startMs: EpochMs; endMs: EpochMs } {
  const startMs = Date.parse(`${day.slice(0, 4)}-${day.slice(4, 6)}-${day.slice(6)}T00:00:00Z`);
  return { startMs, endMs: startMs + DAY_MS };
}

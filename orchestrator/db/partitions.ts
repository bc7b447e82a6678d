/**
 * Tables with a partition for each day of UTC, named after it: `<table>_20261121`.
 *
 * A partition is made beside its table and then attached, which hinders neither those who read nor
 * those who write: `create table … partition of` would wait for all of them, and all for it.
 */
import { sql } from "drizzle-orm";
import type { EpochMs } from "../runtime/clock.ts";
import type { Sql } from "./database.ts";
import { rows } from "./rows.ts";

/** Any number, the same for ever: what makers of partitions wait for. */
const ADVISORY_LOCK = 7_205_760;
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

/** Makes the partitions of these days where they are missing. Safe in several processes at once. */
export async function makePartitions(
  db: Sql,
  tables: readonly string[],
  days: readonly Day[],
): Promise<void> {
  await db.transaction(async (tx) => {
    await tx.execute(sql`select pg_advisory_xact_lock(${ADVISORY_LOCK})`);
    for (const day of days) {
      for (const table of tables) {
        const [known] = await rows<{ found: string | null }>(
          tx,
          sql`select to_regclass(${`${table}_${day}`})::text as found`,
        );
        if (known?.found !== null) continue;
        for (const statement of partitionStatements(table, day)) {
          await tx.execute(sql.raw(statement));
        }
      }
    }
  });
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

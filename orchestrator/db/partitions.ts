/**
 * Tables with a partition for each day of UTC, named after it: `<table>_20261121`.
 *
 * A partition is made beside its table and then attached, which hinders neither those who read nor
 * those who write: `create table … partition of` would wait for all of them, and all for it.
 */
import { type SQL, sql } from "drizzle-orm";
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
    const day = dayIn(name, table);
    return day === null ? [] : [{ name, ...spanOf(day) }];
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
        for (const statement of partitionStatements(table, day)) await tx.execute(statement);
      }
    }
  });
}

/** What makes one partition. */
export function partitionStatements(table: string, day: Day): SQL[] {
  const { startMs, endMs } = spanOf(day);
  const [parent, name] = [sql.identifier(table), sql.identifier(`${table}_${day}`)];
  // A bound cannot be a parameter.
  const [from, to] = [startMs, endMs].map((atMs) => {
    const quoted = `'${new Date(atMs).toISOString()}'`;
    return sql.raw(quoted);
  });
  return [
    sql`create table ${name} (like ${parent} including all)`,
    sql`alter table ${parent} attach partition ${name} for values from (${from}) to (${to})`,
  ];
}

/** The day of a partition of `table`; null when it is none. */
export function dayIn(name: string, table: string): Day | null {
  const [, of, day] = /^(.+)_(\d{8})$/.exec(name) ?? [];
  return of === table && day !== undefined ? day : null;
}

function spanOf(day: Day): { startMs: EpochMs; endMs: EpochMs } {
  const startMs = Date.parse(`${day.slice(0, 4)}-${day.slice(4, 6)}-${day.slice(6)}T00:00:00Z`);
  return { startMs, endMs: startMs + DAY_MS };
}

/**
 * The tables of an installation as a backup has them, by COPY: out of one snapshot, and into a
 * schema of their own, which takes the real one's place when all is well.
 *
 * Tables name each other in circles (a checkpoint its trial, a fork its checkpoint): foreign keys
 * are taken away before the rows come, and are made again, and so checked, when all are there.
 */
import { pipeline } from "node:stream/promises";
import type pg from "pg";
import { from as copyFrom, to as copyTo } from "pg-copy-streams";
import { partitionStatements, readPartitionName } from "../db/partitions.ts";
import type { BackupHead, BackupManifest } from "./backup.ts";

type Query = Pick<pg.Client, "query">;
type Table = BackupHead["tables"][number];
type Sequence = BackupManifest["sequences"][number];

/**
 * Our tables in the current schema with their columns, by name. Of a table that has partitions:
 * those, which hold its rows.
 */
export async function listTables(client: Query): Promise<Table[]> {
  const { rows } = await client.query<Table>(`
    select relname as name, array_agg(attname::text order by attnum) as columns
    from pg_class
    join pg_attribute on attrelid = pg_class.oid and attnum > 0 and not attisdropped
      and attgenerated = ''
    where relnamespace = current_schema()::regnamespace and relkind = 'r'
    group by relname order by relname`);
  return rows;
}

export async function listSequences(client: Query): Promise<Sequence[]> {
  const { rows } = await client.query<{ table: string; column: string; sequence: string }>(`
    select relname as table, attname as column,
      pg_get_serial_sequence(quote_ident(relname), attname) as sequence
    from pg_class join pg_attribute on attrelid = pg_class.oid
    where relnamespace = current_schema()::regnamespace and relkind = 'r' and attidentity <> ''
    order by relname`);
  const found: Sequence[] = [];
  for (const { table, column, sequence } of rows) {
    const last = await client.query<{ last: string | null }>(
      `select case when is_called then last_value::text end as last from ${sequence}`,
    );
    const value = last.rows[0]?.last ?? null;
    if (value !== null) found.push({ table, column, last: value });
  }
  return found;
}

/** The table's rows in COPY's text, as they come. */
export function copyOut(client: Query, { name, columns }: Table): AsyncIterable<Buffer> {
  return client.query(copyTo(`copy ${named(name)} (${list(columns)}) to stdout`));
}

export async function copyIn(
  client: Query,
  { name, columns }: Table,
  bytes: AsyncIterable<Uint8Array>,
): Promise<void> {
  await makePartition(client, name);
  const into = client.query(copyFrom(`copy ${named(name)} (${list(columns)}) from stdin`));
  await pipeline(bytes, into);
}

/** No migration makes a day's partition: it is made when its rows come. */
async function makePartition(client: Query, name: string): Promise<void> {
  const partition = readPartitionName(name);
  if (partition === null) return;
  const { rows } = await client.query<{ is_wanted: boolean }>(
    `select exists (select from pg_class where relnamespace = current_schema()::regnamespace
        and relname = $1 and relkind = 'p')
      and to_regclass(quote_ident($2)) is null as is_wanted`,
    [partition.table, name],
  );
  if (rows[0]?.is_wanted !== true) return;
  for (const statement of partitionStatements(partition.table, partition.day)) {
    await client.query(statement);
  }
}

/** Takes the current schema's foreign keys away; the statements that make them again. */
export async function dropForeignKeys(client: Query): Promise<string[]> {
  const { rows } = await client.query<{ table: string; name: string; definition: string }>(`
    select conrelid::regclass::text as table, conname as name,
      pg_get_constraintdef(oid) as definition
    from pg_constraint
    where contype = 'f' and connamespace = current_schema()::regnamespace
    order by conname`);
  for (const { table, name } of rows) {
    await client.query(`alter table ${table} drop constraint ${named(name)}`);
  }
  return rows.map(
    ({ table, name, definition }) =>
      `alter table ${table} add constraint ${named(name)} ${definition}`,
  );
}

export async function setSequences(client: Query, sequences: readonly Sequence[]): Promise<void> {
  for (const { table, column, last } of sequences) {
    await client.query("select setval(pg_get_serial_sequence(quote_ident($1), $2), $3)", [
      table,
      column,
      last,
    ]);
  }
}

/**
 * Puts the tables of schema `from` in the place of those of the current schema, which are dropped.
 * In the caller's transaction.
 */
export async function replaceTables(client: Query, from: string): Promise<void> {
  const { rows } = await client.query<{ schema: string; name: string }>(
    `select current_schema() as schema, relname as name from pg_class
      where relnamespace = $1::regnamespace and relkind in ('r', 'p') order by relname`,
    [from],
  );
  const [first] = rows;
  if (first === undefined) throw new Error(`the schema ${from} has no tables`);
  // Partitions go with their tables, those of days that the backup does not have, too.
  const names = rows.map(({ name }) => `${named(first.schema)}.${named(name)}`);
  await client.query(`drop table if exists ${names.join(", ")} cascade`);
  for (const { name } of rows) {
    await client.query(
      `alter table ${named(from)}.${named(name)} set schema ${named(first.schema)}`,
    );
  }
  await client.query(`drop schema ${named(from)}`);
}

function named(name: string): string {
  return `"${name.replaceAll('"', '""')}"`;
}

function list(columns: readonly string[]): string {
  return columns.map(named).join(", ");
}

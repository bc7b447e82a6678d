/** Migrations: once, in order, by one migrator at a time; and what they make, as a golden file. */
import assert from "node:assert/strict";
import { cp, mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { fileURLToPath } from "node:url";
import { sql } from "drizzle-orm";
import type { Database } from "../../../orchestrator/db/database.ts";
import { migrate } from "../../../orchestrator/db/migrate.ts";
import { rows } from "../../../orchestrator/db/rows.ts";
import { openEmptyDatabase, openTestDatabase } from "../../support/database.ts";

const MIGRATIONS = fileURLToPath(new URL("../../../orchestrator/db/migrations", import.meta.url));
const GOLDEN = fileURLToPath(new URL("../../golden/schema.sql", import.meta.url));

test("migrators that start at once apply each migration once", async () => {
  await using database = await openEmptyDatabase();
  const applied = await Promise.all([1, 2, 3, 4].map(() => migrate(database)));
  const names = applied.flat();
  assert.ok(names.length >= 4);
  assert.equal(new Set(names).size, names.length);
  assert.deepEqual(await migrate(database), []);
});

test("a migration that fails leaves nothing of itself, and is tried again", async () => {
  await using folder = await openFolder();
  await using database = await openEmptyDatabase();
  await writeFile(join(folder.path, "0001_a.sql"), "create table a (id integer);");
  await writeFile(join(folder.path, "0002_b.sql"), "create table b (id integer); select 1 / 0;");
  await assert.rejects(migrate(database, { folder: folder.path }));
  const [left] = await rows(
    database.sql,
    sql`select to_regclass('a') is not null as a, to_regclass('b') is not null as b`,
  );
  assert.deepEqual(left, { a: true, b: false });
  await writeFile(join(folder.path, "0002_b.sql"), "create table b (id integer);");
  assert.deepEqual(await migrate(database, { folder: folder.path }), ["0002_b"]);
});

test("a database newer than the code, and a landed file that changed, are refused", async () => {
  await using folder = await openFolder();
  await using database = await openEmptyDatabase();
  await cp(MIGRATIONS, folder.path, { recursive: true });
  await migrate(database, { folder: folder.path });

  await writeFile(join(folder.path, "0001_ledger.sql"), "-- changed");
  await assert.rejects(migrate(database, { folder: folder.path }), {
    code: "conflict",
    message: /Migration 0001_ledger changed/,
  });
  await using older = await openFolder();
  await cp(join(MIGRATIONS, "0001_ledger.sql"), join(older.path, "0001_ledger.sql"));
  await assert.rejects(migrate(database, { folder: older.path }), {
    code: "conflict",
    message: /newer than this autocode \(migration 0002/,
  });
});

test("transfers from before they were numbered are numbered as they were made", async () => {
  await using older = await openFolder();
  await using database = await openEmptyDatabase();
  const names = ["0001_ledger", "0002_trials", "0003_gateway", "0004_access"];
  for (const name of names) {
    await cp(join(MIGRATIONS, `${name}.sql`), join(older.path, `${name}.sql`));
  }
  await migrate(database, { folder: older.path });
  const id = (kind: string, last: string) =>
    `${kind}_01j00000000000000000000${last.padStart(3, "0")}`;
  const [budget, spend] = [id("account", "1"), id("account", "2")];
  await database.sql.execute(sql`
    insert into account (id, kind, owner, currency, must_not_exceed, created_at)
    values (${budget}, 'budget', 'project/a', 'CAD', false, now()),
      (${spend}, 'spend', 'project/a', 'CAD', false, now())`);
  const insert = (name: string, kind: string, pendingId: string | null, at: string) =>
    database.sql.execute(sql`
      insert into transfer (id, kind, debit_account_id, credit_account_id, amount_nanos,
        pending_id, expires_at, reason, created_at)
      values (${name}, ${kind}, ${budget}, ${spend}, 1, ${pendingId},
        ${kind === "pending" ? at : null}::timestamptz, 'call', ${at}::timestamptz)`);
  // A reservation that sorts after its settlement, and a later one that lies before both.
  await insert(id("transfer", "3"), "pending", null, "2026-11-02T00:00:00Z");
  await insert(id("transfer", "9"), "pending", null, "2026-11-01T00:00:00Z");
  await insert(id("transfer", "4"), "post", id("transfer", "9"), "2026-11-01T00:00:00Z");

  await migrate(database);
  const found = await rows<{ id: string }>(database.sql, sql`select id from transfer order by seq`);
  assert.deepEqual(
    found.map((row) => row.id),
    ["9", "4", "3"].map((last) => id("transfer", last)),
  );
  const [next] = await rows<{ seq: string }>(
    database.sql,
    sql`select nextval(pg_get_serial_sequence('transfer', 'seq'))::text as seq`,
  );
  assert.equal(next?.seq, "4");
});

/** Read it as a diff: `npm run golden` writes it anew. */
test("the schema is the one we reviewed", async (t) => {
  await using database = await openTestDatabase();
  const schema = await describeSchema(database);
  t.assert.fileSnapshot(schema, GOLDEN, { serializers: [(text) => text] });
});

async function openFolder(): Promise<{ path: string } & AsyncDisposable> {
  const path = await mkdtemp(join(tmpdir(), "autocode-test-migrations-"));
  return { path, [Symbol.asyncDispose]: () => rm(path, { recursive: true, force: true }) };
}

/** What the server says of our tables, in an order of its own making: names. */
async function describeSchema(db: Database): Promise<string> {
  const found = await rows<{ table: string; line: string }>(
    db.sql,
    sql`
      with ours as (
        select oid, relname from pg_class
        where relnamespace = 'public'::regnamespace and relkind = 'r'
      ), line as (
      select relname as table, 1 as part, lpad(attnum::text, 4, '0') as position,
        '  ' || attname || ' ' || format_type(atttypid, atttypmod)
          || case when attnotnull then ' not null' else '' end
          || case when attidentity = 'a' then ' generated always as identity' else '' end
          || coalesce(' default ' || pg_get_expr(adbin, adrelid), '') as line
      from ours
      join pg_attribute on attrelid = ours.oid and attnum > 0 and not attisdropped
      left join pg_attrdef on adrelid = ours.oid and adnum = attnum
      union all
      select relname, 2, conname, '  constraint ' || conname || ' ' || pg_get_constraintdef(c.oid)
      from ours join pg_constraint as c on conrelid = ours.oid
      where contype <> 'n'
      union all
      select relname, 3, indexname, '  ' || indexdef
      from ours join pg_indexes on tablename = relname and schemaname = 'public'
      union all
      select relname, 4, tgname, '  ' || pg_get_triggerdef(t.oid)
      from ours join pg_trigger as t on tgrelid = ours.oid and not tgisinternal
      )
      select "table", line from line
      order by "table" collate "C", part, position collate "C"`,
  );
  const tables = Map.groupBy(found, ({ table }) => table);
  return [...tables]
    .map(([table, lines]) => `table ${table}\n${lines.map(({ line }) => `${line}\n`).join("")}`)
    .join("\n");
}

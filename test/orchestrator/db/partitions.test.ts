/**
 * Goal: days of a table are made by any number of processes at once, each once, and nobody who
 * reads or writes the table waits for it.
 */
import assert from "node:assert/strict";
import { test } from "node:test";
import { sql } from "drizzle-orm";
import { BACKUP_LOCK } from "../../../orchestrator/backup/backup.ts";
import {
  dayOf,
  listPartitions,
  makePartitions,
  partitionStatements,
  readPartitionName,
} from "../../../orchestrator/db/partitions.ts";
import { openPostgresDatabase } from "../../../orchestrator/db/postgres.ts";
import { rows } from "../../../orchestrator/db/rows.ts";
import { createLog } from "../../../orchestrator/runtime/log.ts";
import { openTestDatabase } from "../../support/database.ts";

const TABLES = ["flow", "flow_headers", "flow_body"];
const DAYS = ["20261119", "20261120", "20261121"];

test("a day is UTC's, and its partition says which", () => {
  assert.equal(dayOf(Date.parse("2026-11-21T23:59:59.999Z")), "20261121");
  assert.equal(dayOf(Date.parse("2026-11-22T00:30:00+02:00")), "20261121");
  assert.throws(() => dayOf(Date.parse("+012026-01-01T00:00:00Z")), RangeError);
  assert.deepEqual(readPartitionName("flow_body_20261121"), {
    table: "flow_body",
    day: "20261121",
  });
  assert.equal(readPartitionName("flow_body"), null);
  const [make = ""] = partitionStatements('a"b', "20261121");
  assert.equal(make, 'create table "a""b_20261121" (like "a""b" including all)');
});

test("partitions are made once by several that make them at once", async () => {
  await using db = await openTestDatabase();
  await using other = await openPostgresDatabase({ url: db.url, log: createLog("silent") });
  await Promise.all(
    [db, other, db, other].map(({ sql: each }) => makePartitions(each, TABLES, DAYS)),
  );
  for (const table of TABLES) {
    const found = await listPartitions(db.sql, table);
    assert.deepEqual(
      found.map(({ name }) => name),
      DAYS.map((day) => `${table}_${day}`),
    );
    assert.equal(found[0]?.startMs, Date.UTC(2026, 10, 19));
    assert.equal(found[0]?.endMs, Date.UTC(2026, 10, 20));
  }
  assert.deepEqual(await listPartitions(db.sql, "no_such_table"), []);
});

test("a day is made beside a reader and a writer that are not done", async () => {
  await using db = await openTestDatabase();
  await makePartitions(db.sql, TABLES, DAYS.slice(0, 1));
  await db.sql.transaction(async (reading) => {
    await reading.execute(sql`select count(*) from flow`);
    await reading.execute(sql`insert into flow_headers (id, started_at, byte_count)
      values ('a', '2026-11-19T12:00:00Z', 1)`);
    await makePartitions(db.sql, TABLES, DAYS);
    const [seen] = await rows(reading, sql`select count(*)::int as count from flow_headers`);
    assert.deepEqual(seen, { count: 1 });
  });
  assert.equal((await listPartitions(db.sql, "flow_headers")).length, 3);
});

test("a day is made while a backup is under way, and one that is there waits for nobody", async () => {
  await using db = await openTestDatabase();
  await db.sql.transaction(async (backup) => {
    await backup.execute(sql`select pg_advisory_xact_lock_shared(${BACKUP_LOCK})`);
    await makePartitions(db.sql, TABLES, DAYS);
  });
  assert.equal((await listPartitions(db.sql, "flow")).length, DAYS.length);
  await db.sql.transaction(async (holder) => {
    await holder.execute(sql`lock table flow in access exclusive mode`);
    await makePartitions(db.sql, TABLES, DAYS, 1);
  });
});

test("who cannot have the table in time is told to come again, and nothing is half made", async () => {
  await using db = await openTestDatabase();
  await db.sql.transaction(async (holder) => {
    await holder.execute(sql`lock table flow_body in access exclusive mode`);
    await assert.rejects(makePartitions(db.sql, TABLES, DAYS, 50), {
      code: "unavailable",
      message: /flow_body could not be made within 50 ms/,
    });
  });
  assert.deepEqual(await listPartitions(db.sql, "flow"), []);
  await makePartitions(db.sql, TABLES, DAYS);
  assert.equal((await listPartitions(db.sql, "flow_body")).length, DAYS.length);
});

/**
 * Goal (R18): an upgrade loses nothing. A migrator that is killed in the middle leaves the schema
 * as it was, and the next one goes on; while the schema of the new release is made and after it,
 * orchestrators of the release before go on writing; one of them that starts then is refused.
 *
 * Method: a real kill -9 inside a migration; and the schema of the release before (its last
 * migration is `PREVIOUS`, by the changelog) against that of this one: statements that name the
 * former's columns run all the while, and the catalogue says that every such statement still fits.
 */
import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { once } from "node:events";
import { cp, readdir, readFile, rm, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { test } from "node:test";
import { sql } from "drizzle-orm";
import type { Database } from "../../orchestrator/db/database.ts";
import { migrate } from "../../orchestrator/db/migrate.ts";
import { rows } from "../../orchestrator/db/rows.ts";
import { openEmptyDatabase } from "../support/database.ts";
import { openTestFolder } from "../support/embedded.ts";
import { eventually } from "../support/eventually.ts";

const MIGRATIONS = join(import.meta.dirname, "../../orchestrator/db/migrations");
const MIGRATOR = join(import.meta.dirname, "../support/migrator.ts");
const CHANGELOG = join(import.meta.dirname, "../../CHANGELOG.md");
const NAMES = (await readdir(MIGRATIONS)).toSorted();
/** What orchestrators wrote before there was a release: as `createWriter` does. */
const BEFORE_RELEASES = 8;
const PREVIOUS = await lastReleased();

test("a migrator that is killed inside a migration leaves nothing of it; the next one does it", async () => {
  await using folder = await openTestFolder();
  await using database = await openEmptyDatabase();
  await cp(MIGRATIONS, folder.path, { recursive: true });
  const count = (await readdir(folder.path)).length;
  const last = join(folder.path, `${String(count + 1).padStart(4, "0")}_slow.sql`);
  await writeFile(
    last,
    "create table half (id integer); insert into half values (1); select pg_sleep(2);\n" +
      "alter table half add column whole integer;",
  );
  const killed = spawn(process.execPath, [MIGRATOR, database.url, folder.path], {
    stdio: "inherit",
  });
  await eventually(
    () =>
      rows(
        database.sql,
        sql`select from pg_stat_activity
          where datname = current_database() and wait_event = 'PgSleep'`,
      ),
    (sleeping) => sleeping.length === 1,
    60_000,
  );
  killed.kill("SIGKILL");
  await once(killed, "exit");
  const before = await landed(database);
  assert.equal(before.length, count);
  assert.deepEqual(await columnsOf(database, "half"), []);
  // The server may still be at the killed one's statement: whoever comes next waits for its end.
  assert.deepEqual(await migrate(database, { folder: folder.path }), [
    `${String(count + 1).padStart(4, "0")}_slow`,
  ]);
  assert.deepEqual(await columnsOf(database, "half"), ["id", "whole"]);
  assert.equal((await rows(database.sql, sql`select from half`)).length, 1);
});

test("the release before goes on writing while the schema is made new, and after it", async () => {
  await using database = await openEmptyDatabase();
  await migrate(database, { upTo: PREVIOUS });
  const writer = createWriter(database);
  const isDone = { value: false };
  const writing = (async () => {
    let written = 0;
    while (!isDone.value) {
      await writer.write();
      written += 1;
    }
    return written;
  })();
  try {
    await eventually(
      () => writer.count(),
      (count) => count > 3,
    );
    await migrate(database);
    const after = writer.count();
    await eventually(
      () => writer.count(),
      (count) => count > after + 3,
    );
  } finally {
    isDone.value = true;
  }
  const written = await writing;
  const [found] = await rows<{ count: number }>(
    database.sql,
    sql`select count(*)::int as count from trial`,
  );
  assert.equal(found?.count, written);
});

test("whatever the release before writes fits the new schema: columns are added, none is missed", async () => {
  await using database = await openEmptyDatabase();
  await migrate(database, { upTo: PREVIOUS });
  const before = await catalogue(database);
  await migrate(database);
  const after = await catalogue(database);
  const offences: string[] = [];
  for (const [name, was] of before) {
    const now = after.get(name);
    if (now === undefined) offences.push(`${name} is gone`);
    else if (now.type !== was.type) offences.push(`${name} is ${now.type}, was ${was.type}`);
    else if (now.isNeeded && !was.isNeeded) offences.push(`${name} must be given now`);
  }
  const tables = new Set([...before.keys()].map((name) => name.split(".")[0]));
  for (const [name, now] of after) {
    const isNew = tables.has(name.split(".")[0]) && !before.has(name);
    if (isNew && now.isNeeded) offences.push(`${name} is new, and must be given`);
  }
  assert.deepEqual(offences, []);
  assert.ok(before.size > 100);
});

test("code of the release before does not start on the new schema, and says why", async () => {
  await using folder = await openTestFolder();
  await using database = await openEmptyDatabase();
  await cp(MIGRATIONS, folder.path, { recursive: true });
  for (const name of (await readdir(folder.path)).toSorted().slice(PREVIOUS)) {
    await rm(join(folder.path, name));
  }
  await migrate(database, { folder: folder.path });
  assert.deepEqual(await migrate(database, { folder: folder.path }), []);
  await migrate(database);
  await assert.rejects(migrate(database, { folder: folder.path }), {
    code: "conflict",
    message: new RegExp(
      `newer than this autocode \\(migration ${NAMES[PREVIOUS]?.slice(0, -4)}\\): upgrade autocode`,
    ),
  });
});

/** The last migration of the newest release, which its section of the changelog ends with. */
async function lastReleased(): Promise<number> {
  const [newest] = (await readFile(CHANGELOG, "utf8"))
    .split(/^## /m)
    .filter((section) => /^\[?[0-9]+[.]/.test(section));
  if (newest === undefined) return BEFORE_RELEASES;
  const name = /^Schema: `([0-9]{4}_\w+)`$/m.exec(newest)?.[1];
  const [heading] = newest.split("\n");
  assert.ok(name !== undefined, `${heading}: say the release's last migration: Schema: \`0001_x\``);
  const at = NAMES.indexOf(`${name}.sql`);
  assert.ok(at !== -1, `${heading}: there is no migration ${name}`);
  return at + 1;
}

/** Writes what the release before writes for a trial, by the columns that it knew. */
function createWriter(database: Database) {
  let count = 0;
  return { write, count: () => count };

  async function write(): Promise<void> {
    count += 1;
    const id = (kind: string) => `${kind}_01j${String(count).padStart(23, "0")}`;
    const [project, task, trial, allocation] = ["project", "task", "trial", "allocation"].map(id);
    await database.sql.transaction(async (tx) => {
      for (const statement of [
        sql`insert into project (id, name, currency, time_zone, config, daily_allowance_nanos,
            created_at, updated_at)
          values (${project}, ${`p${count}`}, 'CAD', 'UTC', '{}', null, now(), now())`,
        sql`insert into task (id, project_id, name, content_sha256, instruction, base_commit, test,
            has_hidden_tests, agent_wall_ms, verify_wall_ms, source, created_at)
          values (${task}, ${project}, 't', ${"0".repeat(64)}, 'do', ${"0".repeat(40)}, '{}', false,
            1, 1, 's', now())`,
        sql`insert into trial (id, project_id, experiment_id, task_id, agent, pair, is_scripted,
            attempt, seed, priority, limit_nanos, wall_ms, state, flags, fence, tries, resume,
            resume_at, created_at, updated_at)
          values (${trial}, ${project}, null, ${task}, 'a', 'p', true, 1, 1, 0, 0, 1, 'running', '{}',
            0, 1, null, null, now(), now())`,
        sql`insert into allocation (id, trial_id, purpose, fence, scheduler, enrolment_sha256,
            heartbeat_at, created_at)
          values (${allocation}, ${trial}, 'agent', 1, 'local', null, clock_timestamp(), now())`,
        sql`update trial set allocation_id = ${allocation}, fence = fence + 1, state = 'placed'
          where id = ${trial}`,
        sql`insert into event (project_id, trial_id, type, data, at)
          values (${project}, ${trial}, 'trial.state', '{}', now())`,
      ]) {
        await tx.execute(statement);
      }
    });
  }
}

async function landed(database: Database): Promise<unknown[]> {
  return rows(database.sql, sql`select version from migration`);
}

async function columnsOf(database: Database, table: string): Promise<string[]> {
  const found = await rows<{ name: string }>(
    database.sql,
    sql`select attname as name from pg_attribute
      where attrelid = to_regclass(${table}) and attnum > 0 and not attisdropped order by attnum`,
  );
  return found.map(({ name }) => name);
}

interface Column {
  type: string;
  /** An insert that leaves it out is refused. */
  isNeeded: boolean;
}

/** Every column of every table, as "table.column". */
async function catalogue(database: Database): Promise<Map<string, Column>> {
  const found = await rows<{ name: string; type: string; is_needed: boolean }>(
    database.sql,
    sql`select relname || '.' || attname as name, format_type(atttypid, atttypmod) as type,
        attnotnull and not atthasdef and attidentity = '' as is_needed
      from pg_class join pg_attribute on attrelid = pg_class.oid
      where relnamespace = 'public'::regnamespace and relkind = 'r' and attnum > 0
        and not attisdropped`,
  );
  return new Map(found.map(({ name, type, is_needed: isNeeded }) => [name, { type, isNeeded }]));
}

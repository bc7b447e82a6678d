/**
 * Brings a database to this code's schema: `migrations/NNNN_<what>.sql`, in order, a transaction
 * each, one migrator at a time, beside whoever works on the schema before. A landed migration never
 * changes: its hash is kept beside its number, and another hash is refused.
 */
import { createHash } from "node:crypto";
import { readdir, readFile } from "node:fs/promises";
import { setTimeout as sleep } from "node:timers/promises";
import { fileURLToPath } from "node:url";
import { sql } from "drizzle-orm";
import { Problem } from "../problem.ts";
import { type Clock, rfc3339, systemClock } from "../runtime/clock.ts";
import type { Database } from "./database.ts";
import { rows, serverError } from "./rows.ts";

/** Any number, the same for ever: what migrators of one database wait for. */
const MIGRATIONS_LOCK = 7_205_759;
const LOCK_TIMEOUT_MS = 300;
/** About a minute. */
const LOCK_TRIES = 100;
const LOCK_NOT_AVAILABLE = "55P03";
const MIGRATIONS = fileURLToPath(new URL("migrations/", import.meta.url));

interface Migration {
  version: number;
  name: string;
  text: string;
  sha256: string;
}

export interface MigrateOptions {
  folder?: string;
  clock?: Clock;
  /** The number of the last one to apply: the schema of an earlier autocode. */
  upTo?: number;
}

/** The migrations of this code, by their numbers. */
export async function listMigrations(): Promise<
  { version: number; name: string; sha256: string }[]
> {
  const migrations = await readMigrations(MIGRATIONS);
  return migrations.map(({ version, name, sha256 }) => ({ version, name, sha256 }));
}

/**
 * Applies what is missing and returns the names of what it applied. Safe to run twice, at once.
 *
 * @throws Problem `conflict` when the database is newer than this code, or a landed file changed.
 */
export async function migrate(
  db: Pick<Database, "sql">,
  { folder = MIGRATIONS, clock = systemClock, upTo }: MigrateOptions = {},
): Promise<string[]> {
  const migrations = (await readMigrations(folder)).slice(0, upTo);
  const applied: string[] = [];
  for (let refusals = 0; ; ) {
    try {
      const name = await applyNext(db, migrations, clock);
      if (name === null) return applied;
      applied.push(name);
      refusals = 0;
    } catch (error) {
      if (serverError(error)?.code !== LOCK_NOT_AVAILABLE) throw error;
      refusals += 1;
      if (refusals === LOCK_TRIES) {
        const detail =
          "The schema could not be brought up to date: others hold its tables. Try again";
        throw new Problem("unavailable", detail, { cause: error });
      }
      await sleep(LOCK_TIMEOUT_MS);
    }
  }
}

async function applyNext(
  db: Pick<Database, "sql">,
  migrations: readonly Migration[],
  clock: Clock,
): Promise<string | null> {
  return db.sql.transaction(async (tx) => {
    await tx.execute(sql`select pg_advisory_xact_lock(${MIGRATIONS_LOCK})`);
    // An orchestrator of the release before may be at work. It takes its locks in another order
    // than a migration does. Whoever of the two gives up, it must not be the one that has work to
    // lose: so we do, before the server looks for deadlocks (after one second).
    await tx.execute(sql`select set_config('lock_timeout', ${String(LOCK_TIMEOUT_MS)}, true)`);
    await tx.execute(sql`
      create table if not exists migration (
        version integer primary key,
        name text not null,
        sha256 text not null,
        applied_at timestamptz not null
      )`);
    const landed = await rows<{ version: number; name: string; sha256: string }>(
      tx,
      sql`select version, name, sha256 from migration order by version`,
    );
    for (const { version, name, sha256 } of landed) {
      const ours = migrations.find((migration) => migration.version === version);
      if (ours === undefined) {
        throw new Problem(
          "conflict",
          `The database is newer than this autocode (migration ${name}): upgrade autocode`,
        );
      }
      if (ours.sha256 !== sha256) {
        throw new Problem(
          "conflict",
          `Migration ${ours.name} changed after this database had it: restore the file, ` +
            "and put the change into a new one",
        );
      }
    }
    const next = migrations[landed.length];
    if (next === undefined) return null;
    await tx.execute(sql.raw(next.text));
    await tx.execute(sql`
      insert into migration (version, name, sha256, applied_at)
      values (${next.version}, ${next.name}, ${next.sha256}, ${rfc3339(clock.now())})`);
    return next.name;
  });
}

async function readMigrations(folder: string): Promise<Migration[]> {
  const names = (await readdir(folder)).filter((name) => name.endsWith(".sql")).toSorted();
  return Promise.all(
    names.map(async (file, index) => {
      const version = Number.parseInt(file, 10);
      if (version !== index + 1) throw new Error(`migrations: ${file} is not number ${index + 1}`);
      const text = await readFile(`${folder}/${file}`, "utf8");
      const sha256 = createHash("sha256").update(text).digest("hex");
      return { version, name: file.replace(/\.sql$/, ""), text, sha256 };
    }),
  );
}

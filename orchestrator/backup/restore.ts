/**
 * Puts a backup in the place of an installation that is empty, or is to be replaced.
 *
 * The file is read twice: once to check every hash, and once to load it, beside what is there: the
 * tables into a schema of their own, the files into a folder of their own. There its ledger is
 * verified. Only then do they take their places, in one transaction and some renames.
 *
 * Invariant: until then nothing that was there has changed; from then on a mark in the data folder
 * keeps an orchestrator from starting on one half, until both are done.
 */
import { mkdir, rm, stat, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import pg from "pg";
import type { LedgerReport } from "../contract/ledger.ts";
import type { Restored } from "../contract/restored.ts";
import { listMigrations, migrate } from "../db/migrate.ts";
import { openPostgresDatabase } from "../db/postgres.ts";
import { Problem } from "../problem.ts";
import type { Clock } from "../runtime/clock.ts";
import type { Log } from "../runtime/log.ts";
import { type ArchiveReader, readArchive } from "./archive.ts";
import { type BackupHead, type BackupManifest, RESTORING_MARK } from "./backup.ts";
import { moveRoots, putFile } from "./files.ts";
import { copyIn, dropForeignKeys, replaceTables, setSequences } from "./tables.ts";

export interface RestoreTarget {
  home: string;
  databaseUrl: string;
  clock: Clock;
  log: Log;
  /** What keeps the secrets here. */
  secretsEngine: string;
  /** Whether what is there may be replaced; its files are moved aside. */
  isForced: boolean;
  /** The archive's bytes, from the start at each call. */
  open(): AsyncIterable<Uint8Array>;
  /** Checks the loaded ledger, with the secrets that are below `home` of a restored data folder. */
  verifyLedger(databaseUrl: string, home: string): Promise<LedgerReport>;
  onProgress(step: "checking" | "loading", name: string): void;
}

const SCHEMA = "autocode_restore";
const STATUS_TRIES = 20;
const STATUS_EVERY_MS = 250;

/** @throws Problem naming what is wrong with the backup, or with the place. */
export async function restore(target: RestoreTarget): Promise<Restored> {
  const { head, manifest } = await check(target);
  await refuseFull(target);
  const staged = join(target.home, ".restore");
  await rm(staged, { recursive: true, force: true });
  await mkdir(staged, { recursive: true, mode: 0o700 });
  await run(target.databaseUrl, [
    `drop schema if exists ${SCHEMA} cascade`,
    `create schema ${SCHEMA}`,
  ]);
  try {
    const requeued = await load(target, { head, manifest, staged });
    const report = await target.verifyLedger(inSchema(target.databaseUrl), staged);
    if (report.fault !== null) {
      throw new Problem(
        "conflict",
        `The backup's ledger is not intact (${report.fault.detail}): nothing was restored` +
          otherSecrets(head, target),
      );
    }
    const replaced = await takePlace(target, staged);
    const files = manifest.entries.filter(({ name }) => name.startsWith("files/")).length;
    const { created_at, version, secrets, tables } = head;
    const counts = { tables: tables.length, files, transfers: report.sealed + report.unsealed };
    return {
      created_at,
      version,
      secrets,
      ...counts,
      requeued,
      missing: manifest.missing,
      replaced,
    };
  } finally {
    await rm(staged, { recursive: true, force: true });
    // The next restore drops what stays; what failed before is what is to be told.
    await run(target.databaseUrl, [
      "set lock_timeout = '10s'",
      `drop schema if exists ${SCHEMA} cascade`,
    ]).catch((error: unknown) => target.log.warn({ err: error }, "restore's schema is left"));
  }
}

/** The first reading: nothing is written anywhere. */
async function check(
  target: RestoreTarget,
): Promise<{ head: BackupHead; manifest: BackupManifest }> {
  let head: BackupHead | null = null;
  const manifest = await readArchive(target.open(), {
    head: async (found) => {
      await refuseForeign(found);
      head = found;
    },
    entry: async (name, bytes) => {
      target.onProgress("checking", name);
      for await (const _ of bytes);
    },
  });
  if (head === null) throw new Error("an archive without a head was read");
  return { head, manifest };
}

/** Its ledger is signed by a key that lies with its secrets, which may not be those here. */
function otherSecrets({ secrets }: BackupHead, { secretsEngine }: RestoreTarget): string {
  if (secrets === secretsEngine) return "";
  const theirs = `. Its secrets are in ${secrets}, and here they are in ${secretsEngine}`;
  return `${theirs}: give restore the variables that its orchestrator had`;
}

/** Whether this code can read what the backup's code wrote. */
async function refuseForeign({ migrations, version }: BackupHead): Promise<void> {
  const ours = await listMigrations();
  for (const theirs of migrations) {
    const own = ours.find((each) => each.version === theirs.version);
    if (own === undefined) {
      throw new Problem(
        "conflict",
        `The backup was made by a newer autocode (${version}, migration ${theirs.name}): ` +
          "restore it with that one",
      );
    }
    if (own.sha256 !== theirs.sha256) {
      throw new Problem(
        "conflict",
        `The backup was made by another autocode: its migration ${theirs.name} is not ours`,
      );
    }
  }
}

async function refuseFull({ databaseUrl, home, isForced }: RestoreTarget): Promise<void> {
  const isCutOff = await isThere(join(home, RESTORING_MARK));
  // What a restore left that was killed between its renames is nobody's work.
  if (isForced || isCutOff) return;
  await withClient(databaseUrl, async (client) => {
    for (const table of ["project", "transfer"]) {
      const { rows: known } = await client.query("select to_regclass($1) as found", [table]);
      if (known[0].found === null) continue;
      const { rowCount } = await client.query(`select from ${table} limit 1`);
      if (rowCount === 0) continue;
      throw new Problem(
        "conflict",
        "This installation is not empty (its database has projects or transfers): restore into " +
          "another AUTOCODE_HOME or DATABASE_URL, or replace it with --force",
      );
    }
  });
}

async function load(
  target: RestoreTarget,
  { head, manifest, staged }: { head: BackupHead; manifest: BackupManifest; staged: string },
): Promise<number> {
  const url = inSchema(target.databaseUrl);
  const last = head.migrations.at(-1)?.version ?? 0;
  await migrateTo(url, target, last);
  const requeued = await withClient(url, async (client) => {
    await client.query("begin");
    const foreignKeys = await dropForeignKeys(client);
    await readArchive(target.open(), loader(target, client, head, staged));
    for (const statement of foreignKeys) await client.query(statement);
    await setSequences(client, manifest.sequences);
    const count = await settleDown(client);
    await client.query("commit");
    return count;
  });
  await migrateTo(url, target, undefined);
  return requeued;
}

function loader(
  target: RestoreTarget,
  client: pg.Client,
  { tables }: BackupHead,
  staged: string,
): ArchiveReader {
  return {
    head: async () => {},
    entry: async (name, bytes) => {
      target.onProgress("loading", name);
      const [, file] = /^files\/(.+)$/.exec(name) ?? [];
      if (file !== undefined) return putFile(staged, file, bytes);
      const [, tableName] = /^database\/([a-z0-9_]+)[.]\d+$/.exec(name) ?? [];
      const table = tables.find((each) => each.name === tableName);
      if (table === undefined) {
        throw new Problem("invalid_request", `The backup cannot be used: ${name} is unknown`);
      }
      return copyIn(client, table, bytes);
    },
  };
}

/**
 * What ran when the backup was made runs no more: its allocations are over, so that none of them is
 * heard again, and the engine takes their trials up as it does after any lost worker. That costs
 * them no try. How many those are.
 */
async function settleDown(client: pg.Client): Promise<number> {
  const { rowCount } = await client.query(`
    update trial set lease_until = null, stop_asked_at = null,
      tries = greatest(0, tries - (state in ('placed', 'running'))::int)
    where state in ('placed', 'running', 'verifying')`);
  await client.query("update trial set lease_until = null where lease_until is not null");
  await client.query("update allocation set ended_at = now() where ended_at is null");
  const { rows } = await client.query("select to_regclass('placement') as found");
  if (rows[0].found !== null) {
    await client.query(
      "update placement set state = 'lost', ended_at = now() where ended_at is null",
    );
  }
  return rowCount ?? 0;
}

/**
 * Where what was there before is now; null when nothing was. Once COMMIT was sent the files go back
 * only if the database says that it was not done: its answer may be what was lost.
 */
async function takePlace({ home, databaseUrl, clock }: RestoreTarget, staged: string) {
  const mark = join(home, RESTORING_MARK);
  const time = new Date(clock.now()).toISOString().replaceAll(/[:.]/g, "-");
  const aside = join(home, `replaced-${time}`);
  const wasCutOff = await isThere(mark);
  await writeFile(mark, "A restore is under way, or was cut off: run `autocode restore` again.\n");
  const moved = await moveRoots(staged, home, aside);
  let committing: string | null = null;
  try {
    await withClient(databaseUrl, async (client) => {
      await client.query("begin");
      await replaceTables(client, SCHEMA);
      const { rows } = await client.query("select pg_current_xact_id()::text as id");
      committing = rows[0].id as string;
      await client.query("commit");
    });
  } catch (error) {
    const ended = committing === null ? "aborted" : await howEnded(databaseUrl, committing);
    if (ended === null) {
      throw new Problem(
        "unavailable",
        "The database does not say whether it took the restored tables: the restored files stay " +
          `in place, and autocode does not start on them (what was there is in ${aside}). ` +
          "Run `autocode restore` again when the database answers",
        { cause: error },
      );
    }
    if (ended === "aborted") {
      await moved.undo();
      // A former restore's half is still what is there.
      if (!wasCutOff) await rm(mark);
      throw error;
    }
  }
  await rm(mark);
  return moved.movedAside.length === 0 ? null : aside;
}

/** What became of a transaction whose answer was lost; null when it cannot be learnt. */
async function howEnded(
  databaseUrl: string,
  transaction: string,
): Promise<"committed" | "aborted" | null> {
  for (let tries = 0; tries < STATUS_TRIES; tries++) {
    const status = await withClient(databaseUrl, async (client) => {
      const { rows } = await client.query("select pg_xact_status($1::xid8) as status", [
        transaction,
      ]);
      return rows[0].status as string | null;
    }).catch(() => null);
    if (status === "committed" || status === "aborted") return status;
    await delay(STATUS_EVERY_MS);
  }
  return null;
}

async function isThere(path: string): Promise<boolean> {
  return stat(path).then(
    () => true,
    () => false,
  );
}

async function migrateTo(
  url: string,
  { clock, log }: RestoreTarget,
  upTo: number | undefined,
): Promise<void> {
  await using database = await openPostgresDatabase({ url, log, connectionsMax: 1 });
  await migrate(database, { clock, ...(upTo === undefined ? {} : { upTo }) });
}

/** The address of the schema that a backup is loaded into. */
function inSchema(databaseUrl: string): string {
  const url = new URL(databaseUrl);
  const given = url.searchParams.get("options");
  const options = `${given === null ? "" : `${given} `}-c search_path=${SCHEMA}`;
  url.searchParams.set("options", options);
  return url.href;
}

function run(databaseUrl: string, statements: readonly string[]): Promise<void> {
  return withClient(databaseUrl, async (client) => {
    for (const statement of statements) await client.query(statement);
  });
}

async function withClient<Result>(
  connectionString: string,
  use: (client: pg.Client) => Promise<Result>,
): Promise<Result> {
  const client = new pg.Client({ connectionString, application_name: "autocode restore" });
  client.on("error", () => {});
  await client.connect();
  try {
    return await use(client);
  } finally {
    await client.end();
  }
}

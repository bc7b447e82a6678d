/** Backups of a running installation, and `autocode restore`, which needs that none runs. */
import { createReadStream } from "node:fs";
import { sql } from "drizzle-orm";
import type { Backups } from "./backup/backup.ts";
import { EnvelopeFault, unwrap } from "./backup/envelope.ts";
import { restore } from "./backup/restore.ts";
import { createBackups } from "./backup/write.ts";
import { takePlace } from "./compose-duties.ts";
import { openSecrets } from "./compose-secrets.ts";
import { type Config, readConfig } from "./config.ts";
import type { Restored } from "./contract/restored.ts";
import type { Database } from "./db/database.ts";
import { type EmbeddedDatabase, openEmbeddedDatabase } from "./db/embedded.ts";
import { openPostgresDatabase } from "./db/postgres.ts";
import { rows } from "./db/rows.ts";
import { createJournal } from "./ledger/journal.ts";
import { createLedgerExport } from "./ledger/journal-export.ts";
import { Problem } from "./problem.ts";
import { createLayout, type Layout } from "./projects/layout.ts";
import { systemClock as clock } from "./runtime/clock.ts";
import { createLog } from "./runtime/log.ts";
import type { Secrets } from "./secrets/secrets.ts";

export function buildBackups(
  {
    db,
    config,
    layout,
    secrets,
  }: { db: Database; config: Config; layout: Layout; secrets: Secrets },
  version: string,
): Backups {
  // Ours when none is named: then it is the embedded one's.
  const databaseUrl = config.databaseUrl ?? (db as EmbeddedDatabase).url;
  return createBackups({ databaseUrl, layout, clock, version, secrets });
}

export interface RestoreRequest {
  file: string;
  passphrase: string | null;
  isForced: boolean;
  onProgress(step: string, name: string): void;
}

/** @throws Problem, ConfigError or Error, its message for people. Nothing has changed then. */
export async function restoreBackup(request: RestoreRequest): Promise<Restored> {
  const config = readConfig();
  const log = createLog("silent");
  await using alone = await holdAlone(config);
  await using database = await openDatabase(config, alone.layout);
  await refuseRunning(database.db);
  try {
    return await restore({
      ...{ home: config.home, databaseUrl: database.url, clock, log },
      secretsEngine: config.secrets.engine,
      isForced: request.isForced,
      onProgress: request.onProgress,
      open: () => unwrap(createReadStream(request.file), request.passphrase),
      verifyLedger: async (databaseUrl, home) => {
        await using db = await openPostgresDatabase({ url: databaseUrl, log });
        await using safe = await openSecrets({ ...config, home }, log);
        const { secrets } = safe;
        const journal = createJournal(db, clock, secrets);
        // Awaited here: the connection ends with this block.
        return await createLedgerExport(db, clock, journal, secrets).verify();
      },
    });
  } catch (error) {
    if (!(error instanceof EnvelopeFault)) throw error;
    throw new Problem("invalid_request", `${request.file} cannot be restored: ${error.message}`, {
      cause: error,
    });
  }
}

/** The data folder's first seat: no orchestrator has it, and none may take it meanwhile. */
async function holdAlone(config: Config) {
  const layout = createLayout(config.home);
  const place = await takePlace(layout, { isRestoring: true });
  const abandoned = await place.seats.takeAbandoned();
  const sitters = await place.seats.sitters();
  if (place.seat.number > 0 || sitters.length > abandoned.length + (place.seat.last ? 1 : 0)) {
    await place[Symbol.asyncDispose]();
    throw new Problem(
      "conflict",
      `An orchestrator runs on ${config.home}: stop it, or set AUTOCODE_HOME to another folder`,
    );
  }
  return {
    layout,
    [Symbol.asyncDispose]: async () => {
      for (const seat of abandoned) await seat[Symbol.asyncDispose]();
      await place[Symbol.asyncDispose]();
    },
  };
}

async function openDatabase(config: Config, layout: Layout) {
  const log = createLog("silent");
  if (config.databaseUrl === null) {
    const db = await openEmbeddedDatabase({ dir: layout.postgres, log });
    return { db, url: db.url, [Symbol.asyncDispose]: () => db[Symbol.asyncDispose]() };
  }
  const db = await openPostgresDatabase({ url: config.databaseUrl, log });
  return { db, url: config.databaseUrl, [Symbol.asyncDispose]: () => db[Symbol.asyncDispose]() };
}

/** On another machine, with another data folder, an orchestrator may use the same database. */
async function refuseRunning(db: Database): Promise<void> {
  const [known] = await rows<{ is_there: boolean }>(
    db.sql,
    sql`select to_regclass('orchestrator') is not null as is_there`,
  );
  if (known?.is_there !== true) return;
  const [alive] = await rows<{ url: string; host: string }>(
    db.sql,
    sql`select url, host from orchestrator
      where heartbeat_at > clock_timestamp() - interval '10 seconds' limit 1`,
  );
  if (alive === undefined) return;
  throw new Problem(
    "conflict",
    `The orchestrator ${alive.url} on ${alive.host} uses this database: stop it first`,
  );
}

/**
 * A database of one's own for a test: cloned from a migrated template on the run's server, dropped
 * when disposed of. A test file that runs alone starts a server for itself.
 */
import { after } from "node:test";
import pg from "pg";
import type { Database } from "../../orchestrator/db/database.ts";
import { migrate } from "../../orchestrator/db/migrate.ts";
import { openPostgresDatabase } from "../../orchestrator/db/postgres.ts";
import { createLog } from "../../orchestrator/runtime/log.ts";
import { startTestServer, URL_VARIABLE } from "./server.ts";

const TEMPLATE = "autocode_template";
/** Any number: held while the template is made, and in common while it is cloned. */
const TEMPLATE_LOCK = 52_170;

export interface TestDatabase extends Database {
  /** For what connects by itself: another pool, another process. */
  readonly url: string;
}

const log = createLog("error");
let ownServer: ReturnType<typeof startTestServer> | null = null;
let cloned = 0;

// Here, not where the server is started: inside a test it would end with that test.
after(async () => (await ownServer)?.[Symbol.asyncDispose]());

/** A migrated database with nothing in it. */
export async function openTestDatabase(): Promise<TestDatabase> {
  const server = await serverUrl();
  const name = `test_${process.pid}_${++cloned}`;
  await withClient(server, async (client) => {
    await client.query(`select pg_advisory_lock(${TEMPLATE_LOCK})`);
    const found = await client.query("select from pg_database where datname = $1", [TEMPLATE]);
    if (found.rowCount === 0) await makeTemplate(client, server);
    await client.query(`create database ${name} template ${TEMPLATE} strategy file_copy`);
  });
  const url = databaseUrl(server, name);
  const database = await openPostgresDatabase({ url, log });
  return {
    ...database,
    url,
    [Symbol.asyncDispose]: async () => {
      await database[Symbol.asyncDispose]();
      await withClient(server, async (client) => {
        await client.query(`drop database ${name} with (force)`);
      });
    },
  };
}

/** A database with no tables at all, for tests of the migrations. */
export async function openEmptyDatabase(): Promise<TestDatabase> {
  const server = await serverUrl();
  const name = `empty_${process.pid}_${++cloned}`;
  await withClient(server, async (client) => {
    await client.query(`create database ${name} template template0`);
  });
  const url = databaseUrl(server, name);
  const database = await openPostgresDatabase({ url, log });
  return {
    ...database,
    url,
    [Symbol.asyncDispose]: async () => {
      await database[Symbol.asyncDispose]();
      await withClient(server, async (client) => {
        await client.query(`drop database ${name} with (force)`);
      });
    },
  };
}

async function makeTemplate(client: pg.Client, server: string): Promise<void> {
  const unfinished = `${TEMPLATE}_unfinished`;
  await client.query(`drop database if exists ${unfinished} with (force)`);
  await client.query(`create database ${unfinished} template template0`);
  {
    await using template = await openPostgresDatabase({
      url: databaseUrl(server, unfinished),
      log,
      connectionsMax: 1,
    });
    await migrate(template);
  }
  await client.query(`alter database ${unfinished} rename to ${TEMPLATE}`);
}

async function serverUrl(): Promise<string> {
  const shared = process.env[URL_VARIABLE];
  if (shared !== undefined) return shared;
  ownServer ??= startTestServer();
  return (await ownServer).url;
}

async function withClient(url: string, use: (client: pg.Client) => Promise<void>): Promise<void> {
  const client = new pg.Client({ connectionString: url });
  await client.connect();
  try {
    await use(client);
  } finally {
    await client.end();
  }
}

function databaseUrl(server: string, name: string): string {
  const url = new URL(server);
  url.pathname = `/${name}`;
  return url.href;
}

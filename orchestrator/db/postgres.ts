/** The database port over any PostgreSQL: a pool for statements, one connection for LISTEN. */
import { drizzle } from "drizzle-orm/node-postgres";
import pg from "pg";
import { Problem } from "../problem.ts";
import type { Log } from "../runtime/log.ts";
import type { Database, Rows, Sql, Statement } from "./database.ts";
import { createListener } from "./listener.ts";

const CONNECT_TIMEOUT_MS = 10_000;
/** More than any statement of ours takes; a lost client's locks go after this at the latest. */
const IDLE_IN_TRANSACTION_MS = 60_000;

export interface PostgresOptions {
  /** `postgresql://user:password@host:port/database?…` */
  url: string;
  log: Log;
  name?: Database["name"];
  /** Most connections at once. */
  connectionsMax?: number;
}

/**
 * Connects to `url` and asks for the server's version.
 *
 * @throws Problem `unavailable` when it does not answer; `invalid_request` before PostgreSQL 15.
 */
export async function openPostgresDatabase({
  url,
  log,
  name = "postgres",
  connectionsMax = 12,
}: PostgresOptions): Promise<Database> {
  const config = {
    connectionString: url,
    application_name: "autocode",
    connectionTimeoutMillis: CONNECT_TIMEOUT_MS,
    idle_in_transaction_session_timeout: IDLE_IN_TRANSACTION_MS,
    keepAlive: true,
  } satisfies pg.ClientConfig;
  const pool = new pg.Pool({ ...config, max: connectionsMax, pipeline: true });
  // While closing, the server may end the last ones before we do.
  let isClosing = false;
  // A connection that breaks is replaced at its next use, and what it was doing fails. The events
  // come besides (the pool's, too, when it was idle), and unheard they would end the process.
  const noteBroken = (error: Error) => {
    if (!isClosing) log.warn({ err: error }, "database connection failed");
  };
  pool.on("error", () => {});
  pool.on("connect", (client) => client.on("error", noteBroken));
  const listener = createListener(config, log);

  const version = await readVersion(pool).catch(async (error: unknown) => {
    await pool.end();
    throw error;
  });
  return {
    name,
    sql: createSql(pool),
    together: (statements) => sendTogether(pool, statements),
    version,
    listen: listener.listen,
    [Symbol.asyncDispose]: close,
  };

  async function close(): Promise<void> {
    isClosing = true;
    await listener.close();
    await pool.end();
  }
}

/**
 * Statements on the pool. Transactions are drizzle's, but on a connection that is ours to give
 * back: drizzle 0.45 keeps it for ever when `begin` fails (a dozen of those, and nothing connects
 * any more), and answers a failed `rollback` instead of what had gone wrong.
 */
function createSql(pool: pg.Pool): Sql {
  const db = drizzle({ client: preparing(pool) });
  return { execute: db.execute.bind(db), transaction };

  async function transaction<Result>(
    use: Parameters<typeof db.transaction<Result>>[0],
    config?: Parameters<typeof db.transaction>[1],
  ): Promise<Result> {
    const client = await pool.connect();
    let refused: { cause: unknown } | null = null;
    let isBroken = false;
    try {
      return await drizzle({ client: beginning(preparing(client)) }).transaction(async (tx) => {
        try {
          return await use(tx);
        } catch (cause) {
          refused = { cause };
          throw cause;
        }
      }, config);
    } catch (error) {
      const { cause } = refused ?? { cause: error };
      isBroken = cause !== error || refused === null;
      throw cause;
    } finally {
      client.release(isBroken);
    }
  }
}

/**
 * A prepared plan outlives the table it was made for: one that reads a small table whole reads a
 * large one whole too, until the next analysis. Seen on a new installation: 200 ms for each flush
 * of the ledger at 20,000 transfers.
 */
const BEGIN = "begin; set local enable_seqscan = off";

/** Sent without waiting for one another's answers: after a failure the server skips the rest. */
async function sendTogether(pool: pg.Pool, statements: readonly Statement[]): Promise<Rows[]> {
  const client = await pool.connect();
  let isBroken = true;
  try {
    const sent = [
      client.query(BEGIN),
      ...statements.map(({ text, values }) =>
        client.query({ text, values: values as unknown[], ...preparedName(text) }),
      ),
      client.query("commit"),
    ];
    const answers = await Promise.allSettled(sent);
    const failed = answers.find((answer) => answer.status === "rejected");
    // Whether the connection is of use still, the answer to `commit` says.
    isBroken = answers.at(-1)?.status === "rejected";
    if (failed !== undefined) throw failed.reason;
    return answers
      .slice(1, -1)
      .map((answer) => (answer as PromiseFulfilledResult<pg.QueryResult>).value.rows);
  } finally {
    client.release(isBroken);
  }
}

/**
 * The pool or connection, with a name for each statement that begins with a comment such as
 * "prepared: ledger.reserve": the server then parses and plans it once a connection, which is more
 * than half of its work on a statement of the ledger's.
 */
function preparing<Client extends pg.Pool | pg.PoolClient>(client: Client): Client {
  const query = (config: pg.QueryConfig, params: unknown[]) =>
    client.query({ ...config, ...preparedName(config.text) }, params);
  return new Proxy(client, {
    get: (target, key) => (key === "query" ? query : Reflect.get(target, key)),
  });
}

/**
 * The connection, on which `begin` does not wait for its answer: it travels with the statement
 * after it, which fails if it did.
 */
function beginning<Client extends pg.PoolClient>(client: Client): Client {
  let begun: Promise<unknown> | null = null;
  const query = async (config: pg.QueryConfig, params: unknown[]) => {
    const sent = client.query(config, params);
    if (/^begin\b/.test(config.text)) {
      begun = sent;
      sent.catch(() => {});
      return { rows: [] };
    }
    const [answer] = await Promise.all([sent, begun]);
    begun = null;
    return answer;
  };
  return new Proxy(client, {
    get: (target, key) => (key === "query" ? query : Reflect.get(target, key)),
  });
}

function preparedName(text: string): { name: string } | undefined {
  const [, name] = /^\s*\/\* prepared: ([a-z_.]+) \*\//.exec(text) ?? [];
  return name === undefined ? undefined : { name };
}

async function readVersion(pool: pg.Pool): Promise<string> {
  let version: string;
  try {
    const answer = await pool.query<{ server_version: string }>("show server_version");
    version = answer.rows[0]?.server_version.split(" ")[0] ?? "";
  } catch (cause) {
    throw new Problem(
      "unavailable",
      `PostgreSQL did not answer (${(cause as Error).message}): check DATABASE_URL`,
      { cause },
    );
  }
  if (Number.parseInt(version, 10) < 15) {
    throw new Problem("invalid_request", `PostgreSQL ${version} is too old: use 15 or newer`);
  }
  return version;
}

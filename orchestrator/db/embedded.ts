/** The database port over our own PostgreSQL server, which runs as long as this does. */
import type { Log } from "../runtime/log.ts";
import type { Database } from "./database.ts";
import { openPostgresDatabase } from "./postgres.ts";
import { startServer } from "./server.ts";

export interface EmbeddedOptions {
  /** The folder that is the server's: `<home>/shared/postgres`. */
  dir: string;
  log: Log;
  /** PostgreSQL settings on top of ours; for tests. */
  settings?: Readonly<Record<string, string>>;
}

export interface EmbeddedDatabase extends Database {
  /** With the role's password in it: for programs of this machine that are told of it, no logs. */
  readonly url: string;
  /** The server's process id at the moment. */
  serverPid(): number;
}

/** Starts the server of `dir` (made at the first start) and connects. @throws as `startServer` */
export async function openEmbeddedDatabase(options: EmbeddedOptions): Promise<EmbeddedDatabase> {
  const server = await startServer(options);
  try {
    const database = await openPostgresDatabase({
      url: server.url,
      log: options.log,
      name: "embedded",
    });
    return {
      ...database,
      url: server.url,
      serverPid: server.pid,
      [Symbol.asyncDispose]: async () => {
        await database[Symbol.asyncDispose]();
        await server[Symbol.asyncDispose]();
      },
    };
  } catch (error) {
    await server[Symbol.asyncDispose]();
    throw error;
  }
}

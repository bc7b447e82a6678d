/**
 * The database port: PostgreSQL through drizzle. `embedded.ts` starts our own server under the
 * data folder; `postgres.ts` uses the one that `DATABASE_URL` names. Same SQL, same migrations.
 */
import type { NodePgDatabase } from "drizzle-orm/node-postgres";

/** Runs statements; in `transaction` callbacks too, so that a step can join its caller's. */
export type Sql = Pick<NodePgDatabase, "execute" | "transaction">;

/**
 * A statement as the server gets it: `$1`… stand for the values. A text that begins with a comment
 * such as "prepared: ledger.reserve" is parsed and planned once a connection.
 */
export interface Statement {
  text: string;
  values: readonly unknown[];
}

export type Rows = Record<string, unknown>[];

export interface Database extends AsyncDisposable {
  readonly name: "embedded" | "postgres";
  readonly sql: Sql;
  /**
   * The rows of each, in one transaction and one round trip: all of them take effect, or none and
   * the first failure is thrown.
   */
  readonly together?: (statements: readonly Statement[]) => Promise<Rows[]>;
  /** Server version, as it says it: "18.4". */
  readonly version: string;
  /**
   * Calls `onNotify` with the payload of each NOTIFY on `channel`, and `onReconnect` whenever
   * notifications may have been missed, so that the listener looks for itself.
   */
  listen(
    channel: string,
    onNotify: (payload: string) => void,
    onReconnect?: () => void,
  ): Promise<AsyncDisposable>;
}

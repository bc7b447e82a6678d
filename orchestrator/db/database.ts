/**
 * The database port: PostgreSQL through drizzle. `embedded.ts` starts our own server under the
 * data folder; `postgres.ts` uses the one that `DATABASE_URL` names. Same SQL, same migrations.
 */
import type { NodePgDatabase } from "drizzle-orm/node-postgres";

/** Runs statements; in `transaction` callbacks too, so that a step can join its caller's. */
export type Sql = Pick<NodePgDatabase, "execute" | "transaction">;

export interface Database extends AsyncDisposable {
  readonly name: "embedded" | "postgres";
  readonly sql: Sql;
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

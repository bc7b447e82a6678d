/**
 * A database on which a run is alone: the journal's sealer looks at the transactions of the whole
 * server, and those of other test files, or of the server's own housekeeping, would decide what a
 * simulated run does. So that look is answered when they are over.
 */
import { setTimeout as pause } from "node:timers/promises";
import type { Database, Sql } from "../../orchestrator/db/database.ts";

const LOOKS_MAX = 5_000;
const LOOK_EVERY_MS = 2;

/** `real`, whose transactions are the run's own and pass one at a time: none is open at a look. */
export function createCalmDatabase(real: Pick<Database, "sql">): Pick<Database, "sql"> {
  const execute = (async (statement: Parameters<Sql["execute"]>[0]) => {
    for (let look = 0; look < LOOKS_MAX; look++) {
      const answer = await real.sql.execute(statement);
      if (answer.rows[0]?.["is_decided"] !== false) return answer;
      await pause(LOOK_EVERY_MS);
    }
    throw new Error("a transaction of the server's stays open: of this run, or of another test");
  }) as unknown as Sql["execute"];
  return { sql: { execute, transaction: real.sql.transaction } };
}

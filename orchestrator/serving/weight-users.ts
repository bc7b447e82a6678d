/** Whose weights are in use, for who removes some. */
import type { Database } from "../db/database.ts";
import { holdUps, modelPlan, readServers } from "./rows.ts";

/** An engine that is up, or being brought up or down. */
export interface ServedWeights {
  pair: string;
  model: string;
  quantisation: string;
}

/** Does `work`, a short one, with what is in use, which does not grow before `work` is done. */
export async function withServedWeights<Value>(
  db: Pick<Database, "sql">,
  work: (served: readonly ServedWeights[]) => Promise<Value>,
): Promise<Value> {
  return db.sql.transaction(async (transaction) => {
    await holdUps(transaction);
    const servers = await readServers(transaction);
    return work(
      servers.map((row) => {
        const { quantisation } = modelPlan(row);
        return { pair: row.pair, model: row.model, quantisation };
      }),
    );
  });
}

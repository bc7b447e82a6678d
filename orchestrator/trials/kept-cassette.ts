/** A cassette that was brought here: kept beside the trial that it answers. */
import { sql } from "drizzle-orm";
import type { Cassette } from "../contract/cassettes.ts";
import type { Sql } from "../db/database.ts";
import { jsonText } from "../db/rows.ts";
import { Problem } from "../problem.ts";
import { type CheckpointId, isId, type TrialId } from "../runtime/ids.ts";
import { resumeOfFork } from "./fork.ts";

/**
 * Makes a trial that was just inserted a replay of the cassette, within its transaction.
 *
 * @throws Problem `conflict` for a fork's, whose checkpoint is not kept in this installation.
 */
export async function keepCassette(
  transaction: Sql,
  id: TrialId,
  cassette: Cassette,
  at: string,
): Promise<void> {
  const { agent, forked_from: from = null } = cassette.trial;
  const checkpoint = from !== null && isId("checkpoint", from) ? (from as CheckpointId) : null;
  const resume = checkpoint === null ? null : await resumeOfFork(transaction, agent, checkpoint);
  if (from !== null && resume === null) {
    const detail =
      `cassette.trial.forked_from: the recorded trial was a fork, which began with ${from}, and ` +
      "that checkpoint is not kept here: replay it in the installation that recorded it";
    throw new Problem("conflict", detail);
  }
  await transaction.execute(sql`
    update trial set replay_of = id, forked_from = ${checkpoint},
      resume = ${resume === null ? null : jsonText(resume)}::jsonb
    where id = ${id}`);
  await transaction.execute(sql`
    insert into cassette (trial_id, content, created_at)
    values (${id}, ${JSON.stringify(cassette)}, ${at})`);
}

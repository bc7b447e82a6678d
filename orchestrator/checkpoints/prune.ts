/** What a trial's older checkpoints are kept for, and which are not. */
import { sql } from "drizzle-orm";
import type { Sql } from "../db/database.ts";
import { rows } from "../db/rows.ts";
import type { CheckpointId, TrialId } from "../runtime/ids.ts";

/**
 * Forgets what a trial has beyond its last `kept`. The last one of each allocation stays, and so
 * do those that something grew from more than once, that a fork began with, and that the trial
 * itself goes on from. What grew from a forgotten one grows from the one before it.
 *
 * In the transaction that made the trial's newest, which holds the trial's row.
 */
export async function prune(db: Sql, trialId: TrialId, kept: number): Promise<void> {
  const doomed = await rows<{ id: CheckpointId }>(
    db,
    sql`with mine as (
        select *, row_number() over (order by created_at desc) as age,
          row_number() over (partition by allocation_id order by created_at desc) as age_in_allocation
        from checkpoint where trial_id = ${trialId}
      )
      select id from mine
      where age > ${kept} and age_in_allocation > 1
        and not exists (select from trial where forked_from = mine.id)
        and not exists (select from trial
          where trial.id = ${trialId} and resume ->> 'checkpoint_id' = mine.id)
        and (select count(*) from checkpoint as child where child.parent_id = mine.id) < 2
      order by created_at`,
  );
  for (const { id } of doomed) {
    await db.execute(sql`
      update checkpoint set parent_id = (select parent_id from checkpoint where id = ${id})
      where parent_id = ${id}`);
    await db.execute(sql`delete from checkpoint where id = ${id}`);
  }
}

/** A trial that begins with a checkpoint of another one: its work tree, plan and conversation. */
import { sql } from "drizzle-orm";
import type { NewFork } from "../contract/trials.ts";
import type { Database } from "../db/database.ts";
import { jsonText, rows, serverError } from "../db/rows.ts";
import { Problem } from "../problem.ts";
import { type Clock, rfc3339 } from "../runtime/clock.ts";
import { type CheckpointId, type Ids, isId, type TrialId } from "../runtime/ids.ts";
import { appendEvent, TRIAL_CHANNEL } from "./events.ts";
import { newestResume, resumeFrom } from "./resume-point.ts";
import type { Resume, TrialRow } from "./rows.ts";

export interface ForkDependencies {
  db: Database;
  clock: Clock;
  ids: Ids;
}

/** The cell that it runs in, checked by the caller. */
export interface ForkCell {
  agent: string;
  pair: string;
  isScripted: boolean;
  limitNanos: string;
}

/**
 * What a fork of `agent` began with; its parent's conversation is its own CLI's alone. Null: the
 * checkpoint is not kept.
 */
export async function resumeOfFork(
  db: Parameters<typeof newestResume>[0],
  agent: string,
  checkpointId: CheckpointId,
): Promise<Resume | null> {
  const [parent] = await rows<{ id: TrialId; agent: string }>(
    db,
    sql`select trial.id, trial.agent from checkpoint join trial on trial.id = checkpoint.trial_id
      where checkpoint.id = ${checkpointId}`,
  );
  const found = parent === undefined ? null : await resumeFrom(db, parent.id, checkpointId);
  if (found === null) return null;
  const { session, ...others } = found;
  return agent === parent?.agent && session !== undefined ? found : others;
}

/**
 * Queues it beside its parent: of the same task, with a budget of its own. Another agent goes on
 * from the files and the plan; the conversation is its own CLI's alone.
 *
 * @throws Problem `not_found` naming the checkpoint, `conflict` where there is none yet.
 */
export async function forkTrial(
  { db, clock, ids }: ForkDependencies,
  parent: TrialRow,
  wanted: NewFork,
  cell: ForkCell,
): Promise<TrialId> {
  const id = ids.next("trial");
  const at = rfc3339(clock.now());
  try {
    await db.sql.transaction(async (transaction) => {
      const { checkpoint_id, ...from } = await needResume(transaction, parent, wanted);
      const { session, ...others } = from;
      const isSameAgent = cell.agent === parent.agent;
      const resume: Resume = {
        ...others,
        checkpoint_id,
        ...(isSameAgent && session !== undefined ? { session } : {}),
      };
      await transaction.execute(sql`
        insert into trial (id, project_id, experiment_id, task_id, agent, pair, is_scripted,
          attempt, seed, priority, limit_nanos, wall_ms, requirements, egress, state, resume,
          forked_from, created_at, updated_at)
        select ${id}, project_id, null, task_id, ${cell.agent}, ${cell.pair}, ${cell.isScripted},
          attempt, seed, ${wanted.priority ?? parent.priority}, ${cell.limitNanos},
          ${wanted.wall_ms ?? parent.wall_ms}, requirements, egress, 'queued',
          ${jsonText(resume)}::jsonb, ${checkpoint_id}, ${at}, ${at}
        from trial where id = ${parent.id}`);
      const data = { from: null, to: "queued", reason: `forked from ${checkpoint_id}` };
      await appendEvent(transaction, id, "trial.state", data, at);
      await transaction.execute(sql`select pg_notify(${TRIAL_CHANNEL}, ${id})`);
    });
  } catch (error) {
    // It was forgotten in this moment.
    if (serverError(error)?.constraint !== "trial_forked_from_fkey") throw error;
    throw new Problem("not_found", `checkpoint_id: ${wanted.checkpoint_id} is no longer kept`);
  }
  return id;
}

type Found = Resume & { checkpoint_id: CheckpointId };

async function needResume(
  db: Parameters<typeof newestResume>[0],
  parent: TrialRow,
  { checkpoint_id: wanted }: NewFork,
): Promise<Found> {
  if (wanted !== undefined) {
    const found = isId("checkpoint", wanted) ? await resumeFrom(db, parent.id, wanted) : null;
    if (found?.checkpoint_id !== undefined) return { ...found, checkpoint_id: found.checkpoint_id };
    throw new Problem("not_found", `checkpoint_id: ${parent.id} has no checkpoint ${wanted}`);
  }
  const newest = await newestResume(db, parent.id);
  if (newest?.checkpoint_id !== undefined) {
    return { ...newest, checkpoint_id: newest.checkpoint_id };
  }
  throw new Problem(
    "conflict",
    `${parent.id} has no checkpoint yet: there is nothing to go on from`,
  );
}

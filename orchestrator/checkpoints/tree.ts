/** The tree that a trial's checkpoints stand in. */
import { sql } from "drizzle-orm";
import type { Checkpoint, CheckpointTree, ResumePoint } from "../contract/checkpoints.ts";
import type { Sql } from "../db/database.ts";
import { readTime, rows } from "../db/rows.ts";
import { Problem } from "../problem.ts";
import { rfc3339 } from "../runtime/clock.ts";
import type { TrialId } from "../runtime/ids.ts";

/** Of forks of forks; what is beyond is not shown. */
const TRIALS_MAX = 200;
const CHECKPOINTS_MAX = 5_000;

export type CheckpointRow = {
  id: string;
  trial_id: string;
  allocation_id: string;
  parent_id: string | null;
  cause: Checkpoint["cause"];
  phase: Checkpoint["phase"];
  resume: ResumePoint;
  manifest_sha256: string;
  file_count: number;
  byte_count: string;
  new_byte_count: string;
  created_at: string;
};

export function toCheckpoint({ resume, ...row }: CheckpointRow): Checkpoint {
  return {
    id: row.id,
    trial_id: row.trial_id,
    allocation_id: row.allocation_id,
    parent_id: row.parent_id,
    cause: row.cause,
    phase: row.phase,
    completed_phases: resume.completed_phases,
    has_session: resume.session !== undefined,
    file_count: row.file_count,
    byte_count: Number(row.byte_count),
    new_byte_count: Number(row.new_byte_count),
    manifest_sha256: row.manifest_sha256,
    created_at: rfc3339(readTime(row.created_at)),
  };
}

/** @throws Problem `not_found` */
export async function readTree(db: Sql, trialId: TrialId): Promise<CheckpointTree> {
  const trials = await rows<CheckpointTree["trials"][number]>(
    db,
    sql`with recursive older as (
        select id, forked_from, 0 as depth from trial where id = ${trialId}
        union all
        select trial.id, trial.forked_from, depth + 1 from older
        join checkpoint on checkpoint.id = older.forked_from
        join trial on trial.id = checkpoint.trial_id
      ), family as (
        (select id from older order by depth desc limit 1)
        union
        select trial.id from family
        join checkpoint on checkpoint.trial_id = family.id
        join trial on trial.forked_from = checkpoint.id
      )
      select id, agent, pair, state, verdict, forked_from from trial
      where id in (select id from family)
      order by created_at, id limit ${TRIALS_MAX}`,
  );
  if (trials.length === 0) throw new Problem("not_found", `There is no trial ${trialId}`);
  const found = await rows<CheckpointRow>(
    db,
    sql`select * from checkpoint
      where trial_id = any(${sql.param(trials.map(({ id }) => id))}::text[])
      order by created_at, id limit ${CHECKPOINTS_MAX}`,
  );
  return { trials, checkpoints: found.map(toCheckpoint) };
}

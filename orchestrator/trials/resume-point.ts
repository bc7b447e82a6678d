/** Where a trial goes on: at its newest checkpoint. */
import { sql } from "drizzle-orm";
import type { ResumePoint } from "../contract/checkpoints.ts";
import type { Sql } from "../db/database.ts";
import { rows } from "../db/rows.ts";
import type { CheckpointId, TrialId } from "../runtime/ids.ts";
import type { Resume, TrialRow } from "./rows.ts";

type Kept = {
  id: CheckpointId;
  trial_id: TrialId;
  resume: ResumePoint;
  manifest_sha256: string;
};

/** What its newest checkpoint has; null before the first. */
export async function newestResume(db: Sql, trialId: TrialId): Promise<Resume | null> {
  const [newest] = await rows<Kept>(
    db,
    sql`select id, trial_id, resume, manifest_sha256 from checkpoint
      where trial_id = ${trialId} order by created_at desc limit 1`,
  );
  return newest === undefined ? null : resumeOf(newest);
}

/** Null when there is no such checkpoint, or it is another trial's. */
export async function resumeFrom(
  db: Sql,
  trialId: TrialId,
  checkpointId: CheckpointId,
): Promise<Resume | null> {
  const [found] = await rows<Kept>(
    db,
    sql`select id, trial_id, resume, manifest_sha256 from checkpoint
      where id = ${checkpointId} and trial_id = ${trialId}`,
  );
  return found === undefined ? null : resumeOf(found);
}

/** After a pause: its newest checkpoint; where none could be made, what the worker said. */
export async function resumeAfterPause(db: Sql, trial: TrialRow): Promise<Resume> {
  const newest = await newestResume(db, trial.id);
  if (newest !== null) return newest;
  const { agent_report: report } = trial;
  return {
    completed_phases: report?.completed_phases ?? [],
    plan_text: report?.plan_text ?? null,
  };
}

function resumeOf({ id, resume, manifest_sha256 }: Kept): Resume {
  return { ...resume, checkpoint_id: id, manifest_sha256 };
}

/** A tree of checkpoints as lines of a table: forks stand below what they began with. Pure. */
import type { Checkpoint, CheckpointTree } from "../contract/checkpoints.ts";

export interface TreeRow {
  /** How many forks deep. */
  depth: number;
  trial: CheckpointTree["trials"][number];
  /** Null: the trial's own line. */
  checkpoint: Checkpoint | null;
}

/** Each trial, its checkpoints oldest first, and after each one the trials that began with it. */
export function treeRows({ trials, checkpoints }: CheckpointTree): TreeRow[] {
  const rows: TreeRow[] = [];
  const known = new Set(checkpoints.map(({ id }) => id));
  const isRoot = (from: string | null) => from === null || !known.has(from);
  for (const trial of trials) if (isRoot(trial.forked_from)) add(trial, 0);
  return rows;

  function add(trial: TreeRow["trial"], depth: number): void {
    rows.push({ depth, trial, checkpoint: null });
    for (const checkpoint of checkpoints.filter(({ trial_id }) => trial_id === trial.id)) {
      rows.push({ depth, trial, checkpoint });
      for (const fork of trials.filter(({ forked_from }) => forked_from === checkpoint.id)) {
        add(fork, depth + 1);
      }
    }
  }
}

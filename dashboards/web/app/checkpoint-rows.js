/** A tree of checkpoints as lines: forks stand below what they began with. Pure. */

/** @typedef {import("../../../orchestrator/contract/checkpoints.ts").CheckpointTree} Tree */
/** @typedef {import("../../../orchestrator/contract/checkpoints.ts").Checkpoint} Checkpoint */
/**
 * @typedef {object} TreeRow
 * @property {number} depth how many forks deep
 * @property {Tree["trials"][number]} trial
 * @property {Checkpoint | null} checkpoint null: the trial's own line
 */

/**
 * Each trial, its checkpoints oldest first, and after each one the trials that began with it.
 *
 * @param {Tree} tree
 * @returns {TreeRow[]}
 */
export function treeRows({ trials, checkpoints }) {
  const known = new Set(checkpoints.map(({ id }) => id));
  /** @type {TreeRow[]} */
  const rows = [];
  const add = (/** @type {Tree["trials"][number]} */ trial, /** @type {number} */ depth) => {
    rows.push({ depth, trial, checkpoint: null });
    for (const checkpoint of checkpoints.filter(({ trial_id }) => trial_id === trial.id)) {
      rows.push({ depth, trial, checkpoint });
      for (const fork of trials.filter(({ forked_from }) => forked_from === checkpoint.id)) {
        add(fork, depth + 1);
      }
    }
  };
  for (const trial of trials) {
    if (trial.forked_from === null || !known.has(trial.forked_from)) add(trial, 0);
  }
  return rows;
}

/**
 * What a VM's snapshots should be, by the checkpoints of the trials that run in it. Pure.
 *
 * A snapshot that belongs to a checkpoint has both its and its trial's id for a name, so that
 * nothing but the disk itself has to remember it.
 */
import type { Checkpoint, CheckpointTree } from "../contract/checkpoints.ts";

const BOUND = /^(checkpoint_[0-9a-z]{26})\.(trial_[0-9a-z]{26})$/;

export interface Bound {
  checkpointId: string;
  trialId: string;
}

export function nameFor({ id, trial_id: trialId }: Pick<Checkpoint, "id" | "trial_id">): string {
  return `${id}.${trialId}`;
}

/** What a snapshot belongs to; null for one that a person named. */
export function boundOf(name: string): Bound | null {
  const [, checkpointId, trialId] = BOUND.exec(name) ?? [];
  if (checkpointId === undefined || trialId === undefined) return null;
  return { checkpointId, trialId };
}

/** The names that `given` may mean: its own, or a checkpoint's. */
export function namesOf(given: string, names: readonly string[]): string[] {
  if (names.includes(given)) return [given];
  return names.filter((name) => boundOf(name)?.checkpointId === given);
}

/** The newest checkpoint of `trialId` itself, of all that its tree has. */
export function newestOf(tree: CheckpointTree, trialId: string): Checkpoint | null {
  return tree.checkpoints.findLast((each) => each.trial_id === trialId) ?? null;
}

/**
 * What to take, and what to remove: one of the newest checkpoint, where it has none; those whose
 * checkpoint was forgotten, and those beyond the last `kept`. What a person named is left alone, as
 * is another server's trial.
 *
 * @param names the VM's snapshots, oldest first.
 * @param trees of the trials that run in the VM, and of those that a snapshot belongs to; null for
 *   a trial that the server does not know.
 */
export function planSnapshots(state: {
  names: readonly string[];
  running: readonly string[];
  trees: ReadonlyMap<string, CheckpointTree | null>;
  kept: number;
}): { take: Checkpoint | null; remove: string[] } {
  const { names, running, trees, kept } = state;
  const bound = names.flatMap((name) => {
    const owner = boundOf(name);
    return owner === null || trees.get(owner.trialId) === null ? [] : [{ name, ...owner }];
  });
  const newest = running
    .flatMap(
      (trialId) => newestOf(trees.get(trialId) ?? { trials: [], checkpoints: [] }, trialId) ?? [],
    )
    .sort((a, b) => (a.created_at < b.created_at ? -1 : 1))
    .at(-1);
  const take =
    newest === undefined || bound.some(({ checkpointId }) => checkpointId === newest.id)
      ? null
      : newest;
  const living = bound.filter(({ checkpointId, trialId }) =>
    trees.get(trialId)?.checkpoints.some(({ id }) => id === checkpointId),
  );
  // What is there stays until its successor is: the only one is not given for one that may fail.
  const room = take === null ? kept : Math.max(1, kept - 1);
  const stay = new Set(living.slice(Math.max(0, living.length - room)).map(({ name }) => name));
  return { take, remove: bound.map(({ name }) => name).filter((name) => !stay.has(name)) };
}

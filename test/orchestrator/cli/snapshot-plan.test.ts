/** Goal: a VM has a snapshot of the newest checkpoint in it, and none of what was forgotten. */
import assert from "node:assert/strict";
import test from "node:test";
import {
  boundOf,
  nameFor,
  namesOf,
  planSnapshots,
} from "../../../orchestrator/cli/snapshot-plan.ts";
import type { Checkpoint, CheckpointTree } from "../../../orchestrator/contract/checkpoints.ts";

const TRIAL = id("trial", "t");
const OTHER = id("trial", "u");

function id(kind: string, letter: string): string {
  return `${kind}_${letter.repeat(26)}`;
}

function checkpoint(letter: string, trialId = TRIAL): Checkpoint {
  return {
    id: id("checkpoint", letter),
    trial_id: trialId,
    allocation_id: id("allocation", "a"),
    parent_id: null,
    cause: "periodic",
    phase: "execute",
    completed_phases: [],
    has_session: true,
    file_count: 1,
    byte_count: 1,
    new_byte_count: 1,
    manifest_sha256: "0".repeat(64),
    created_at: `2026-11-21T12:00:0${letter.charCodeAt(0) - "a".charCodeAt(0)}.000Z`,
  };
}

function tree(...checkpoints: Checkpoint[]): CheckpointTree {
  return { trials: [], checkpoints };
}

const [A, B, C, D] = ["a", "b", "c", "d"].map((letter) => checkpoint(letter)) as [
  Checkpoint,
  Checkpoint,
  Checkpoint,
  Checkpoint,
];

test("the newest of all that run is taken, once", () => {
  const theirs = checkpoint("e", OTHER);
  const trees = new Map([
    // A fork's tree has its origin's checkpoints too: those are no state of this trial.
    [TRIAL, tree(A, B, checkpoint("h", id("trial", "v")))],
    [OTHER, tree(theirs)],
  ]);
  const running = [TRIAL, OTHER];
  const first = planSnapshots({ names: [], running, trees, kept: 3 });
  assert.deepEqual(first, { take: theirs, remove: [] });
  const names = [nameFor(theirs)];
  assert.deepEqual(planSnapshots({ names, running, trees, kept: 3 }), { take: null, remove: [] });
  assert.deepEqual(planSnapshots({ names, running: [TRIAL], trees, kept: 3 }), {
    take: B,
    remove: [],
  });
  assert.deepEqual(planSnapshots({ names, running: [], trees, kept: 3 }), {
    take: null,
    remove: [],
  });
});

test("what a checkpoint no longer stands for is removed, and what is too much", () => {
  const trees = new Map<string, CheckpointTree | null>([
    [TRIAL, tree(B, C, D)],
    [OTHER, null],
  ]);
  const theirs = nameFor(checkpoint("a", OTHER));
  const names = [nameFor(A), "before-upgrade", nameFor(B), theirs, nameFor(C)];
  // A's checkpoint was forgotten; a person's own and another server's are left alone.
  assert.deepEqual(planSnapshots({ names, running: [TRIAL], trees, kept: 3 }), {
    take: D,
    remove: [nameFor(A)],
  });
  assert.deepEqual(planSnapshots({ names, running: [TRIAL], trees, kept: 1 }), {
    take: D,
    // The last one stays until there is another.
    remove: [nameFor(A), nameFor(B)],
  });
  assert.deepEqual(planSnapshots({ names, running: [], trees, kept: 1 }), {
    take: null,
    remove: [nameFor(A), nameFor(B)],
  });
});

test("a name tells its checkpoint and its trial, and may be said by the checkpoint alone", () => {
  assert.deepEqual(boundOf(nameFor(A)), { checkpointId: A.id, trialId: TRIAL });
  assert.equal(boundOf("before-upgrade"), null);
  assert.equal(boundOf(`${A.id}.trial_short`), null);
  const names = [nameFor(A), "before-upgrade"];
  assert.deepEqual(namesOf(A.id, names), [nameFor(A)]);
  assert.deepEqual(namesOf(nameFor(A), names), [nameFor(A)]);
  assert.deepEqual(namesOf("before-upgrade", names), ["before-upgrade"]);
  assert.deepEqual(namesOf(TRIAL, names), []);
});

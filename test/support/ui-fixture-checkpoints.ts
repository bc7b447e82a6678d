/** The checkpoints of a trial and of one that was forked from it, for tests of the UI. */

import type { Checkpoint, CheckpointTree } from "../../orchestrator/contract/checkpoints.ts";
import type { NewFork, Trial } from "../../orchestrator/contract/trials.ts";
import { derivedId, type TrialId } from "../../orchestrator/runtime/ids.ts";

const KINDS: Pick<Checkpoint, "cause" | "phase" | "completed_phases">[] = [
  { cause: "periodic", phase: "plan", completed_phases: [] },
  { cause: "phase", phase: "plan", completed_phases: ["plan"] },
  { cause: "periodic", phase: "execute", completed_phases: ["plan"] },
  { cause: "end", phase: "execute", completed_phases: ["plan", "execute"] },
];

/** Four of `trial`, and two of a fork by another agent that began with the second. */
export function fixtureTree(trial: Trial): CheckpointTree {
  const startedMs = Date.parse(trial.started_at ?? trial.created_at);
  const fork = derivedId("trial", trial.id, "fork");
  const own = KINDS.map((kind, index) => one(trial.id, index, kind, startedMs));
  const [, base] = own;
  const forked = KINDS.slice(2).map((kind, index) => ({
    ...one(fork, index, kind, startedMs + 300_000),
    ...(index === 0 ? { parent_id: base?.id ?? null } : {}),
  }));
  const { id, agent, pair, state, verdict } = trial;
  return {
    trials: [
      { id, agent, pair, state, verdict, forked_from: null },
      {
        id: fork,
        agent: "aider",
        pair,
        state: "succeeded",
        verdict: "passed",
        forked_from: base?.id ?? null,
      },
    ],
    checkpoints: [...own, ...forked],
  };
}

/** What `POST fork` makes of it. */
export function forkOf(parent: Trial, id: TrialId, { checkpoint_id, agent, pair }: NewFork): Trial {
  return {
    ...parent,
    id,
    agent: agent ?? parent.agent,
    pair: pair ?? parent.pair,
    state: "queued",
    verdict: null,
    duration_ms: null,
    forked_from: checkpoint_id ?? null,
  };
}

function one(
  trialId: TrialId | string,
  index: number,
  kind: (typeof KINDS)[number],
  startedMs: number,
): Checkpoint {
  return {
    id: derivedId("checkpoint", trialId, String(index)),
    trial_id: trialId,
    allocation_id: derivedId("allocation", trialId),
    parent_id: index === 0 ? null : derivedId("checkpoint", trialId, String(index - 1)),
    ...kind,
    has_session: index !== 0,
    file_count: index,
    byte_count: 48_300 * (index + 1),
    new_byte_count: index === 0 ? 48_300 : 9_100 * index,
    manifest_sha256: String(index).repeat(64),
    created_at: new Date(startedMs + 20_000 * (index + 1)).toISOString(),
  };
}

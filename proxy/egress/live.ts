/**
 * The sessions that live in this process: each allocation's, and what its trial has sent and may
 * not do any more.
 *
 * Invariant: once a session ended it decides nothing, and its signal has aborted.
 */
import type { AllocationId, ProjectId, TrialId } from "../../orchestrator/runtime/ids.ts";
import { canaryForms } from "./canary.ts";
import type { EgressSession } from "./guard.ts";
import { compilePolicy, type Policy } from "./policy.ts";

export interface SessionRow extends Record<string, unknown> {
  allocation_id: AllocationId;
  trial_id: TrialId;
  project_id: ProjectId;
  /** Null: the verifier's, which no agent's rules are for. */
  agent: string | null;
  password_sha256: Buffer;
  canary: string;
  egress: Parameters<typeof compilePolicy>[2];
  replay_of: TrialId | null;
  is_current: boolean;
  /** Of all the trial's sessions, as written down. */
  sent: string;
}

/** What a trial has sent, all its sessions together. */
export interface Sent {
  stored: number;
  pending: number;
}

export interface Live {
  row: SessionRow;
  readonly sent: Sent;
  readonly closing: AbortController;
  session: EgressSession | null;
  ended: string | null;
  policy: { config: unknown; policy: Policy } | null;
  forms: { canary: string; forms: readonly string[] };
  /** What was put in, so that no record has it; also of before a rotation. */
  readonly values: Set<string>;
  /** Bytes that left and are not written down yet. */
  unwritten: number;
  isCanaryTold: boolean;
}

const VALUES_MAX = 1_000;

export function createLives() {
  const lives = new Map<AllocationId, Live>();
  const trials = new Map<TrialId, Sent>();
  return { take, all: () => [...lives.values()], ofTrial, forget };

  /** The allocation's, made when it was not there. */
  function take(row: SessionRow): Live {
    const known = lives.get(row.allocation_id);
    const sent = trials.get(row.trial_id) ?? { stored: 0, pending: 0 };
    trials.set(row.trial_id, sent);
    sent.stored = Math.max(sent.stored, Number(row.sent));
    if (known !== undefined) {
      known.row = row;
      return known;
    }
    const live: Live = {
      ...{ row, sent, closing: new AbortController() },
      ...{ session: null, ended: null, policy: null, values: new Set() },
      forms: { canary: "", forms: [] },
      ...{ unwritten: 0, isCanaryTold: false },
    };
    lives.set(row.allocation_id, live);
    return live;
  }

  function ofTrial(trialId: TrialId): Live[] {
    return [...lives.values()].filter(({ row }) => row.trial_id === trialId);
  }

  /** Once nothing of it is left to be written down. */
  function forget({ row }: Live): void {
    lives.delete(row.allocation_id);
    if (ofTrial(row.trial_id).length === 0) trials.delete(row.trial_id);
  }
}

export function endLive(live: Live, why: string): void {
  live.ended ??= why;
  live.closing.abort();
}

/** As the project's file is now; compiled once for each reading of it. */
export function policyOf(
  live: Live,
  config: { egress?: Parameters<typeof compilePolicy>[0] },
): Policy {
  if (live.policy?.config !== config) {
    const policy = compilePolicy(config.egress, live.row.agent, live.row.egress);
    live.policy = { config, policy };
  }
  return live.policy.policy;
}

export function formsOfCanary(live: Live): readonly string[] {
  const { canary } = live.row;
  if (live.forms.canary !== canary) live.forms = { canary, forms: canaryForms(canary) };
  return live.forms.forms;
}

export function keepValues({ values }: Live, more: readonly string[]): void {
  for (const value of more) {
    // The oldest go first: theirs are the flows that have ended.
    const [oldest] = values;
    if (values.size >= VALUES_MAX && oldest !== undefined) values.delete(oldest);
    values.add(value);
  }
}

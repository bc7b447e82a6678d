/** One of everything that the API answers with, for tests of its edge. */

import type { Services } from "../../orchestrator/api/services.ts";
import type { Checkpoints } from "../../orchestrator/checkpoints/checkpoints.ts";
import type { AgentStatus } from "../../orchestrator/contract/agents.ts";
import type { Approval } from "../../orchestrator/contract/approvals.ts";
import type {
  AdherenceReport,
  Budget,
  BudgetEvent,
  BudgetReport,
  CostReport,
  ProfitReport,
} from "../../orchestrator/contract/budgets.ts";
import type { Call } from "../../orchestrator/contract/calls.ts";
import type { Checkpoint } from "../../orchestrator/contract/checkpoints.ts";
import type { RuleProposal } from "../../orchestrator/contract/flow-views.ts";
import type { ModelPrice } from "../../orchestrator/contract/prices.ts";
import type { Project, Task } from "../../orchestrator/contract/projects.ts";
import type { Repricing } from "../../orchestrator/contract/repricing.ts";
import type { Experiment, NewTrial, Trial } from "../../orchestrator/contract/trials.ts";
import type { Worker } from "../../orchestrator/contract/workers.ts";
import { Problem } from "../../orchestrator/problem.ts";
import type { TrialId } from "../../orchestrator/runtime/ids.ts";

export const STARTED_AT_MS = Date.UTC(2026, 10, 21, 12);
export const STARTED_AT = new Date(STARTED_AT_MS).toISOString();
export const APPROVAL: Approval = {
  id: "approval_01kah27zs8e4rsk0ncyqjpys5f",
  trial_id: "trial_01kah27zs8e4rsk0ncyqjpys5f",
  project: "demo",
  kind: "budget",
  state: "open",
  facts: {
    currency: "CAD",
    limit_nanos: "50000000",
    spent_nanos: "41000000",
    shortage: {
      level: "trial",
      account_id: "account_01kah27zs8e4rsk0ncyqjpys5f",
      unit: "CAD",
      required_nanos: "12000000",
      available_nanos: "9000000",
    },
    forecast: {
      low_nanos: "8000000",
      high_nanos: "31000000",
      confidence_percent: 50,
      basis: "own_calls",
      evidence_count: 7,
    },
    suggested_nanos: "30000000",
    checkpoint: {
      files_changed: 1,
      lines_added: 3,
      lines_removed: 2,
      completed_phases: ["plan"],
      has_session: true,
    },
  },
  egress: null,
  content_sha256: "5f".repeat(32),
  reason: null,
  topped_up_nanos: null,
  created_at: "2026-11-21T00:00:00.000Z",
  resolved_at: null,
};
export const PROPOSAL: Omit<RuleProposal, "approval_id"> = {
  project: "demo",
  rule: { action: "allow", hosts: ["evil.example"], methods: ["GET"] },
  diff: "@@ egress @@\n rules:\n+  - action: allow\n+    hosts: [evil.example]\n",
};
export const BALANCE = {
  currency: "CAD",
  funded_nanos: "9007199254740993",
  reserved_nanos: "0",
  spent_nanos: "420000",
  available_nanos: "9007199254320993",
};

export const MODEL_PRICE: ModelPrice = {
  model: "scripted-normal",
  currency: "CAD",
  version: "scripted-normal@2025-01-01",
  input_nanos_per_million: "200000000",
  cache_read_nanos_per_million: "20000000",
  cache_write_nanos_per_million: "250000000",
  long_cache_write_nanos_per_million: "400000000",
  output_nanos_per_million: "800000000",
  tiers: [],
  gpu: null,
};

export const CHARGE = { model: "m", price_version: "m@2026-01-01", cost_nanos: "420000" };
export const REPRICING: Omit<Repricing, "trial_id"> = {
  currency: "CAD",
  charged_nanos: "420000",
  repriced_nanos: "400000",
  difference_nanos: "-20000",
  swap_nanos: "0",
  estimated_count: 0,
  reservation_count: 0,
  calls: [
    {
      call_id: "call_01jd7sm1g0e0080000000000c1",
      side: "normal",
      started_at: STARTED_AT,
      input_tokens: 1500,
      output_tokens: 45,
      is_estimated: false,
      basis: "usage",
      charged: CHARGE,
      repriced: { ...CHARGE, cost_nanos: "400000" },
      difference_nanos: "-20000",
    },
  ],
};

export const PROJECT: Project = {
  id: "project_01jd7sm1g0e0080000000000p1",
  name: "demo",
  currency: "CAD",
  time_zone: "America/Toronto",
  per_trial_nanos: "500000000",
  daily_allowance_nanos: null,
  agents: ["aider", "qwen-code"],
  pairs: ["scripted"],
  tasks: ["fix-add"],
  balance: BALANCE,
  today: null,
  trial_counts: {},
  created_at: STARTED_AT,
};

export const TASK: Task = {
  id: "task_01jd7sm1g0e0080000000000k1",
  project: "demo",
  name: "fix-add",
  instruction: "Make add() add.",
  base_commit: "a".repeat(40),
  has_hidden_tests: true,
  test: "tests/test.sh",
  source: "examples/tasks/fix-add",
  created_at: STARTED_AT,
};

export function budget(owner: string): Budget {
  return { owner, balance: BALANCE };
}

export function budgetReport(name: string, owner: string, at: string): BudgetReport {
  const tokens = {
    ...BALANCE,
    currency: "TOK",
    funded_nanos: "2000000",
    available_nanos: "1580000",
  };
  const burn = { last_hour_nanos: "420000", last_day_nanos: "420000", lasts_the_day: false };
  const level = { is_limited: true, alerts: [50, 80, 90, 95, 100], passed: [] };
  const spending = { ...burn, basis: "not_enough_history", exhausted_at: null } as const;
  return {
    name,
    project: "demo",
    ...budget(owner),
    at,
    time_zone: "America/Toronto",
    levels: [
      {
        ...level,
        ...{ scope: "organisation", owner: "organisation/CAD", is_limited: false },
        ...{ balance: BALANCE, burn: { ...spending, basis: "not_limited" } },
      },
      { ...level, scope: "project", owner, balance: BALANCE, burn: spending },
      {
        ...level,
        ...{ scope: "project", owner: `tokens/${owner}`, balance: tokens },
        burn: { ...burn, basis: "last_hour", exhausted_at: "2026-11-21T16:00:00.000Z" },
      },
    ],
    next_top_up: {
      at: "2026-12-01T05:00:00.000Z",
      date: "2026-12-01",
      every: "month",
      amount_nanos: "10000000000",
    },
  };
}

export function budgetEvent(owner: string): BudgetEvent {
  return {
    seq: 2,
    scope: "project",
    owner,
    kind: "threshold",
    percent: 80,
    currency: "CAD",
    funded_nanos: BALANCE.funded_nanos,
    spent_nanos: BALANCE.spent_nanos,
    at: STARTED_AT,
  };
}

export function profitReport(project: string): ProfitReport {
  const nothing = { income_nanos: "0", cost_nanos: "420000", result_nanos: "-420000" };
  const rows = [{ agent: "aider", pair: "scripted", trials: 2, passed: 1, ...nothing }];
  return { project, currency: "CAD", ...nothing, rows };
}

export function costReport(project: string, by: CostReport["by"]): CostReport {
  const costs = { trials: 2, passed: 1, cost_nanos: "420000", cost_per_success_nanos: "420000" };
  const rows = [{ group: "aider / scripted", tokens: "1545", ...costs }];
  return { project, currency: "CAD", by, ...costs, rows };
}

export function adherenceReport(project: string): AdherenceReport {
  const row = {
    scope: "project" as const,
    owner: `project/${project}`,
    currency: "CAD",
    limit_nanos: BALANCE.funded_nanos,
    peak_nanos: "900000",
    peak_at: STARTED_AT,
    least_available_nanos: "9007199253840993",
    is_within: true,
  };
  const rest = { is_within: true, budget_count: 1, next_cursor: null };
  const signed = { position: 12, chain: "ab".repeat(32), key_id: "file:1", signed_at: STARTED_AT };
  const journal = { ...signed, covered_transfers: 3, all_transfers: 3 };
  return { project, ...rest, rows: [row], journal };
}

export function agentOf(name: string, isInstalled: boolean): AgentStatus {
  return {
    facts: {
      name,
      title: name,
      package_source: "npm",
      package_name: name,
      version: "1.2.3",
      license: "Apache-2.0",
      is_redistributable: true,
      wire: "openai.chat",
      pair_mode: "phases",
      is_exit_code_trusted: false,
      budget_stop_status: 403,
      prompt_floor_tokens: 1000,
      needs_tool_calls: true,
    },
    installed_version: isInstalled ? "1.2.3" : null,
  };
}

export function trialOf(id: TrialId, spec: NewTrial, experimentId: string | null): Trial {
  return {
    id,
    project: spec.project,
    experiment_id: experimentId,
    task: typeof spec.task === "string" ? spec.task : "inline",
    agent: spec.agent,
    agent_version: "1.2.3",
    pair: spec.pair,
    attempt: 1,
    seed: 1,
    priority: 0,
    state: "queued",
    reason: null,
    verdict: null,
    flags: [],
    tries: 0,
    forked_from: null,
    replay_of: null,
    resume_at: null,
    approval_id: null,
    budget: BALANCE,
    usage: {
      input_tokens: 1200,
      cache_read_tokens: 300,
      cache_write_tokens: 0,
      output_tokens: 45,
      reasoning_tokens: 5,
    },
    call_count: 2,
    is_scripted: true,
    created_at: STARTED_AT,
    started_at: null,
    ended_at: null,
    duration_ms: null,
  };
}

/** One trial with one checkpoint; what workers send is neither kept nor refused. */
export function fakeCheckpoints(find: (id: TrialId) => Trial): Checkpoints {
  return {
    missing: async (_session, sha256s) => [...sha256s],
    store: async () => 0,
    commit: async ({ trialId }, { cause }) => ({ ...checkpointOf(trialId), cause }),
    restore: async () => null,
    tree: async (id) => {
      const { agent, pair, state, verdict } = find(id);
      return {
        trials: [{ id, agent, pair, state, verdict, forked_from: null }],
        checkpoints: [checkpointOf(id)],
      };
    },
  };
}

function checkpointOf(trialId: TrialId): Checkpoint {
  return {
    id: "checkpoint_01jd7sm1g0e0080000000000f1",
    trial_id: trialId,
    allocation_id: "allocation_01jd7sm1g0e0080000000000f1",
    parent_id: null,
    cause: "end",
    phase: "execute",
    completed_phases: ["plan", "execute"],
    has_session: true,
    file_count: 2,
    byte_count: 1_234,
    new_byte_count: 1_000,
    manifest_sha256: "0".repeat(64),
    created_at: STARTED_AT,
  };
}

export function experimentOf(id: string, name: string, trials: Trial[]): Experiment {
  return {
    id,
    project: "demo",
    name,
    seed: 1,
    assignment: "all",
    trial_count: trials.length,
    ended_count: trials.filter(({ ended_at }) => ended_at !== null).length,
    spent_nanos: "840000",
    currency: "CAD",
    created_at: STARTED_AT,
    trials,
  };
}

export function callOf(trialId: string): Call {
  return {
    id: "call_01jd7sm1g0e0080000000000c1",
    trial_id: trialId,
    wire: "openai.chat",
    side: "normal",
    model: "scripted-normal",
    model_requested: "normal",
    provider: "scripted",
    price_version: "scripted-normal@2026-01-01",
    reserved_nanos: "900000",
    cost_nanos: "420000",
    usage: {
      input_tokens: 1200,
      cache_read_tokens: 300,
      cache_write_tokens: 0,
      output_tokens: 45,
      reasoning_tokens: 5,
    },
    long_cache_write_tokens: 0,
    gpu_ms: null,
    attempts: [],
    is_estimated: false,
    status: 200,
    started_at: STARTED_AT,
    first_byte_ms: 3,
    duration_ms: 12,
    error: null,
  };
}

export const WORKER: Worker = {
  id: "host-1",
  name: "host-1",
  pool: "local",
  status: "ready",
  slots: 4,
  used: 1,
  capabilities: null,
  joined_at: null,
  heartbeat_at: null,
  availability: null,
  outage_count: null,
};

/** Without GPUs: what is asked of them is refused as an installation without any does. */
export function noModels(): Services["models"] {
  const refuse = () => {
    throw new Problem("not_found", "coder-14b is not up");
  };
  return {
    plan: refuse,
    render: async () => refuse(),
    hardware: async () => ({ gpus: [], own: null }),
    up: async () => refuse(),
    down: async () => refuse(),
    list: async () => [],
    logs: async () => refuse(),
  };
}

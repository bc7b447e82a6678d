/** What an allocation is told to do: made at enrolment, because only then is its key issued. */
import type { AgentFacts } from "../contract/agents.ts";
import type { AgentSpec, VerifySpec } from "../contract/worker.ts";
import type { Database } from "../db/database.ts";
import type { Grant, Keys } from "../keys/keys.ts";
import type { PostgresProjects, ProjectRow } from "../projects/postgres.ts";
import type { Clock } from "../runtime/clock.ts";
import type { AllocationId } from "../runtime/ids.ts";
import type { Random } from "../runtime/random.ts";
import type { Tasks } from "../tasks/tasks.ts";
import { readAllowance } from "./allowance.ts";
import { type EgressDoor, issueEgressSession } from "./egress-sessions.ts";
import type { Pairs } from "./pairs.ts";
import type { Resume, TrialRow } from "./rows.ts";

export interface SpecDependencies {
  db: Database;
  keys: Keys;
  projects: PostgresProjects;
  tasks: Tasks;
  pairs: Pairs;
  agents: readonly AgentFacts[];
  clock: Clock;
  random: Random;
  gatewayUrl: () => string;
  /** Who answers replays in the gateway's place. */
  replayUrl: () => string;
  egress: EgressDoor;
  artefactBytesMax: number;
  /** Of what workers keep of a running trial. */
  checkpoints: AgentSpec["checkpoints"];
}

const IDLE_MS_DEFAULT = 10 * 60_000;
/**
 * A key is revoked when its allocation is over; its own time is for the day that fails. So long
 * after the trial's deadline that a clock which is set an hour forward refuses no trial its calls.
 */
const KEY_GRACE_MS = 2 * 3_600_000;

export async function agentSpec(
  dependencies: SpecDependencies,
  trial: TrialRow,
  allocationId: AllocationId,
): Promise<AgentSpec> {
  const { keys, projects, tasks, pairs, agents, clock } = dependencies;
  const facts = agents.find(({ name }) => name === trial.agent);
  if (facts === undefined || trial.account_id === null) {
    throw new Error("a placed trial without its agent or its account");
  }
  const project = await projects.findById(trial.project_id);
  const task = await tasks.get(trial.task_id);
  const pair = pairs.resolve(project.config, trial.pair, facts);
  const accounts = await projects.accounts(project);
  const tokens = await projects.tokenGrant(project, trial.id);
  const deadlineMs = clock.now() + Number(trial.wall_ms);
  const grant: Grant = {
    trialId: trial.id,
    projectId: trial.project_id,
    currency: project.currency,
    enclosing: [accounts.organisation, accounts.budget],
    budget: trial.account_id,
    spend: accounts.spend,
    // A replay's key buys nothing: its record answers it, and nobody else.
    models: trial.replay_of === null ? pair.models : [],
    budgetStopStatus: facts.budget_stop_status,
    ...(tokens === null ? {} : { tokens }),
  };
  const { secret } = await keys.issue(grant, deadlineMs + KEY_GRACE_MS, trial.fence);
  const allowance = await readAllowance(dependencies, trial);
  if (allowance === null) throw new Error("an enrolled allocation without an allowance");
  const [normal, thinking] = pair.models;
  return {
    purpose: "agent",
    trial_id: trial.id,
    allocation_id: allocationId,
    agent: trial.agent,
    models: { normal: normal.name, thinking: thinking.name },
    context_tokens: Math.min(normal.contextTokens, thinking.contextTokens),
    max_output_tokens: Math.min(normal.maxOutputTokens, thinking.maxOutputTokens),
    gateway_url: trial.replay_of === null ? dependencies.gatewayUrl() : dependencies.replayUrl(),
    virtual_key: secret,
    instruction: task.instruction,
    base_commit: task.base_commit,
    ...(task.test.kind === "command" ? { test_command: task.test.command } : {}),
    allowance,
    limits: limits(dependencies, project, Number(trial.wall_ms)),
    egress: await issueEgressSession(dependencies, project, trial, allocationId),
    checkpoints: dependencies.checkpoints,
    ...(trial.resume === null ? {} : { resume: resumeSpec(trial.resume) }),
  };
}

export async function verifySpec(
  dependencies: SpecDependencies,
  trial: TrialRow,
  allocationId: AllocationId,
): Promise<VerifySpec> {
  const task = await dependencies.tasks.get(trial.task_id);
  const project = await dependencies.projects.findById(trial.project_id);
  return {
    purpose: "verify",
    trial_id: trial.id,
    allocation_id: allocationId,
    base_commit: task.base_commit,
    test: task.test,
    has_hidden_tests: task.has_hidden_tests,
    limits: limits(dependencies, project, Number(task.verify_wall_ms)),
    egress: await issueEgressSession(dependencies, project, trial, allocationId),
  };
}

function limits({ artefactBytesMax }: SpecDependencies, project: ProjectRow, wallMs: number) {
  return {
    wall_ms: wallMs,
    idle_ms: Math.min(project.config.limits?.idle_ms ?? IDLE_MS_DEFAULT, wallMs),
    artefact_bytes: artefactBytesMax,
  };
}

/** Without its checkpoint there are no files of the session either. */
function resumeSpec(resume: Resume): NonNullable<AgentSpec["resume"]> {
  const { completed_phases, plan_text, session, checkpoint_id: id, manifest_sha256 } = resume;
  if (id === undefined || manifest_sha256 === undefined) return { completed_phases, plan_text };
  return {
    completed_phases,
    plan_text,
    ...(session === undefined ? {} : { session }),
    checkpoint: { id, manifest_sha256 },
  };
}

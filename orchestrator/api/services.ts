/** What the API serves: ports alone, made by compose.ts. */
import type { Readable } from "node:stream";
import type { Agents } from "../agents/agents.ts";
import type { Backups } from "../backup/backup.ts";
import type { Budgets } from "../budgets/budgets.ts";
import type { Checkpoints } from "../checkpoints/checkpoints.ts";
import type { ReconciliationReport, UnmatchedCall } from "../contract/accounting.ts";
import type { Decision, EffectivePolicy, EgressQuestion } from "../contract/egress.ts";
import type { RuleProposal } from "../contract/flow-views.ts";
import type { FlowRecord } from "../contract/flows.ts";
import type { LedgerReport, LedgerStatus } from "../contract/ledger.ts";
import type { RenderedPair, RenderRequest } from "../contract/model-render.ts";
import type { HardwareList, PairPlan, PlanRequest } from "../contract/models.ts";
import type { Orchestrator } from "../contract/orchestrators.ts";
import type { Finding, PairStatus } from "../contract/system.ts";
import type {
  PullRequest,
  RemovedWeights,
  RemoveRequest,
  WeightList,
  WeightProgress,
} from "../contract/weights.ts";
import type { Projects } from "../projects/projects.ts";
import type { Clock } from "../runtime/clock.ts";
import type { Log } from "../runtime/log.ts";
import type { Secrets, SecretsStatus } from "../secrets/secrets.ts";
import type { ModelServers } from "../serving/serving.ts";
import type { TrafficSources } from "../traffic/sources.ts";
import type { Traffic } from "../traffic/traffic.ts";
import type { Approvals } from "../trials/approvals.ts";
import type { Pricing } from "../trials/pairs.ts";
import type { TrialReplays, Trials, WorkerLogs } from "../trials/trials.ts";
import type { WorkerSessions } from "../trials/worker-sessions.ts";
import type { Hosts, Workers } from "../workers/workers.ts";
import type { Access } from "./access.ts";
import type { Idempotency } from "./idempotency.ts";

/** The ledger's journal, for whoever wants to check it. */
export interface Journals {
  status(): Promise<LedgerStatus>;
  /** The export's bytes (contract/ledger.ts), which end early when something fails. */
  open(): Promise<Readable>;
  /** Whether the journal agrees with the transfers as they are now. */
  verify(): Promise<LedgerReport>;
}

/** The orchestrators of our database. */
export interface Orchestrators {
  list(): Promise<Orchestrator[]>;
  /** Where workers reach those that live; the one that they should try first is the first. */
  urls(): readonly string[];
}

/** The installation's secrets, for its admins. */
export interface SecretsAdmin {
  secrets: Secrets;
  /** How they were a moment ago. */
  watch: { last(): Promise<SecretsStatus> };
  /** Null where the engine does that itself. */
  reseal: ((passphrase: string | null) => Promise<void>) | null;
  /** Makes what was written known to who keeps it: the gateway's keys. */
  changed(): Promise<void>;
}

/** Flows beside their store. */
export interface Flows {
  /** Called with what this process has just stored; see orchestrator/traffic/stored.ts. */
  onStored(listener: (flows: readonly FlowRecord[]) => void): Disposable;
  /**
   * A rule that would let such a flow through, and unless it is a dry run the approval that asks
   * for it.
   *
   * @throws Problem `conflict` when no rule would, or when it belongs to no project.
   */
  propose(flow: FlowRecord, options: { isDryRun: boolean }): Promise<RuleProposal>;
}

/** Alarms: paid calls without an entry in the ledger, and entries without a record. */
export interface UnmatchedCalls {
  /** The newest first, at most 1,000. */
  list(options: { isAnsweredToo: boolean }): Promise<UnmatchedCall[]>;
  /** Settles an alarm. @throws Problem `not_found`, `conflict` once it has an answer. */
  answer(id: string, because: string): Promise<UnmatchedCall>;
}

/** Our settled tokens beside what others counted. */
export interface Reconciliations {
  /** What was compared of a day; without one, of the last 30. */
  read(day?: string): Promise<ReconciliationReport>;
  /** Asks and compares now. @throws Problem `invalid_request` for a day that has not begun. */
  reconcile(day: string): Promise<ReconciliationReport>;
}

/** The egress policies of projects, for who writes and reads them. */
export interface EgressPolicies {
  /** @throws Problem `not_found`, as the other. */
  policy(project: string, agent: string | null): Promise<EffectivePolicy>;
  /** What it says of a request that nobody sends. */
  decide(project: string, question: EgressQuestion): Promise<Decision>;
}

/** Models on own GPUs: planned, and brought up and down. */
export interface Models extends ModelServers {
  /** @throws Problem `invalid_request` for an unknown pair, GPU or quantisation. */
  plan(request: PlanRequest): PairPlan;
  hardware(): Promise<HardwareList>;
  /** @throws Problem `invalid_request`: as `plan`, or the form cannot serve what was planned. */
  render(request: RenderRequest): Promise<RenderedPair>;
}

/** Pulls that were asked for and may begin. */
export interface PreparedPull {
  /** One model after the other. A fault is told as the last line, and thrown. */
  run(onProgress: (progress: WeightProgress) => void, signal: AbortSignal): Promise<void>;
}

/** The weights on this machine, and pulls that people ask for. */
export interface WeightPulls {
  list(): Promise<WeightList>;
  /**
   * Finds what is asked for and checks its licences, before anything is fetched.
   *
   * @param caller who asks, for the record of what they accept.
   * @throws Problem `not_found`, `conflict`, `invalid_request`.
   */
  prepare(request: PullRequest, caller: string): Promise<PreparedPull>;
  /** @throws Problem `not_found` (none are here), `conflict` (an engine uses them, or a pull). */
  remove(request: RemoveRequest): Promise<RemovedWeights>;
}

export interface Services {
  clock: Clock;
  log: Log;
  access: Access;
  agents: Agents;
  approvals: Approvals;
  budgets: Budgets;
  egress: EgressPolicies;
  flows: Flows;
  traffic: Traffic;
  trafficSources: Pick<TrafficSources, "list">;
  checkpoints: Checkpoints;
  idempotency: Idempotency;
  journal: Journals;
  models: Models;
  projects: Projects;
  reconciliations: Reconciliations;
  replays: TrialReplays;
  trials: Trials;
  unmatched: UnmatchedCalls;
  weights: WeightPulls;
  workerLogs: WorkerLogs;
  workerSessions: WorkerSessions;
  workers: Workers;
  hosts: Hosts;
  pairs(project?: string): Promise<PairStatus[]>;
  pricing: Pricing;
  doctor(): Promise<Finding[]>;
  /** Each dependency by name: null when it is ready, else why not. */
  readiness(): Promise<Record<string, string | null>>;
  orchestrators: Orchestrators;
  backups: Backups;
  secrets: SecretsAdmin;
  /** Prometheus text. */
  metrics(): Promise<string>;
}

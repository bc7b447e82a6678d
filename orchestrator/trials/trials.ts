/** The trials port: what people and other services ask of trials and experiments. */
import type { Artefact } from "../contract/artefacts.ts";
import type { Call } from "../contract/calls.ts";
import type { Cassette, NewCassetteReplay } from "../contract/cassettes.ts";
import type { TrialEngine } from "../contract/engines.ts";
import type { TrialEvent } from "../contract/events.ts";
import type {
  Experiment,
  NewExperiment,
  NewFork,
  NewTrial,
  Trial,
  TrialState,
} from "../contract/trials.ts";
import type { WorkerOutput } from "../contract/workers.ts";
import type { ExperimentId, TrialId } from "../runtime/ids.ts";

export interface TrialFilter {
  project?: string;
  experimentId?: ExperimentId;
  state?: TrialState;
  limit: number;
  /** The last id of the page before; newest first. */
  before?: TrialId;
}

export interface Trials {
  /** @throws Problem `invalid_request` naming the field, `not_found` for an unknown project. */
  create(trial: NewTrial): Promise<Trial>;
  createExperiment(experiment: NewExperiment): Promise<Experiment>;
  list(filter: TrialFilter): Promise<Trial[]>;
  /** @throws Problem `not_found`, as every function below that takes an id. */
  get(id: TrialId): Promise<Trial>;
  experiments(project?: string): Promise<Experiment[]>;
  experiment(id: ExperimentId): Promise<Experiment>;
  /** Asks for its end; the engine ends it. Cancelling what has ended changes nothing. */
  cancel(id: TrialId): Promise<Trial>;
  /** Queues a paused trial again. @throws Problem `conflict` or `budget_exceeded`. */
  resume(id: TrialId): Promise<Trial>;
  /**
   * Queues a trial that begins with one of its checkpoints.
   *
   * @throws Problem `invalid_request` naming the field, `conflict` when it has no checkpoint.
   */
  fork(id: TrialId, fork: NewFork): Promise<Trial>;
  /**
   * Queues a trial of the cassette's agent, task, pair and seed that the cassette answers: its
   * `replay_of` is itself.
   *
   * @throws Problem `invalid_request` naming what the project has not, `conflict` for a fork's
   *   whose checkpoint is not kept here.
   */
  replayCassette(wanted: NewCassetteReplay): Promise<Trial>;
  calls(id: TrialId): Promise<Call[]>;
  /** What it got from each model server, and how loaded that was meanwhile. */
  engines(id: TrialId): Promise<TrialEngine[]>;
  /** Events after `afterSeq`, oldest first, at most `limit`. Of all trials when `id` is null. */
  events(id: TrialId | null, afterSeq: number, limit: number): Promise<TrialEvent[]>;
  /** The `seq` of any trial's newest event, 0 when there is none: where "from now on" starts. */
  latestSeq(): Promise<number>;
  /** Wakes with each new event's trial id, until disposed. */
  onEvent(listener: (trialId: TrialId) => void): Disposable;
  artefacts(id: TrialId): Promise<Artefact[]>;
  /** The newest artefact of this name: its file's path. @throws Problem `not_found`. */
  artefactPath(id: TrialId, name: string): Promise<string>;
  /** ATIF v1.7, built from the gateway's records. */
  trajectory(id: TrialId): Promise<unknown>;
}

export interface WorkerLogRequest {
  /** One of the trial's allocations; null: its newest. */
  allocationId: string | null;
  /** Null: both, as they come. */
  output: WorkerOutput | null;
  /** Until the worker ends. */
  isFollowed: boolean;
  signal: AbortSignal;
}

/** What the workers of trials printed. */
export interface WorkerLogs {
  /**
   * Its text, without secrets, as it comes.
   *
   * @throws Problem `not_found`: no such trial or allocation, or nothing is kept; `conflict`: it
   * has no worker yet.
   */
  read(id: TrialId, request: WorkerLogRequest): Promise<AsyncIterable<string>>;
}

/** Trials again, from what was recorded of them. */
export interface TrialReplays {
  /** Queues a replay; of a fork it begins with the same checkpoint. @throws as `cassette` */
  replay(id: TrialId): Promise<Trial>;
  /**
   * @throws Problem `not_found`; `conflict` while the trial runs, when its record lacks a call, or
   * when something that was answered is not whole any more: it names what.
   */
  cassette(id: TrialId): Promise<Cassette>;
  /** Its models' words as a script of the scripted model, in YAML. @throws as `cassette` */
  script(id: TrialId): Promise<string>;
}

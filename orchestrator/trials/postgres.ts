/** Trials and experiments in Postgres: making, finding, asking. The engine moves them. */
import { sql } from "drizzle-orm";
import type { AgentFacts } from "../contract/agents.ts";
import type { Call } from "../contract/calls.ts";
import type { NewCassetteReplay } from "../contract/cassettes.ts";
import type { EgressLayer } from "../contract/egress.ts";
import type { TrialEvent } from "../contract/events.ts";
import type { Experiment, NewExperiment, NewFork, NewTrial, Trial } from "../contract/trials.ts";
import type { Database, Sql } from "../db/database.ts";
import { readTime, rows } from "../db/rows.ts";
import type { Ledger } from "../ledger/ledger.ts";
import { NANOS_MAX, parseUnits } from "../money.ts";
import { Problem } from "../problem.ts";
import { parseEgressLayer } from "../projects/egress-rules.ts";
import type { Layout } from "../projects/layout.ts";
import type { PostgresProjects, ProjectRow } from "../projects/postgres.ts";
import { type Clock, rfc3339 } from "../runtime/clock.ts";
import type { ExperimentId, Ids, TrialId } from "../runtime/ids.ts";
import type { Random } from "../runtime/random.ts";
import { requirementsOf } from "../tasks/requirements.ts";
import type { TaskRow, Tasks } from "../tasks/tasks.ts";
import type { Traffic } from "../traffic/traffic.ts";
import { listArtefacts, newestArtefactPath } from "./artefacts.ts";
import { readCalls, readRecordedCalls } from "./calls.ts";
import { readTrialEngines } from "./engine-share-rows.ts";
import { appendEvent, TRIAL_CHANNEL } from "./events.ts";
import { forkTrial } from "./fork.ts";
import { keepCassette } from "./kept-cassette.ts";
import { expandMatrix } from "./matrix.ts";
import type { Pairs } from "./pairs.ts";
import { resumeTrial } from "./resume.ts";
import { findTrial, type TrialRow, viewTrials } from "./rows.ts";
import { buildTrajectory } from "./trajectory.ts";
import { createTransitions } from "./transitions.ts";
import { isTerminal } from "./trial.ts";
import type { TrialFilter, Trials } from "./trials.ts";
import type { Wakes } from "./wakes.ts";

export interface TrialsDependencies {
  db: Database;
  ledger: Ledger;
  projects: PostgresProjects;
  tasks: Tasks;
  pairs: Pairs;
  agents: readonly AgentFacts[];
  wakes: Wakes;
  layout: Layout;
  traffic: Pick<Traffic, "scan">;
  clock: Clock;
  ids: Ids;
  random: Random;
}

const EXPERIMENT_TRIALS_MAX = 10_000;
const EXPERIMENT_FIELDS = { agent: "agents", pair: "pairs" };

export function createTrials(dependencies: TrialsDependencies): Trials {
  const { db, projects, wakes, layout, random, traffic } = dependencies;
  return {
    create,
    createExperiment: (wanted) => createExperiment(dependencies, wanted),
    list: (filter) => listTrials(db.sql, filter),
    get: (id) => getTrial(db.sql, id),
    experiments,
    experiment: (id) => viewExperiment(db.sql, id),
    cancel: (id) => cancel(dependencies, id),
    resume: async (id) => {
      await resumeTrial(dependencies, id);
      return getTrial(db.sql, id);
    },
    fork: (id, wanted) => fork(dependencies, id, wanted),
    replayCassette,
    calls: async (id): Promise<Call[]> => readCalls(db.sql, (await needTrial(db.sql, id)).id),
    engines: async (id) => readTrialEngines(db.sql, (await needTrial(db.sql, id)).id),
    events,
    latestSeq: () => latestSeq(db.sql),
    onEvent: wakes.onEvent,
    artefacts: async (id) => listArtefacts(db.sql, (await needTrial(db.sql, id)).id),
    artefactPath: async (id, name) =>
      newestArtefactPath(db.sql, layout, await needTrial(db.sql, id), name),
    trajectory,
  };

  async function create(wanted: NewTrial): Promise<Trial> {
    return insert(wanted, async () => {});
  }

  async function replayCassette({ project, cassette }: NewCassetteReplay): Promise<Trial> {
    const { agent, task, pair, seed } = cassette.trial;
    return insert({ project, agent, task, pair, seed }, (transaction, id) =>
      keepCassette(transaction, id, cassette, rfc3339(dependencies.clock.now())),
    );
  }

  /** @param more what else is so of it, in the same transaction. */
  async function insert(
    wanted: NewTrial,
    more: (transaction: Sql, id: TrialId) => Promise<void>,
  ): Promise<Trial> {
    const project = await projects.find(wanted.project);
    const pair = checkCell(dependencies, project, wanted, { agent: "agent", pair: "pair" });
    const limitNanos = limitOf("limit_nanos", wanted.limit_nanos, project);
    const task = await resolveTask(dependencies, project, wanted.task);
    const egress = egressOf(wanted, project);
    const id = dependencies.ids.next("trial");
    await db.sql.transaction(async (transaction) => {
      await insertTrial(dependencies, transaction, {
        id,
        project,
        task,
        agent: wanted.agent,
        pair: wanted.pair,
        isScripted: pair.isScripted,
        attempt: 1,
        seed: wanted.seed ?? random.below(2 ** 32),
        priority: wanted.priority ?? 0,
        limitNanos,
        wallMs: wanted.wall_ms ?? project.config.limits?.wall_ms ?? Number(task.agent_wall_ms),
        experimentId: null,
        egress,
      });
      await more(transaction, id);
    });
    return getTrial(db.sql, id);
  }

  async function experiments(project?: string): Promise<Experiment[]> {
    const condition = project === undefined ? sql`true` : sql`project.name = ${project}`;
    const found = await rows<{ id: ExperimentId }>(
      db.sql,
      sql`select experiment.id from experiment join project on project.id = experiment.project_id
        where ${condition} order by experiment.created_at desc limit 100`,
    );
    return Promise.all(found.map(({ id }) => viewExperiment(db.sql, id)));
  }

  async function events(id: TrialId | null, afterSeq: number, limit: number) {
    const condition = id === null ? sql`true` : sql`trial_id = ${id}`;
    const found = await rows<Omit<TrialEvent, "seq"> & { seq: string }>(
      db.sql,
      sql`select seq, trial_id, type, at, data from event
        where seq > ${afterSeq} and ${condition} order by seq limit ${limit}`,
    );
    return found.map((row) => ({
      seq: Number(row.seq),
      trial_id: row.trial_id,
      type: row.type,
      at: rfc3339(readTime(row.at)),
      data: row.data,
    }));
  }

  async function trajectory(id: TrialId): Promise<unknown> {
    const trial = await getTrial(db.sql, id);
    return buildTrajectory(trial, await readRecordedCalls(db.sql, traffic, id));
  }
}

async function listTrials(db: Sql, filter: TrialFilter): Promise<Trial[]> {
  const conditions = [sql`true`];
  if (filter.project !== undefined) conditions.push(sql`project.name = ${filter.project}`);
  if (filter.state !== undefined) conditions.push(sql`trial.state = ${filter.state}`);
  if (filter.experimentId !== undefined) {
    conditions.push(sql`trial.experiment_id = ${filter.experimentId}`);
  }
  if (filter.before !== undefined) {
    conditions.push(sql`(trial.created_at, trial.id) <
      (select created_at, id from trial where id = ${filter.before})`);
  }
  return viewTrials(db, sql.join(conditions, sql` and `), filter.limit);
}

async function getTrial(db: Sql, id: TrialId): Promise<Trial> {
  const [found] = await viewTrials(db, sql`trial.id = ${id}`, 1);
  if (found === undefined) throw new Problem("not_found", `There is no trial ${id}`);
  return found;
}

async function needTrial(db: Sql, id: TrialId): Promise<TrialRow> {
  const row = await findTrial(db, id);
  if (row === null) throw new Problem("not_found", `There is no trial ${id}`);
  return row;
}

async function latestSeq(db: Sql): Promise<number> {
  const [newest] = await rows<{ seq: string }>(
    db,
    sql`select coalesce(max(seq), 0)::text as seq from event`,
  );
  return Number(newest?.seq ?? 0);
}

async function viewExperiment(db: Sql, id: ExperimentId): Promise<Experiment> {
  const [row] = await rows<{
    name: string;
    project: string;
    currency: string;
    seed: string;
    assignment: string;
    created_at: string;
  }>(
    db,
    sql`select experiment.*, project.name as project, project.currency
      from experiment join project on project.id = experiment.project_id
      where experiment.id = ${id}`,
  );
  if (row === undefined) throw new Problem("not_found", `There is no experiment ${id}`);
  const newestFirst = await viewTrials(db, sql`trial.experiment_id = ${id}`, EXPERIMENT_TRIALS_MAX);
  // Made within a millisecond their ids are in no order.
  const trials = newestFirst.toReversed().toSorted((a, b) => a.attempt - b.attempt);
  const spent = trials.reduce((sum, { budget }) => sum + BigInt(budget?.spent_nanos ?? "0"), 0n);
  return {
    id,
    project: row.project,
    name: row.name,
    seed: Number(row.seed),
    assignment: row.assignment,
    trial_count: trials.length,
    ended_count: trials.filter(({ state }) => isTerminal(state)).length,
    spent_nanos: String(spent),
    currency: row.currency,
    created_at: rfc3339(readTime(row.created_at)),
    trials,
  };
}

async function createExperiment(
  dependencies: TrialsDependencies,
  wanted: NewExperiment,
): Promise<Experiment> {
  const { db, projects, tasks, ids, random, clock } = dependencies;
  const project = await projects.find(wanted.project);
  const seed = wanted.seed ?? random.below(2 ** 32);
  // Counted before it is made: a few long lists multiply to more than memory holds.
  const combinations = wanted.assignment === "all" ? wanted.agents.length * wanted.pairs.length : 1;
  const count = combinations * wanted.tasks.length * wanted.attempts;
  if (count > EXPERIMENT_TRIALS_MAX) {
    const detail = `attempts: ${count} trials; at most ${EXPERIMENT_TRIALS_MAX}`;
    throw new Problem("invalid_request", detail);
  }
  const limitNanos = limitOf("trial_limit_nanos", wanted.trial_limit_nanos, project);
  const cells = expandMatrix({ ...wanted, seed });
  const isScripted = new Map<string, boolean>();
  for (const agent of wanted.agents) {
    for (const pair of wanted.pairs) {
      const cell = checkCell(dependencies, project, { agent, pair }, EXPERIMENT_FIELDS);
      isScripted.set(pair, cell.isScripted);
    }
  }
  const taskRows = new Map<string, TaskRow>();
  for (const name of wanted.tasks) {
    const row = await tasks.find(project.id, name);
    if (row === null) {
      const known = (await tasks.list(project.id)).map((task) => task.name).join(", ");
      throw new Problem("invalid_request", `tasks: unknown task "${name}"; known: ${known}`);
    }
    taskRows.set(name, row);
  }

  const id = ids.next("experiment");
  await db.sql.transaction(async (transaction) => {
    await transaction.execute(sql`
      insert into experiment (id, project_id, name, seed, assignment, spec, created_at)
      values (${id}, ${project.id}, ${wanted.name}, ${seed}, ${wanted.assignment},
        ${JSON.stringify(wanted)}::jsonb, ${rfc3339(clock.now())})`);
    for (const cell of cells) {
      const task = taskRows.get(cell.task);
      if (task === undefined) throw new Error("a cell of an unknown task");
      await insertTrial(dependencies, transaction, {
        id: ids.next("trial"),
        project,
        task,
        agent: cell.agent,
        pair: cell.pair,
        isScripted: isScripted.get(cell.pair) ?? false,
        attempt: cell.attempt,
        seed: cell.seed,
        priority: 0,
        limitNanos,
        wallMs: project.config.limits?.wall_ms ?? Number(task.agent_wall_ms),
        experimentId: id,
        egress: null,
      });
    }
  });
  return viewExperiment(db.sql, id);
}

async function fork(
  dependencies: TrialsDependencies,
  id: TrialId,
  wanted: NewFork,
): Promise<Trial> {
  const { db, projects } = dependencies;
  const parent = await needTrial(db.sql, id);
  const project = await projects.findById(parent.project_id);
  const { agent = parent.agent, pair = parent.pair } = wanted;
  const fields = { agent: "agent", pair: "pair" };
  const { isScripted } = checkCell(dependencies, project, { agent, pair }, fields);
  const wantedLimit = wanted.limit_nanos ?? parent.limit_nanos;
  const limitNanos = limitOf("limit_nanos", wantedLimit, project);
  const cell = { agent, pair, isScripted, limitNanos };
  return getTrial(db.sql, await forkTrial(dependencies, parent, wanted, cell));
}

interface TrialDraft {
  id: TrialId;
  project: ProjectRow;
  task: TaskRow;
  agent: string;
  pair: string;
  isScripted: boolean;
  attempt: number;
  seed: number;
  priority: number;
  limitNanos: string;
  wallMs: number;
  experimentId: ExperimentId | null;
  egress: EgressLayer | null;
}

async function insertTrial(
  { clock }: TrialsDependencies,
  db: Sql,
  draft: TrialDraft,
): Promise<void> {
  const at = rfc3339(clock.now());
  const requirements = requirementsOf(draft.project.config.workers, draft.task.requirements);
  await db.execute(sql`
    insert into trial (id, project_id, experiment_id, task_id, agent, pair, is_scripted, attempt,
      seed, priority, limit_nanos, wall_ms, requirements, egress, state, created_at, updated_at)
    values (${draft.id}, ${draft.project.id}, ${draft.experimentId}, ${draft.task.id},
      ${draft.agent}, ${draft.pair}, ${draft.isScripted}, ${draft.attempt}, ${draft.seed},
      ${draft.priority}, ${draft.limitNanos}, ${draft.wallMs},
      ${JSON.stringify(requirements)}::jsonb,
      ${draft.egress === null ? null : JSON.stringify(draft.egress)}::jsonb, 'queued', ${at},
      ${at})`);
  await appendEvent(db, draft.id, "trial.state", { from: null, to: "queued" }, at);
  await db.execute(sql`select pg_notify(${TRIAL_CHANNEL}, ${draft.id})`);
}

/** @throws Problem naming the file, its line and field; or that nobody would decide by it. */
function egressOf({ egress }: NewTrial, { config, name }: ProjectRow): EgressLayer | null {
  if (egress === undefined) return null;
  if (config.egress === "open") {
    const detail = `egress: the egress of "${name}" is open, so that no rule is asked; remove it`;
    throw new Problem("invalid_request", detail);
  }
  return parseEgressLayer(egress.file_text, egress.file_name);
}

/**
 * Whether this agent can run with this pair in this project at all.
 *
 * @param field where the request has them. @throws Problem naming that
 */
function checkCell(
  { agents, pairs }: TrialsDependencies,
  project: ProjectRow,
  { agent: agentName, pair }: { agent: string; pair: string },
  field: { agent: string; pair: string },
) {
  const allowed = project.config.agents ?? agents.map(({ name }) => name);
  const facts = agents.find(({ name }) => name === agentName);
  if (facts === undefined || !allowed.includes(agentName)) {
    const detail = `unknown agent "${agentName}"; in this project: ${allowed.join(", ")}`;
    throw new Problem("invalid_request", `${field.agent}: ${detail}`);
  }
  const allowedPairs = project.config.pairs;
  if (allowedPairs !== undefined && !allowedPairs.includes(pair)) {
    const detail = `unknown pair "${pair}"; in this project: ${allowedPairs.join(", ")}`;
    throw new Problem("invalid_request", `${field.pair}: ${detail}`);
  }
  try {
    return pairs.resolve(project.config, pair, facts);
  } catch (error) {
    if (!(error instanceof Problem) || !error.message.startsWith("pair: ")) throw error;
    const detail = `${field.pair}: ${error.message.slice("pair: ".length)}`;
    throw new Problem(error.code, detail, { facts: error.facts, cause: error });
  }
}

async function resolveTask(
  { tasks }: TrialsDependencies,
  project: ProjectRow,
  wanted: NewTrial["task"],
): Promise<TaskRow> {
  if (typeof wanted !== "string") return (await tasks.importInline(project.id, wanted)).row;
  if (wanted.includes("/")) return (await tasks.importFolder(project.id, wanted)).row;
  const found = await tasks.find(project.id, wanted);
  if (found !== null) return found;
  const known = (await tasks.list(project.id)).map(({ name }) => name).join(", ");
  const detail = `task: unknown task "${wanted}"; known: ${known || "none yet"}`;
  throw new Problem("invalid_request", `${detail}; a folder's path works too`);
}

/** The schema bounds an amount's digits only: the last ones may be past a bigint column. */
function limitOf(field: string, wanted: string | undefined, project: ProjectRow): string {
  if (wanted === undefined) return perTrial(project);
  if (BigInt(wanted) <= NANOS_MAX) return wanted;
  throw new Problem("invalid_request", `${field}: ${wanted} is too much; at most ${NANOS_MAX}`);
}

function perTrial(project: ProjectRow): string {
  const nanos = parseUnits(project.config.budget.per_trial);
  if (nanos === null) throw new Error("a project's per_trial is no amount");
  return String(nanos);
}

async function cancel(dependencies: TrialsDependencies, id: TrialId): Promise<Trial> {
  const { db, clock, ids } = dependencies;
  const [asked] = await rows<TrialRow>(
    db.sql,
    sql`with asked as (
        update trial set cancel_requested = true
        where id = ${id} and state not in ('succeeded', 'failed', 'errored', 'cancelled')
        returning *
      )
      select asked.*, pg_notify(${TRIAL_CHANNEL}, id) from asked`,
  );
  if (asked?.state === "paused") {
    // The engine leaves a paused trial alone, and nothing of it runs: this is its end.
    const ending = { to: "cancelled", verdict: null, reward: null, flags: asked.flags } as const;
    const reason = "cancelled on request";
    await createTransitions(db, clock, ids).end(asked, { ...ending, reason });
  }
  return getTrial(db.sql, id);
}

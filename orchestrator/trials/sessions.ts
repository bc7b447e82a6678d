/**
 * The orchestrator's side of a worker-agent, in Postgres. An enrolment token is good once; the
 * allocation token it buys is refused as `fenced` as soon as the trial has a newer allocation.
 */
import { createHash } from "node:crypto";
import { access } from "node:fs/promises";
import type { Readable } from "node:stream";
import { sql } from "drizzle-orm";
import type { AgentFacts } from "../contract/agents.ts";
import type { WorkerEvent } from "../contract/events.ts";
import type { AgentSpec, Directive, Enrolment, Report } from "../contract/worker.ts";
import type { Database } from "../db/database.ts";
import { jsonText, rows } from "../db/rows.ts";
import type { Keys } from "../keys/keys.ts";
import type { Ledger } from "../ledger/ledger.ts";
import { Problem } from "../problem.ts";
import type { Layout } from "../projects/layout.ts";
import type { PostgresProjects } from "../projects/postgres.ts";
import { type Clock, rfc3339 } from "../runtime/clock.ts";
import type { AllocationId, ProjectId, TrialId } from "../runtime/ids.ts";
import type { Random } from "../runtime/random.ts";
import type { Tasks } from "../tasks/tasks.ts";
import { readAllowance } from "./allowance.ts";
import { newestArtefactPath, writeAt } from "./artefacts.ts";
import type { EgressDoor } from "./egress-sessions.ts";
import type { Enrolments } from "./enrolment.ts";
import { appendWorkerEvents, EVENT_CHANNEL, TRIAL_CHANNEL } from "./events.ts";
import type { Pairs } from "./pairs.ts";
import { findTrial, type TrialRow } from "./rows.ts";
import { agentSpec, verifySpec } from "./specs.ts";
import type { Wakes } from "./wakes.ts";
import type { Session, WorkerSessions } from "./worker-sessions.ts";

export interface SessionsDependencies {
  db: Database;
  keys: Keys;
  ledger: Ledger;
  projects: PostgresProjects;
  tasks: Tasks;
  pairs: Pairs;
  agents: readonly AgentFacts[];
  wakes: Wakes;
  layout: Layout;
  clock: Clock;
  random: Random;
  enrolments: Pick<Enrolments, "redeem">;
  /** Where workers reach the gateway. */
  gatewayUrl: () => string;
  /** Who answers replays in the gateway's place. */
  replayUrl: () => string;
  egress: EgressDoor;
  artefactBytesMax: number;
  /** Makes records of traffic of what workers' networks dropped. */
  recordPackets: RecordPackets;
  /** Of what workers keep of a running trial. */
  checkpoints: AgentSpec["checkpoints"];
}

/** Resolves once they are durable, or were told to the log; one record a telling, by its cursor. */
type RecordPackets = (
  owner: {
    projectId: ProjectId;
    trialId: TrialId;
    allocationId: AllocationId;
    agent: string | null;
  },
  told: readonly WorkerEvent[],
) => Promise<void>;

/** What a worker may say; the rest of the event types are the engine's and the gateway's own. */
const WORKER_EVENT =
  /^(worker|phase|agent|verify)[.]|^egress[.](dropped|isolation)$|^trial[.]note$/;

const ARTEFACTS_MAX = 32;

type AllocationRow = {
  id: AllocationId;
  trial_id: TrialId;
  purpose: "agent" | "verify";
  is_current: boolean;
};

export function createWorkerSessions(dependencies: SessionsDependencies): WorkerSessions {
  const { db, tasks, layout } = dependencies;
  return {
    enrol: (token) => enrol(dependencies, token),
    authenticate: (token) => authenticate(dependencies, token),
    sourcePath: async (session) => {
      const trial = await needTrial(db, session.trialId);
      return layout.task(trial.project_id, trial.task_id).source;
    },
    testsPath: async (session) => {
      // Hidden from the agent: only the verifier's allocation may read them.
      if (session.purpose !== "verify") return null;
      const trial = await needTrial(db, session.trialId);
      const task = await tasks.get(trial.task_id);
      return task.has_hidden_tests ? layout.task(trial.project_id, trial.task_id).tests : null;
    },
    patchPath: (session) => patchPath(dependencies, session),
    appendEvents,
    heartbeat: (session, waitMs) => heartbeat(dependencies, session, waitMs),
    appendArtefact: (session, name, offset, bytes) =>
      appendArtefact(dependencies, session, { name, offset, bytes }),
    report: (session, said) => report(dependencies, session, said),
  };

  async function appendEvents(session: Session, events: readonly WorkerEvent[]): Promise<number> {
    const foreign = events.find(({ type }) => !WORKER_EVENT.test(type));
    if (foreign !== undefined) {
      throw new Problem("forbidden", `type: a worker may not say "${foreign.type}"`);
    }
    // Before they are events: a worker that is not answered tells of them again.
    await recordDropped(dependencies, session, events);
    return appendWorkerEvents(db.sql, session, events);
  }
}

async function recordDropped(
  { db, recordPackets }: SessionsDependencies,
  { trialId, allocationId, purpose }: Session,
  events: readonly WorkerEvent[],
): Promise<void> {
  const dropped = events.filter(({ type }) => type === "egress.dropped");
  if (dropped.length === 0) return;
  const trial = await needTrial(db, trialId);
  const agent = purpose === "agent" ? trial.agent : null;
  await recordPackets({ projectId: trial.project_id, trialId, allocationId, agent }, dropped);
}

async function enrol(
  dependencies: SessionsDependencies,
  enrolmentToken: string,
): Promise<Enrolment> {
  const { db, enrolments } = dependencies;
  const allocation = await enrolments.redeem(enrolmentToken);
  const trial = await needTrial(db, allocation.trialId);
  if (trial.allocation_id !== allocation.allocationId) throw fenced();
  const spec =
    allocation.purpose === "agent"
      ? await agentSpec(dependencies, trial, allocation.allocationId)
      : await verifySpec(dependencies, trial, allocation.allocationId);
  await db.sql.execute(sql`select pg_notify(${TRIAL_CHANNEL}, ${trial.id})`);
  return { allocation_token: allocation.allocationToken, spec };
}

async function authenticate(
  { db }: SessionsDependencies,
  allocationToken: string,
): Promise<Session> {
  const [allocation] = await rows<AllocationRow>(
    db.sql,
    sql`select allocation.id, allocation.trial_id, allocation.purpose,
        trial.allocation_id = allocation.id and allocation.ended_at is null as is_current
      from allocation join trial on trial.id = allocation.trial_id
      where allocation.token_sha256 = ${sha256(allocationToken)}`,
  );
  if (allocation === undefined) {
    throw new Problem("unauthenticated", "The allocation token is unknown");
  }
  if (!allocation.is_current) throw fenced();
  return {
    allocationId: allocation.id,
    trialId: allocation.trial_id,
    purpose: allocation.purpose,
  };
}

/** The diff of the last try, which has none when nothing was changed; for the verifier alone. */
async function patchPath(
  { db, layout }: SessionsDependencies,
  session: Session,
): Promise<string | null> {
  if (session.purpose !== "verify") return null;
  const trial = await needTrial(db, session.trialId);
  try {
    const from = await lastTry(db, trial.id);
    const path = await newestArtefactPath(db.sql, layout, trial, "changes.patch", from);
    await access(path);
    return path;
  } catch (error) {
    if (error instanceof Problem && error.code === "not_found") return null;
    throw error;
  }
}

async function lastTry(db: Database, trialId: TrialId): Promise<AllocationId | null> {
  const [last] = await rows<{ id: AllocationId }>(
    db.sql,
    sql`select id from allocation where trial_id = ${trialId} and purpose = 'agent'
      order by fence desc limit 1`,
  );
  return last?.id ?? null;
}

async function heartbeat(
  dependencies: SessionsDependencies,
  session: Session,
  waitMs: number,
): Promise<Directive> {
  const { db, wakes } = dependencies;
  // Listening starts before the look, so that a change in between is not missed.
  let wake: () => void = () => {};
  const woken = new Promise<void>((resolve) => {
    wake = resolve;
  });
  using _ = wakes.onTrial((trialId) => {
    if (trialId === null || trialId === session.trialId) wake();
  });
  await db.sql.execute(sql`
    update allocation set heartbeat_at = clock_timestamp() where id = ${session.allocationId}`);
  const now = await directive(dependencies, session);
  if (now.action === "stop" || waitMs === 0) return now;
  let timer: NodeJS.Timeout | undefined;
  const elapsed = new Promise<void>((resolve) => {
    // A held heartbeat is no reason to run on.
    timer = setTimeout(resolve, waitMs).unref();
  });
  await Promise.race([woken, elapsed]);
  clearTimeout(timer);
  return directive(dependencies, session);
}

async function directive(dependencies: SessionsDependencies, session: Session): Promise<Directive> {
  const trial = await needTrial(dependencies.db, session.trialId);
  if (trial.allocation_id !== session.allocationId) return { action: "stop", reason: "fenced" };
  if (trial.cancel_requested) return { action: "stop", reason: "cancelled" };
  if (trial.is_budget_exhausted && session.purpose === "agent") {
    return { action: "stop", reason: "budget" };
  }
  if (session.purpose === "verify") return { action: "continue" };
  if (trial.resume_at !== null) return { action: "stop", reason: "quota" };
  const allowance = await readAllowance(dependencies, trial);
  return { action: "continue", ...(allowance === null ? {} : { allowance }) };
}

async function appendArtefact(
  { db, layout, clock, artefactBytesMax }: SessionsDependencies,
  session: Session,
  { name, offset, bytes }: { name: string; offset: number; bytes: Readable },
): Promise<number> {
  if (!/^[a-z0-9][a-z0-9._-]{0,99}$/.test(name)) {
    throw new Problem("invalid_request", "name: use a-z, 0-9, dot, dash and underscore");
  }
  const trial = await needTrial(db, session.trialId);
  await refuseManyNames(db, session, name);
  const path = layout.artefact(trial.project_id, trial.id, session.allocationId, name);
  const size = await writeAt(path, offset, bytes, artefactBytesMax);
  await db.sql.execute(sql`
    with written as (
      insert into artefact (trial_id, allocation_id, name, byte_count, updated_at)
      values (${trial.id}, ${session.allocationId}, ${name}, ${size}, ${rfc3339(clock.now())})
      on conflict (allocation_id, name) do update
      set byte_count = excluded.byte_count, updated_at = excluded.updated_at
      returning trial_id
    )
    select pg_notify(${EVENT_CHANNEL}, trial_id) from written`);
  return size;
}

/** A worker that makes up names would fill the disk, however small each artefact is held. */
async function refuseManyNames(db: Database, session: Session, name: string): Promise<void> {
  const [found] = await rows<{ others: number }>(
    db.sql,
    sql`select count(*)::int as others from artefact
      where allocation_id = ${session.allocationId} and name <> ${name}`,
  );
  if ((found?.others ?? 0) < ARTEFACTS_MAX) return;
  throw new Problem("too_large", `An allocation may leave ${ARTEFACTS_MAX} artefacts`);
}

/** Keeps what the worker said; the engine draws the conclusions. A repeat changes nothing. */
async function report(
  { db, clock }: SessionsDependencies,
  session: Session,
  said: Report,
): Promise<void> {
  if (said.purpose !== session.purpose) {
    throw new Problem("invalid_request", `purpose: this allocation is for ${session.purpose}`);
  }
  const column = said.purpose === "agent" ? sql`agent_report` : sql`verify_report`;
  await db.sql.execute(sql`
    with locked as materialized (
      -- The trial first, as the engine does when it ends an allocation.
      select id from trial where id = ${session.trialId} for no key update
    ), reported as (
      update allocation set reported_at = ${rfc3339(clock.now())}
      from locked
      where allocation.id = ${session.allocationId} and trial_id = locked.id
        and reported_at is null
      returning trial_id
    ), kept as (
      update trial set ${column} = ${jsonText(said)}::jsonb
      where id in (select trial_id from reported) and allocation_id = ${session.allocationId}
      returning id
    )
    select pg_notify(${TRIAL_CHANNEL}, id) from kept`);
}

async function needTrial(db: Database, id: TrialId): Promise<TrialRow> {
  const trial = await findTrial(db.sql, id);
  if (trial === null) throw new Error(`an allocation of a trial that is gone: ${id}`);
  return trial;
}

function sha256(text: string): Buffer {
  return createHash("sha256").update(text).digest();
}

function fenced(): Problem {
  return new Problem("fenced", "A newer allocation has taken this trial over; stop");
}

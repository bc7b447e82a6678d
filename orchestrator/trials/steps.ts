/**
 * One step of a trial: looks at what is wanted and what is there, and moves it by one state.
 * A step that is done twice, or that another overtook, changes nothing (transitions.ts).
 */
import { sql } from "drizzle-orm";
import type { Database, Sql } from "../db/database.ts";
import { readTime, rows } from "../db/rows.ts";
import type { Keys } from "../keys/keys.ts";
import type { Ledger } from "../ledger/ledger.ts";
import { Problem } from "../problem.ts";
import type { PostgresProjects } from "../projects/postgres.ts";
import { type Clock, rfc3339 } from "../runtime/clock.ts";
import { type AllocationId, derivedId, type Ids } from "../runtime/ids.ts";
import type { Scheduler } from "../scheduler/scheduler.ts";
import { gatherApprovalFacts } from "./approval-facts.ts";
import type { Enrolments, EnrolmentToken } from "./enrolment.ts";
import type { TrialRow } from "./rows.ts";
import { lastShortage, tellShortage } from "./shortage.ts";
import { addFlags, createTransitions, endAllocations, type Transitions } from "./transitions.ts";
import { type AgentEnd, afterAgent, afterVerifier, asRefused } from "./trial.ts";
import { tellUnplaceable } from "./unplaceable.ts";

export interface StepsDependencies {
  db: Database;
  ledger: Ledger;
  keys: Keys;
  projects: PostgresProjects;
  scheduler: Scheduler;
  clock: Clock;
  ids: Ids;
  enrolments: Pick<Enrolments, "prepare">;
  /** Why a trial of the pair would wait for the GPUs; absent: none is served on own ones. */
  waitFor?: (pair: string) => string | null;
}

export interface StepsOptions {
  /** A worker that has been silent for three times this long is given up, running or not. */
  staleMs: number;
  /** A worker that was told to stop has this long before the scheduler ends it. */
  stopGraceMs: number;
  /** The wait before a second try. */
  retryDelayMs: number;
}

export interface Steps {
  /** Whether the trial moved. */
  advance(trial: TrialRow): Promise<boolean>;
}

/** Any number; held from the look for room until the trial has it. */
const ADMISSION_LOCK = 52_172;
const RETRIES_DEFAULT = 2;
const VERIFY_RETRIES = 2;

/** The trial's current allocation; silence is measured by the database's clock. */
type AllocationView = {
  id: AllocationId;
  purpose: "agent" | "verify";
  is_enrolled: boolean;
  silent_ms: number;
};

type Context = StepsDependencies &
  StepsOptions & { transitions: Transitions; inTurn: ReturnType<typeof createTurns> };

export function createSteps(dependencies: StepsDependencies, options: StepsOptions): Steps {
  const { db, clock, ids } = dependencies;
  const context: Context = {
    ...dependencies,
    ...options,
    transitions: createTransitions(db, clock, ids),
    inTurn: createTurns(),
  };
  return { advance: (trial) => advance(context, trial) };
}

/**
 * One at a time in this process. A placement is counted by the database until it is made and by
 * the scheduler once it has it: an admission that looks in between would take the same place.
 */
function createTurns(): <Result>(run: () => Promise<Result>) => Promise<Result> {
  let last: Promise<unknown> = Promise.resolve();
  return (run) => {
    const turn = last.then(run);
    last = turn.catch(() => {});
    return turn;
  };
}

async function advance(context: Context, trial: TrialRow): Promise<boolean> {
  switch (trial.state) {
    case "queued":
      if (trial.cancel_requested) return cancel(context, trial);
      return context.inTurn(() => admit(context, trial));
    case "admitted":
      return trial.cancel_requested ? cancel(context, trial) : place(context, trial, "agent");
    case "placed":
    case "running":
      return watchAgent(context, trial);
    case "verifying":
      return watchVerifier(context, trial);
    case "paused":
      return context.transitions.resumeDue(trial);
    default:
      return false;
  }
}

/** Opens the trial's budget, once there is room for the trial. */
async function admit(context: Context, trial: TrialRow): Promise<boolean> {
  if (await waitsForModels(context, trial)) return false;
  const project = await context.projects.findById(trial.project_id);
  const concurrency = project.config.limits?.concurrency ?? null;
  const free = await freeFor(context, trial);
  if (free === null) return false;
  if (free === "never") return true;
  const isRoom = (db: Sql) => hasRoom(db, trial, free, concurrency);
  if (!(await isRoom(context.db.sql))) {
    if (free === 0) await tellUnplaceable(context, trial);
    return false;
  }
  const { funding } = await context.projects.accounts(project);
  const account = await context.ledger.open({
    id: context.ids.next("account"),
    kind: "budget",
    owner: `trial/${trial.id}`,
    currency: project.currency,
    mustNotExceed: true,
  });
  // A replay is answered from a record: it may spend nothing.
  const amountNanos = trial.replay_of === null ? BigInt(trial.limit_nanos) : 0n;
  if (amountNanos > 0n) {
    const id = derivedId("transfer", "limit", trial.id);
    await context.ledger.fund({ id, from: funding, to: account, amountNanos, reason: "limit" });
  }
  return context.transitions.move(trial, "admitted", {
    set: sql`account_id = ${account}`,
    guard: async (transaction) => {
      // One admission at a time, in all engines: else each would take the same last place.
      await transaction.execute(sql`select pg_advisory_xact_lock(${ADMISSION_LOCK})`);
      return isRoom(transaction);
    },
  });
}

/** Trials of the pair that is loaded go before it; who waits is counted when turns are given. */
async function waitsForModels({ waitFor, transitions }: Context, trial: TrialRow) {
  const why = trial.replay_of === null ? (waitFor?.(trial.pair) ?? null) : null;
  if (why !== null) await transitions.wait(trial, `waits for its models: ${why}`);
  return why !== null;
}

/** Null while the scheduler cannot say: the trial waits, and says why. `never` has ended it. */
async function freeFor(context: Context, trial: TrialRow): Promise<number | "never" | null> {
  try {
    return await context.scheduler.capacity(trial.requirements);
  } catch (error) {
    if (!(error instanceof Problem)) throw error;
    if (error.code === "invalid_request") {
      await endRefused(context, trial, error);
      return "never";
    }
    await context.transitions.wait(trial, `waits for the scheduler: ${error.message}`);
    return null;
  }
}

/** What the scheduler will not run, however often it is asked: in its engine's own words. */
function endRefused(context: Context, trial: TrialRow, refusal: Problem): Promise<boolean> {
  const { flags } = trial;
  const verdict = trial.state === "verifying" ? "error" : null;
  const ending = { to: "errored", verdict, reward: null, flags } as const;
  const reason = `the scheduler refused it: ${refusal.message}`;
  return context.transitions.end(trial, { ...ending, reason });
}

/** A new allocation with a new fence: from here on the one before it is refused. */
async function place(
  context: Context,
  trial: TrialRow,
  purpose: "agent" | "verify",
): Promise<boolean> {
  const allocationId = context.ids.next("allocation");
  // Before anything is written, and before the others' turn: an engine of secrets may be slow.
  const enrolment = await prepareEnrolment(context, trial, allocationId);
  if (enrolment === null) return false;
  const allocation = { allocationId, purpose, enrolment };
  return context.inTurn(() => placeInTurn(context, trial, allocation));
}

/** Null while the secrets cannot be opened: the trial waits where it is, and says why. */
async function prepareEnrolment(
  context: Context,
  trial: TrialRow,
  allocationId: AllocationId,
): Promise<EnrolmentToken | null> {
  try {
    return await context.enrolments.prepare(allocationId);
  } catch (error) {
    if (!(error instanceof Problem) || error.code !== "secrets_sealed") throw error;
    await context.transitions.wait(trial, `waits for the secrets: ${error.message}`);
    return null;
  }
}

async function placeInTurn(
  context: Context,
  trial: TrialRow,
  {
    allocationId,
    purpose,
    enrolment,
  }: { allocationId: AllocationId; purpose: "agent" | "verify"; enrolment: EnrolmentToken },
): Promise<boolean> {
  const at = rfc3339(context.clock.now());
  const forgotten =
    purpose === "agent"
      ? sql`tries = tries + 1, agent_report = null, verify_report = null,
          is_budget_exhausted = false`
      : sql`verify_report = null`;
  const state = purpose === "agent" ? "placed" : "verifying";
  const fence = trial.fence + 1;
  const isPlaced = await context.transitions.move(trial, state, {
    set: sql`allocation_id = ${allocationId}, fence = fence + 1, not_before = null,
      stop_asked_at = null, ${forgotten}`,
    also: async (transaction) => {
      await endAllocations(transaction, trial, at);
      await transaction.execute(sql`
        insert into allocation (id, trial_id, purpose, fence, scheduler, enrolment_sha256,
          heartbeat_at, created_at)
        values (${allocationId}, ${trial.id}, ${purpose}, ${fence},
          ${context.scheduler.name}, ${enrolment.sha256}, clock_timestamp(), ${at})`);
    },
  });
  // A crash here leaves an allocation that the scheduler never heard of: it counts as lost.
  if (isPlaced) {
    const { id: trialId, requirements, priority } = trial;
    const placed = { allocationId, trialId, requirements, priority };
    try {
      await context.scheduler.place({ ...placed, enrolmentToken: enrolment.token });
    } catch (error) {
      if (!(error instanceof Problem)) throw error;
      const refused = { ...trial, state, fence } as const;
      if (error.code === "invalid_request") return endRefused(context, refused, error);
      const reason = `waits for the scheduler: ${error.message}`;
      const delayMs = context.retryDelayMs;
      await context.transitions.putBack(refused, trial, { allocationId, reason, delayMs });
      return false;
    }
  }
  return isPlaced;
}

async function watchAgent(context: Context, trial: TrialRow): Promise<boolean> {
  const allocation = await currentAllocation(context.db.sql, trial);
  if (trial.state === "placed" && allocation.is_enrolled) {
    const set = sql`started_at = coalesce(started_at, ${rfc3339(context.clock.now())})`;
    return context.transitions.move(trial, "running", { set });
  }
  if (trial.agent_report !== null) {
    const { outcome, detail } = trial.agent_report;
    return endAgent(context, trial, { kind: "reported", outcome, detail });
  }
  const lost = await whyLost(context, allocation);
  if (lost !== null) return endAgent(context, trial, { kind: "lost", detail: lost });
  await enforceStop(context, trial);
  return false;
}

async function watchVerifier(context: Context, trial: TrialRow): Promise<boolean> {
  const allocation = await currentAllocation(context.db.sql, trial);
  if (allocation.purpose === "agent") {
    return trial.cancel_requested ? cancel(context, trial) : place(context, trial, "verify");
  }
  if (trial.verify_report !== null) return endVerified(context, trial, trial.verify_report);
  const lost = await whyLost(context, allocation);
  if (lost === null) {
    await enforceStop(context, trial);
    return false;
  }
  await context.scheduler.stop(allocation.id);
  if (trial.cancel_requested) return cancel(context, trial);
  const tries = await countVerifiers(context.db.sql, trial);
  const next = afterVerifier({ kind: "lost", detail: lost }, tries, VERIFY_RETRIES);
  if (next.to === "verifying") return place(context, trial, "verify");
  const { flags } = trial;
  const ending = { to: "errored", verdict: "error", reward: null, flags } as const;
  return context.transitions.end(trial, { ...ending, reason: next.reason });
}

/** Null while the allocation may still be heard of; else why it will not be. */
async function whyLost(context: Context, allocation: AllocationView): Promise<string | null> {
  const status = await context.scheduler.status(allocation.id);
  if (status === "pending" && allocation.silent_ms > context.staleMs) {
    // It waits in the scheduler's line and cannot speak yet: its silence begins when it runs.
    await context.db.sql.execute(sql`
      update allocation set heartbeat_at = clock_timestamp() where id = ${allocation.id}`);
    return null;
  }
  if (status === "running" || status === "pending") {
    if (allocation.silent_ms <= 3 * context.staleMs) return null;
    return `the worker has been silent for ${Math.round(allocation.silent_ms / 1000)} s`;
  }
  // It ended; its report may have come after the trial was read.
  const [now] = await rows<{ is_reported: boolean }>(
    context.db.sql,
    sql`select reported_at is not null as is_reported from allocation
      where id = ${allocation.id}`,
  );
  if (now?.is_reported === true) return null;
  return status === null
    ? `the ${context.scheduler.name} scheduler does not know the allocation`
    : `the worker ended (${status}) without a report`;
}

/** Its directive told the worker to stop; one that does not obey is ended for it. */
async function enforceStop(context: Context, trial: TrialRow): Promise<void> {
  const isRefused = trial.is_budget_exhausted || trial.resume_at !== null;
  if (!trial.cancel_requested && !isRefused) return;
  const [asked] = await rows<{ for_ms: number }>(
    context.db.sql,
    sql`update trial set stop_asked_at = coalesce(stop_asked_at, clock_timestamp())
      where id = ${trial.id} and fence = ${trial.fence}
      returning (extract(epoch from clock_timestamp() - stop_asked_at) * 1000)::int as for_ms`,
  );
  if (asked === undefined) return;
  const isOverdue = asked.for_ms > context.stopGraceMs;
  if (isOverdue && trial.allocation_id !== null) await context.scheduler.stop(trial.allocation_id);
}

async function endAgent(context: Context, trial: TrialRow, end: AgentEnd): Promise<boolean> {
  if (end.kind === "lost" && trial.allocation_id !== null) {
    await context.scheduler.stop(trial.allocation_id);
  }
  await context.keys.revokeAll(trial.id, trial.fence);
  if (trial.cancel_requested) return cancel(context, trial);
  const { config } = await context.projects.findById(trial.project_id);
  // What was recorded is said once: a second try would be told the same.
  const retries = trial.replay_of === null ? (config.limits?.retries ?? RETRIES_DEFAULT) : 0;
  const said = asRefused(end, {
    isBudgetExhausted: trial.is_budget_exhausted,
    isQuotaExhausted: trial.resume_at !== null,
  });
  const rules = { retries, delayMs: context.retryDelayMs };
  const next = afterAgent(said, trial.tries, rules);
  switch (next.to) {
    case "verifying":
      return context.transitions.move(trial, "verifying", { set: addFlags(next.flags) });
    case "paused":
      if (trial.replay_of === null) return pause(context, trial, next);
      return endReplay(context, trial, next.reason);
    case "queued":
      return context.transitions.requeue(trial, next);
    case "errored": {
      const { flags } = trial;
      const ending = { to: "errored", verdict: null, reward: null, flags } as const;
      return context.transitions.end(trial, { ...ending, reason: next.reason });
    }
  }
}

/** Money would change nothing: the record ends where the recorded trial was stopped. */
function endReplay(context: Context, trial: TrialRow, detail: string): Promise<boolean> {
  const ending = { to: "errored", verdict: null, reward: null, flags: trial.flags } as const;
  const reason = `as recorded, it was stopped: ${detail}`;
  return context.transitions.end(trial, { ...ending, reason });
}

/** For money a person is asked; for a quota the engine waits until it is back. */
async function pause(
  { db, transitions }: Context,
  trial: TrialRow,
  next: { for: "budget" | "quota"; reason: string },
): Promise<boolean> {
  if (next.for === "quota" && trial.resume_at !== null) {
    const until = rfc3339(readTime(trial.resume_at));
    return transitions.pause(trial, `provider quota until ${until}`, null);
  }
  const facts = await gatherApprovalFacts(db.sql, trial);
  return transitions.pause(trial, await whyPaused(db.sql, trial, next.reason), facts);
}

/** Which budget was short; the CLI's own word where the gateway refused nothing. */
async function whyPaused(db: Sql, trial: TrialRow, detail: string): Promise<string> {
  const shortage = await lastShortage(db, trial.id);
  return shortage === null ? detail : (tellShortage(shortage, shortage.availableNanos) ?? detail);
}

async function endVerified(
  context: Context,
  trial: TrialRow,
  report: NonNullable<TrialRow["verify_report"]>,
): Promise<boolean> {
  if (trial.cancel_requested) return cancel(context, trial);
  const { verdict, detail, reward, flags } = report;
  const next = afterVerifier({ kind: "reported", verdict, detail }, 1, VERIFY_RETRIES);
  if (next.to === "verifying") throw new Error("a reported verdict was not final");
  const all = [...trial.flags, ...flags];
  return context.transitions.end(trial, {
    to: next.to,
    verdict,
    reward,
    flags: all,
    reason: next.reason,
  });
}

async function cancel(context: Context, trial: TrialRow): Promise<boolean> {
  await context.keys.revokeAll(trial.id, trial.fence);
  const reason = "cancelled on request";
  const ending = { to: "cancelled", verdict: null, reward: null, reason } as const;
  return context.transitions.end(trial, { ...ending, flags: trial.flags });
}

/** Trials that were admitted but not placed have a slot in mind already. */
async function hasRoom(
  db: Sql,
  trial: TrialRow,
  freeSlots: number,
  projectMax: number | null,
): Promise<boolean> {
  const [room] = await rows<{ waiting: number; in_project: number; experiment_has_room: boolean }>(
    db,
    sql`select
      (select count(*)::int from trial where state = 'admitted') as waiting,
      (select count(*)::int from trial where project_id = ${trial.project_id}
        and state in ('admitted', 'placed', 'running', 'verifying')) as in_project,
      coalesce((
        select (spec ->> 'concurrency')::int > (
          select count(*) from trial where experiment_id = ${trial.experiment_id}
            and state in ('admitted', 'placed', 'running', 'verifying'))
        from experiment where id = ${trial.experiment_id}
      ), true) as experiment_has_room`,
  );
  if (room === undefined || room.waiting >= freeSlots || !room.experiment_has_room) return false;
  return projectMax === null || room.in_project < projectMax;
}

async function currentAllocation(db: Sql, trial: TrialRow): Promise<AllocationView> {
  const [found] = await rows<AllocationView>(
    db,
    sql`select id, purpose, enrolled_at is not null as is_enrolled,
        (extract(epoch from clock_timestamp() - heartbeat_at) * 1000)::int as silent_ms
      from allocation where id = ${trial.allocation_id}`,
  );
  if (found === undefined) throw new Error("a placed trial without an allocation");
  return found;
}

async function countVerifiers(db: Sql, trial: TrialRow): Promise<number> {
  const [counted] = await rows<{ count: number }>(
    db,
    sql`select count(*)::int as count from allocation
      where trial_id = ${trial.id} and purpose = 'verify'`,
  );
  return counted?.count ?? 0;
}

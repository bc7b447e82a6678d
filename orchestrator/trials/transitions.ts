/**
 * The transitions of a trial, each one transaction: conditional on state and fence, so that a step
 * which is repeated or was overtaken changes nothing, and told to whoever waits.
 */
import { type SQL, sql } from "drizzle-orm";
import type { ApprovalFacts } from "../contract/approvals.ts";
import type { TrialState, Verdict } from "../contract/trials.ts";
import type { Database, Sql } from "../db/database.ts";
import { jsonText, rows } from "../db/rows.ts";
import { type Clock, rfc3339 } from "../runtime/clock.ts";
import type { AllocationId, Ids, TrialId } from "../runtime/ids.ts";
import { appendEvent, TRIAL_CHANNEL } from "./events.ts";
import { newestResume, resumeAfterPause } from "./resume-point.ts";
import type { Resume, TrialRow } from "./rows.ts";

export interface Transition {
  /** More columns to set. */
  set?: SQL;
  reason?: string | null;
  /** The trial waits for `resume_at`; any other pause forgets it. */
  isUntilQuota?: boolean;
  /** Asked first, in the same transaction; no: the trial stays where it is. */
  guard?: (transaction: Sql) => Promise<boolean>;
  /** What belongs to the same transaction; not run when the trial had moved already. */
  also?: (transaction: Sql) => Promise<void>;
}

export interface Retry {
  failureClass: string;
  delayMs: number;
  /** Else from where this try began: what it did since may be what made it fail. */
  isFromCheckpoint: boolean;
}

export interface Ending {
  to: "succeeded" | "failed" | "errored" | "cancelled";
  verdict: Verdict | null;
  reward: number | null;
  reason: string | null;
  flags: readonly string[];
}

export type Transitions = ReturnType<typeof createTransitions>;

export function createTransitions(db: Pick<Database, "sql">, clock: Clock, ids: Ids) {
  return { move, putBack, wait, end, pause, resumeDue, requeue };

  /** Whether the trial moved: false when its state or fence was no longer what the step saw. */
  async function move(
    trial: TrialRow,
    to: TrialState,
    { set, reason = null, isUntilQuota = false, guard, also }: Transition,
  ): Promise<boolean> {
    const at = rfc3339(clock.now());
    // What the gateway said of a quota is about the allocation that runs.
    const resumeAt = to === "running" || isUntilQuota ? sql`resume_at` : sql`null`;
    return db.sql.transaction(async (transaction) => {
      if (guard !== undefined && !(await guard(transaction))) return false;
      const moved = await rows<{ id: string }>(
        transaction,
        sql`update trial set state = ${to}, reason = ${reason?.slice(0, 2000) ?? null},
            updated_at = ${at}, resume_at = ${resumeAt} ${set === undefined ? sql`` : sql`, ${set}`}
          where id = ${trial.id} and state = ${trial.state} and fence = ${trial.fence}
          returning id`,
      );
      if (moved.length === 0) return false;
      // Before the allocations are touched: a worker's events take their locks in this order too.
      if (to !== trial.state) {
        const data = { from: trial.state, to, ...(reason === null ? {} : { reason }) };
        await appendEvent(transaction, trial.id, "trial.state", data, at);
      }
      await also?.(transaction);
      await transaction.execute(sql`select pg_notify(${TRIAL_CHANNEL}, ${trial.id})`);
      return true;
    });
  }

  /** Says why the trial stays where it is; forgotten when it moves. */
  async function wait(trial: TrialRow, reason: string | null): Promise<void> {
    const told = reason?.slice(0, 2000) ?? null;
    await db.sql.execute(sql`
      with told as (
        update trial set reason = ${told}, updated_at = ${rfc3339(clock.now())}
        where id = ${trial.id} and state = ${trial.state} and fence = ${trial.fence}
          and reason is distinct from ${told}
        returning id
      )
      select pg_notify(${TRIAL_CHANNEL}, id) from told`);
  }

  /**
   * Takes a placement back that the scheduler did not take, or did not say it took: the trial is
   * where it was, and no try was made. A worker that was started all the same cannot enrol.
   */
  async function putBack(
    trial: TrialRow,
    before: TrialRow,
    {
      allocationId,
      reason,
      delayMs,
    }: { allocationId: AllocationId; reason: string; delayMs: number },
  ): Promise<boolean> {
    return move(trial, before.state, {
      reason,
      set: sql`allocation_id = ${before.allocation_id}, tries = ${before.tries},
        not_before = clock_timestamp() + ${`${delayMs} ms`}::interval`,
      also: async (transaction) => {
        await transaction.execute(sql`
          delete from placement where allocation_id = ${allocationId} and state = 'pending'`);
        await transaction.execute(sql`
          delete from allocation where id = ${allocationId} and enrolled_at is null`);
      },
    });
  }

  async function end(trial: TrialRow, ending: Ending): Promise<boolean> {
    return move(trial, ending.to, {
      reason: ending.reason,
      set: sql`verdict = ${ending.verdict}, reward = ${ending.reward},
        ${addFlags(ending.flags)}, ended_at = ${rfc3339(clock.now())}`,
      also: async (transaction) => {
        const at = rfc3339(clock.now());
        await endAllocations(transaction, trial, at);
        await transaction.execute(sql`
          update approval set state = 'superseded', resolved_at = ${at}
          where trial_id = ${trial.id} and state = 'open' and kind = 'budget'`);
      },
    });
  }

  /**
   * Keeps what the next allocation goes on from. With the facts of an approval, files it: a person
   * must answer; without, the trial waits for its `resume_at`.
   */
  async function pause(
    trial: TrialRow,
    reason: string,
    approval: ApprovalFacts | null,
  ): Promise<boolean> {
    const at = rfc3339(clock.now());
    return move(trial, "paused", {
      reason,
      isUntilQuota: approval === null,
      // A person may have cancelled since the step looked; nothing would end it once it is paused.
      guard: async (transaction) => {
        const [now] = await rows<{ cancel_requested: boolean }>(
          transaction,
          sql`select cancel_requested from trial where id = ${trial.id} for no key update`,
        );
        return now?.cancel_requested === false;
      },
      set: sql`stop_asked_at = null`,
      also: async (transaction) => {
        await endAllocations(transaction, trial, at);
        await goOnFrom(transaction, trial, await resumeAfterPause(transaction, trial));
        if (approval === null) return;
        await transaction.execute(sql`
          insert into approval (id, trial_id, kind, state, facts, created_at)
          values (${ids.next("approval")}, ${trial.id}, 'budget', 'open',
            ${jsonText(approval)}::jsonb, ${at})
          on conflict (trial_id, kind) where state = 'open' do nothing`);
      },
    });
  }

  /** Queues a paused trial again whose `resume_at` has come, by the database's clock. */
  async function resumeDue(trial: TrialRow): Promise<boolean> {
    const at = rfc3339(clock.now());
    return db.sql.transaction((transaction) =>
      queueAgain(transaction, trial.id, at, sql`resume_at <= clock_timestamp()`),
    );
  }

  /** Tries it again: from its newest checkpoint, or from where this try began. */
  async function requeue(
    trial: TrialRow,
    { failureClass, delayMs, isFromCheckpoint }: Retry,
  ): Promise<boolean> {
    const at = rfc3339(clock.now());
    return move(trial, "queued", {
      set: sql`stop_asked_at = null,
        not_before = clock_timestamp() + ${`${delayMs} ms`}::interval`,
      also: async (transaction) => {
        await endAllocations(transaction, trial, at);
        const newest = isFromCheckpoint ? await newestResume(transaction, trial.id) : null;
        if (newest !== null) await goOnFrom(transaction, trial, newest);
        const from = (newest ?? trial.resume)?.checkpoint_id;
        const data = { failure_class: failureClass, tries: trial.tries, delay_ms: delayMs };
        const more = from === undefined ? {} : { checkpoint_id: from };
        await appendEvent(transaction, trial.id, "trial.retry", { ...data, ...more }, at);
      },
    });
  }
}

/**
 * Queues a paused trial again, in the caller's transaction: with all its tries, and with a new
 * wait for its turn. Whether it was paused.
 *
 * @param condition more that must hold of its row.
 */
export async function queueAgain(
  transaction: Sql,
  trialId: TrialId,
  at: string,
  condition: SQL = sql`true`,
): Promise<boolean> {
  const moved = await rows(
    transaction,
    sql`update trial set state = 'queued', reason = null, is_budget_exhausted = false, tries = 0,
        resume_at = null, not_before = null, updated_at = ${at}
      where id = ${trialId} and state = 'paused' and ${condition} returning id`,
  );
  if (moved.length === 0) return false;
  await appendEvent(transaction, trialId, "trial.state", { from: "paused", to: "queued" }, at);
  await transaction.execute(sql`select pg_notify(${TRIAL_CHANNEL}, ${trialId})`);
  return true;
}

/** In a transaction that holds the trial's row. */
async function goOnFrom(transaction: Sql, trial: TrialRow, resume: Resume): Promise<void> {
  await transaction.execute(sql`
    update trial set resume = ${jsonText(resume)}::jsonb where id = ${trial.id}`);
}

/** From here on nothing these allocations say is heard. */
export async function endAllocations(db: Sql, trial: TrialRow, at: string): Promise<void> {
  await db.execute(sql`
    update allocation set ended_at = ${at} where trial_id = ${trial.id} and ended_at is null`);
}

/** Adds what a trial has not: others, such as the egress proxy, add theirs meanwhile. */
export function addFlags(flags: readonly string[]): SQL {
  const given = sql.param([...new Set(flags)]);
  return sql`flags = flags || array(
    select flag from unnest(${given}::text[]) with ordinality as given (flag, place)
    where not flag = any(flags) order by place)`;
}

/**
 * Appends events. All appends take one advisory lock, so `seq` follows the order of commits and a
 * reader that resumes after a `seq` misses nothing.
 */
import { sql } from "drizzle-orm";
import type { EventType, WorkerEvent } from "../contract/events.ts";
import type { Sql } from "../db/database.ts";
import { jsonText, rows } from "../db/rows.ts";
import type { AllocationId, TrialId } from "../runtime/ids.ts";

/** NOTIFY channels; both carry the trial's id. */
export const EVENT_CHANNEL = "autocode_event";
export const TRIAL_CHANNEL = "autocode_trial";

/** Any number; held while events are appended, until their transaction ends. */
const APPEND_LOCK = 52_171;

/** One event of the engine or the gateway. */
export async function appendEvent(
  db: Sql,
  trialId: TrialId,
  type: EventType,
  data: Record<string, unknown>,
  at: string,
): Promise<void> {
  await db.execute(sql`
    with locked as materialized (select pg_advisory_xact_lock(${APPEND_LOCK})),
    appended as (
      insert into event (project_id, trial_id, type, data, at)
      select project_id, id, ${type}, ${jsonText(data)}::jsonb, ${at}
      from locked, trial where id = ${trialId}
      returning trial_id
    )
    select pg_notify(${EVENT_CHANNEL}, trial_id) from appended`);
}

export interface NewEvent {
  trialId: TrialId;
  type: EventType;
  data: Record<string, unknown>;
  at: string;
}

/** Events of any trials, in their order, in one statement. */
export async function appendEvents(db: Sql, events: readonly NewEvent[]): Promise<void> {
  const given = events.map(({ trialId, type, data, at }) => ({
    trial_id: trialId,
    type,
    data,
    at,
  }));
  await db.execute(sql`/* prepared: events.append */
    with locked as materialized (select pg_advisory_xact_lock(${APPEND_LOCK})),
    appended as (
      insert into event (project_id, trial_id, type, data, at)
      select trial.project_id, trial.id, given.type, given.data, given.at
      from locked,
        rows from (
          jsonb_to_recordset(${jsonText(given)}::jsonb)
            as (trial_id text, type text, data jsonb, at timestamptz)
        ) with ordinality as given (trial_id, type, data, at, position)
        join trial on trial.id = given.trial_id
      order by given.position
      returning trial_id
    )
    select pg_notify(${EVENT_CHANNEL}, trial_id)
    from (select distinct trial_id from appended) as told`);
}

/** A worker's batch; what it already sent is skipped. The highest cursor that is durable. */
export async function appendWorkerEvents(
  db: Sql,
  allocation: { allocationId: AllocationId; trialId: TrialId },
  events: readonly WorkerEvent[],
): Promise<number> {
  const { allocationId, trialId } = allocation;
  const [stored] = await rows<{ last_cursor: string }>(
    db,
    sql`
    with locked as materialized (select pg_advisory_xact_lock(${APPEND_LOCK})),
    appended as (
      insert into event (project_id, trial_id, allocation_id, cursor, type, data, at)
      select trial.project_id, trial.id, ${allocationId}, sent.cursor, sent.type, sent.data, sent.at
      from locked, trial,
        jsonb_to_recordset(${jsonText(events)}::jsonb)
          as sent (cursor bigint, type text, data jsonb, at timestamptz)
      where trial.id = ${trialId}
      order by sent.cursor
      on conflict on constraint event_cursor_once do nothing
      returning trial_id
    ), notified as (
      select pg_notify(${EVENT_CHANNEL}, ${trialId}) from (select from appended limit 1) as any_new
    )
    update allocation
    set last_cursor = greatest(last_cursor, ${events.at(-1)?.cursor ?? 0}),
      heartbeat_at = clock_timestamp()
    where id = ${allocationId} and (select count(*) from notified) >= 0
    returning last_cursor`,
  );
  return Number(stored?.last_cursor ?? 0);
}

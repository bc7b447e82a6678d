/** What the egress proxy tells of a trial becomes events; a canary that would leave ends it. */
import { sql } from "drizzle-orm";
import type { EventType } from "../contract/events.ts";
import type { Database, Sql } from "../db/database.ts";
import { type Clock, rfc3339 } from "../runtime/clock.ts";
import type { TrialId } from "../runtime/ids.ts";
import { appendEvent, TRIAL_CHANNEL } from "./events.ts";

export function createEgressEvents(db: Database, clock: Clock) {
  return { tell, stopTrial };

  /** @param within the transaction that it is a part of. */
  async function tell(
    trialId: TrialId,
    type: EventType,
    data: Record<string, unknown>,
    within: Sql = db.sql,
  ): Promise<void> {
    await appendEvent(within, trialId, type, data, rfc3339(clock.now()));
  }

  /** Its worker is told with its next heartbeat, which this wakes; idempotent. */
  async function stopTrial(trialId: TrialId, reason: string): Promise<void> {
    await db.sql.transaction(async (transaction) => {
      await transaction.execute(sql`
        update trial set cancel_requested = true,
          flags = case when 'canary' = any(flags) then flags else array_append(flags, 'canary') end
        where id = ${trialId} and state not in ('succeeded', 'failed', 'errored', 'cancelled')`);
      const data = { level: "warn", message: reason };
      await appendEvent(transaction, trialId, "trial.note", data, rfc3339(clock.now()));
      await transaction.execute(sql`select pg_notify(${TRIAL_CHANNEL}, ${trialId})`);
    });
  }
}

/** What the gateway tells of a trial becomes events, and the end of its money stops its worker. */
import { sql } from "drizzle-orm";
import type { Database } from "../db/database.ts";
import { readTime, rows } from "../db/rows.ts";
import { type Nanos, TOKEN_UNIT } from "../money.ts";
import { type Clock, type EpochMs, rfc3339 } from "../runtime/clock.ts";
import type { AccountId, CallId, TrialId } from "../runtime/ids.ts";
import { appendEvent, appendEvents, TRIAL_CHANNEL } from "./events.ts";

const QUOTA_PAUSE_MAX = sql`interval '7 days'`;

/** What is told of a call that was forwarded and has ended. */
export interface SettledCall {
  id: CallId;
  trialId: TrialId;
  side: string;
  model: string;
  usage: { inputTokens: number; outputTokens: number };
  costNanos: Nanos;
}

export function createGatewayEvents(db: Database, clock: Clock) {
  return { settled, refused, exhausted, quotaExhausted, threshold };

  async function settled(calls: readonly SettledCall[]): Promise<void> {
    const at = rfc3339(clock.now());
    const events = calls.map((call) => ({
      trialId: call.trialId,
      type: "call.settled" as const,
      at,
      data: {
        call_id: call.id,
        side: call.side,
        model: call.model,
        input_tokens: call.usage.inputTokens,
        output_tokens: call.usage.outputTokens,
        cost_nanos: String(call.costNanos),
      },
    }));
    await appendEvents(db.sql, events);
  }

  async function refused(trialId: TrialId, code: string, message: string): Promise<void> {
    const data = { code, message: message.slice(0, 500) };
    await appendEvent(db.sql, trialId, "call.refused", data, rfc3339(clock.now()));
  }

  /** The worker is told at once: no CLI is relied upon to stop by itself. */
  async function exhausted(
    trialId: TrialId,
    short: {
      unit?: "money" | "tokens";
      budget: AccountId;
      requiredNanos: Nanos;
      availableNanos: Nanos;
    },
  ): Promise<void> {
    const data = {
      account_id: short.budget,
      required_nanos: String(short.requiredNanos),
      available_nanos: String(short.availableNanos),
      ...(short.unit === "tokens" ? { unit: TOKEN_UNIT } : {}),
    };
    await db.sql.transaction(async (transaction) => {
      await transaction.execute(sql`
        update trial set is_budget_exhausted = true
        where id = ${trialId} and state in ('placed', 'running')`);
      await appendEvent(transaction, trialId, "budget.exhausted", data, rfc3339(clock.now()));
      await transaction.execute(sql`select pg_notify(${TRIAL_CHANNEL}, ${trialId})`);
    });
  }

  /**
   * A provider answers nobody until `untilMs`: the worker is stopped, and the trial paused until
   * then. What a provider states is bounded, so that no slip of it pauses a trial for ever.
   */
  async function quotaExhausted(
    trialId: TrialId,
    { provider, untilMs }: { provider: string; untilMs: EpochMs },
  ): Promise<void> {
    const wanted = rfc3339(untilMs);
    const at = rfc3339(clock.now());
    await db.sql.transaction(async (transaction) => {
      // The engine waits by the database's clock, so the bound is by that too.
      const [marked] = await rows<{ resume_at: string }>(
        transaction,
        sql`update trial
          set resume_at = least(${wanted}::timestamptz, clock_timestamp() + ${QUOTA_PAUSE_MAX})
          where id = ${trialId} and state in ('placed', 'running')
            and (resume_at is null or resume_at < ${wanted}::timestamptz)
          returning resume_at`,
      );
      // Calls at once are refused each; one of them is enough to know.
      if (marked === undefined) return;
      const until = rfc3339(readTime(marked.resume_at));
      await appendEvent(transaction, trialId, "quota.exhausted", { provider, until }, at);
      await transaction.execute(sql`select pg_notify(${TRIAL_CHANNEL}, ${trialId})`);
    });
  }

  /** The worker's held heartbeat is answered, so that its agent is told. */
  async function threshold(
    trialId: TrialId,
    percent: number,
    money: { spentNanos: Nanos; fundedNanos: Nanos },
  ): Promise<void> {
    const data = {
      percent,
      spent_nanos: String(money.spentNanos),
      limit_nanos: String(money.fundedNanos),
    };
    await appendEvent(db.sql, trialId, "budget.threshold", data, rfc3339(clock.now()));
    await db.sql.execute(sql`select pg_notify(${TRIAL_CHANNEL}, ${trialId})`);
  }
}

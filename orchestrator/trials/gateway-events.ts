/** What the gateway tells of a trial becomes events, and the end of its money stops its worker. */
import { sql } from "drizzle-orm";
import type { Database } from "../db/database.ts";
import type { Nanos } from "../money.ts";
import { type Clock, rfc3339 } from "../runtime/clock.ts";
import type { AccountId, CallId, TrialId } from "../runtime/ids.ts";
import { appendEvent, TRIAL_CHANNEL } from "./events.ts";

export interface SettledCall {
  callId: CallId;
  side: string;
  model: string;
  inputTokens: number;
  outputTokens: number;
  costNanos: Nanos;
}

export type GatewayEvents = ReturnType<typeof createGatewayEvents>;

export function createGatewayEvents(db: Database, clock: Clock) {
  return { settled, refused, exhausted, threshold };

  async function settled(trialId: TrialId, call: SettledCall): Promise<void> {
    const data = {
      call_id: call.callId,
      side: call.side,
      model: call.model,
      input_tokens: call.inputTokens,
      output_tokens: call.outputTokens,
      cost_nanos: String(call.costNanos),
    };
    await appendEvent(db.sql, trialId, "call.settled", data, rfc3339(clock.now()));
  }

  async function refused(trialId: TrialId, code: string, message: string): Promise<void> {
    const data = { code, message: message.slice(0, 500) };
    await appendEvent(db.sql, trialId, "call.refused", data, rfc3339(clock.now()));
  }

  /** The worker is told at once: no CLI is relied upon to stop by itself. */
  async function exhausted(
    trialId: TrialId,
    money: { budget: AccountId; requiredNanos: Nanos; availableNanos: Nanos },
  ): Promise<void> {
    const data = {
      account_id: money.budget,
      required_nanos: String(money.requiredNanos),
      available_nanos: String(money.availableNanos),
    };
    await db.sql.transaction(async (transaction) => {
      await transaction.execute(sql`
        update trial set is_budget_exhausted = true
        where id = ${trialId} and state in ('placed', 'running')`);
      await appendEvent(transaction, trialId, "budget.exhausted", data, rfc3339(clock.now()));
      await transaction.execute(sql`select pg_notify(${TRIAL_CHANNEL}, ${trialId})`);
    });
  }

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
  }
}

/**
 * Swaps of the loaded model, and who pays for them: the trial whose need began it, which is the one
 * that had waited longest, in line or with a call. Others that waited too pay nothing: without it
 * the swap would have come later, and for the next of them.
 *
 * Invariant: a swap is charged once, never beyond any budget of the trial; what is left uncharged
 * is told with its reason. Until its trial has a budget (it may still be in line) it stays due.
 */
import { sql } from "drizzle-orm";
import { convert, type PriceBook } from "../../models/prices.ts";
import type { Side } from "../contract/agents.ts";
import type { Database, Sql } from "../db/database.ts";
import { readNanos, readTime, rows } from "../db/rows.ts";
import type { InsufficientFunds, Ledger } from "../ledger/ledger.ts";
import { formatNanos, type Nanos } from "../money.ts";
import { type Clock, type EpochMs, rfc3339 } from "../runtime/clock.ts";
import { type AccountId, derivedId, type TransferId, type TrialId } from "../runtime/ids.ts";
import type { Log } from "../runtime/log.ts";

/** Of a transfer that pays for a swap, as statements and exports have it. */
export const SWAP_REASON = "swap";

export interface SwapChargesDeps {
  db: Pick<Database, "sql">;
  /** The ledger inside a transaction. */
  ledgerIn: (transaction: { sql: Sql }) => Pick<Ledger, "reserve" | "settle">;
  /** Who pays for a trial, beside its own budget: enclosing budgets outermost first. */
  payer: (trialId: TrialId) => Promise<SwapPayer>;
  /** Exchange rates, for a plan in another currency than the project's. */
  fx: PriceBook["fx"];
  /** An event of a trial, in the transaction. */
  tell: (
    trialId: TrialId,
    type: "model.swapped",
    data: Record<string, unknown>,
    within: Sql,
  ) => Promise<void>;
  clock: Clock;
  log: Log;
}

export interface SwapPayer {
  within: readonly AccountId[];
  spend: AccountId;
  currency: string;
}

/** Resolved in the same transaction: it is never seen to wait. */
const RESERVED_MS = 600_000;
/** Others spend from the same budgets meanwhile. */
const TRIES_MAX = 5;
const BATCH = 50;

type SwapRow = {
  transfer_id: TransferId;
  trial_id: TrialId;
  pair: string;
  side: Side;
  ended_at: string;
  duration_ms: string;
  gpu_ms: string;
  cost_nanos: string | null;
  currency: string | null;
  charged_nanos: string | null;
  has_trial: boolean;
  has_ended: boolean;
  account_id: AccountId | null;
};

interface Charge {
  chargedNanos: Nanos;
  /** Null: it cannot be said in the project's currency. */
  unchargedNanos: Nanos | null;
  reason: string | null;
}

export function createSwapCharges(deps: SwapChargesDeps) {
  const { db, clock, log } = deps;
  return { settle };

  /** Charges and tells what is due. Idempotent, whoever else does it. How many were told. */
  async function settle(): Promise<number> {
    const due = await rows<SwapRow>(
      db.sql,
      sql`select model_swap.*, trial.id is not null as has_trial,
          trial.ended_at is not null as has_ended, trial.account_id
        from model_swap left join trial on trial.id = model_swap.trial_id
        where told_at is null and (trial.id is null or trial.account_id is not null
          or trial.ended_at is not null or charged_nanos is not null)
        order by model_swap.ended_at limit ${BATCH}`,
    );
    let told = 0;
    for (const swap of due) {
      try {
        if (swap.charged_nanos === null) await charge(swap);
        told += await tellOf(swap);
      } catch (error) {
        log.error({ err: error, trial_id: swap.trial_id }, "a swap was not charged yet");
      }
    }
    return told;
  }

  async function charge(swap: SwapRow): Promise<void> {
    const payer = swap.has_trial ? await deps.payer(swap.trial_id) : null;
    const costNanos = costIn(swap, payer?.currency ?? null);
    await db.sql.transaction(async (transaction) => {
      const mine = await rows(
        transaction,
        sql`select from model_swap where transfer_id = ${swap.transfer_id}
          and charged_nanos is null for update skip locked`,
      );
      if (mine.length === 0) return;
      const made = await pay(deps.ledgerIn({ sql: transaction }), swap, payer, costNanos);
      await transaction.execute(sql`update model_swap
        set charged_nanos = ${made.chargedNanos}::bigint,
          uncharged_nanos = ${made.unchargedNanos}::bigint, uncharged_reason = ${made.reason}
        where transfer_id = ${swap.transfer_id}`);
    });
  }

  /** Apart from the money: events wait for each other, and must hold no budget meanwhile. */
  async function tellOf({ transfer_id: id, trial_id: trialId, ...swap }: SwapRow): Promise<number> {
    const currency = swap.has_trial ? (await deps.payer(trialId)).currency : null;
    return db.sql.transaction(async (transaction) => {
      const [made] = await rows<{
        charged_nanos: string;
        uncharged_nanos: string | null;
        uncharged_reason: string | null;
      }>(
        transaction,
        sql`update model_swap set told_at = ${rfc3339(clock.now())}
          where transfer_id = ${id} and told_at is null and charged_nanos is not null
          returning charged_nanos, uncharged_nanos, uncharged_reason`,
      );
      if (made === undefined) return 0;
      const { pair, side } = swap;
      const facts = {
        ...{ pair, side, transfer_id: id },
        ...{ duration_ms: Number(swap.duration_ms), gpu_ms: Number(swap.gpu_ms), currency },
        charged_nanos: made.charged_nanos,
        ...(made.uncharged_reason === null
          ? {}
          : { uncharged_nanos: made.uncharged_nanos, uncharged_reason: made.uncharged_reason }),
      };
      await deps.tell(trialId, "model.swapped", facts, transaction);
      return 1;
    });
  }

  function costIn(swap: SwapRow, currency: string | null): Nanos | null {
    if (swap.cost_nanos === null || swap.currency === null || currency === null) return null;
    const nanos = readNanos(swap.cost_nanos);
    return inCurrency(deps.fx, nanos, swap.currency, currency, readTime(swap.ended_at));
  }
}

/** Reserves at most what every budget of the path has, and posts it. */
async function pay(
  ledger: Pick<Ledger, "reserve" | "settle">,
  swap: SwapRow,
  payer: SwapPayer | null,
  costNanos: Nanos | null,
): Promise<Charge> {
  const none = (reason: string): Charge => {
    return { chargedNanos: 0n, unchargedNanos: costNanos, reason };
  };
  if (payer === null) return none("its trial is gone");
  if (swap.cost_nanos === null) return none("the plan of its pair has no price");
  if (costNanos === null) {
    return none(`no exchange rate gives ${swap.currency} in ${payer.currency}`);
  }
  if (costNanos === 0n) return { chargedNanos: 0n, unchargedNanos: 0n, reason: null };
  if (swap.account_id === null) return none("the trial ended before it had a budget");
  const { within, spend, currency } = payer;
  const reservation = { id: swap.transfer_id, budget: swap.account_id, within, spend };
  let amountNanos = costNanos;
  let short: InsufficientFunds | null = null;
  for (let tries = 0; tries < TRIES_MAX; tries++) {
    const held = await ledger.reserve({ ...reservation, amountNanos, timeoutMs: RESERVED_MS });
    if (held.outcome === "insufficient_funds") {
      short = held;
      if (held.availableNanos <= 0n) break;
      amountNanos = held.availableNanos;
      continue;
    }
    if (held.outcome !== "reserved") throw new Error(`a swap was not reserved: ${held.outcome}`);
    const id = derivedId("transfer", "swap.post", swap.transfer_id);
    const post = { id, pendingId: swap.transfer_id, amountNanos, reason: SWAP_REASON };
    const { outcome } = await ledger.settle(post);
    if (outcome !== "settled") throw new Error(`a swap was not posted: ${outcome}`);
    const unchargedNanos = costNanos - amountNanos;
    const reason = short === null ? null : tellShort(short, swap.account_id, currency);
    return { chargedNanos: amountNanos, unchargedNanos, reason };
  }
  return none(short === null ? "its budget changed" : tellShort(short, swap.account_id, currency));
}

function tellShort(
  { budget, availableNanos }: InsufficientFunds,
  own: AccountId,
  currency: string,
): string {
  const whose = budget === own ? "the trial's budget" : "a budget that encloses the trial's";
  const left = availableNanos > 0n ? formatNanos(availableNanos, currency) : "nothing";
  return `${whose} had ${left} left`;
}

/** By the newest rate in force then, rounded up; null where there is none. Pure. */
export function inCurrency(
  fx: PriceBook["fx"],
  nanos: Nanos,
  from: string,
  to: string,
  atMs: EpochMs,
): Nanos | null {
  if (from === to) return nanos;
  const [rate] = fx
    .filter((row) => row.from === from && row.to === to && row.effectiveFromMs <= atMs)
    .toSorted((one, other) => other.effectiveFromMs - one.effectiveFromMs);
  return rate === undefined ? null : convert(nanos, rate);
}

/** How fast budgets are used, and when they will be used up if that goes on. */
import { sql } from "drizzle-orm";
import type { BurnRate } from "../contract/budgets.ts";
import type { Sql } from "../db/database.ts";
import { readNanos, readTime, rows } from "../db/rows.ts";
import type { Nanos } from "../money.ts";
import { type EpochMs, rfc3339 } from "../runtime/clock.ts";
import type { AccountId } from "../runtime/ids.ts";

export interface Spending {
  lastHourNanos: Nanos;
  lastDayNanos: Nanos;
  /** The first settlement within the last day; null when there was none. */
  firstAtMs: EpochMs | null;
}

const HOUR_MS = 3_600_000;
const DAY_MS = 24 * HOUR_MS;
/** Less than this since the first settlement is no pace: a first call says nothing of the next. */
const HISTORY_MS_MIN = 10 * 60_000;
/** A projection further away than this is no use to anyone. */
const HORIZON_MS = 3_650 * DAY_MS;

export const NO_SPENDING: Spending = { lastHourNanos: 0n, lastDayNanos: 0n, firstAtMs: null };

/**
 * The projection: what is available, over the pace of the last hour, or of the last day where the
 * last hour was quiet. Pure.
 *
 * @param endsAtMs when a day's budget ends anyway.
 */
export function projectBurn(
  { lastHourNanos, lastDayNanos, firstAtMs }: Spending,
  budget: { availableNanos: Nanos; isLimited: boolean },
  now: EpochMs,
  endsAtMs: EpochMs | null = null,
): BurnRate {
  const burn = {
    last_hour_nanos: textOf(lastHourNanos),
    last_day_nanos: textOf(lastDayNanos),
    exhausted_at: null,
    lasts_the_day: false,
  };
  const { availableNanos, isLimited } = budget;
  const isDay = endsAtMs !== null;
  if (!isLimited) return { ...burn, basis: "not_limited" };
  if (availableNanos <= 0n) return { ...burn, basis: "exhausted" };
  if (firstAtMs === null || lastDayNanos <= 0n) {
    return { ...burn, basis: "not_spending", lasts_the_day: isDay };
  }
  const historyMs = now - firstAtMs;
  if (historyMs < HISTORY_MS_MIN) return { ...burn, basis: "not_enough_history" };
  const basis = lastHourNanos > 0n ? "last_hour" : "last_day";
  const spentNanos = basis === "last_hour" ? lastHourNanos : lastDayNanos;
  const spanMs = Math.min(historyMs, basis === "last_hour" ? HOUR_MS : DAY_MS);
  const leftMs = (availableNanos * BigInt(Math.round(spanMs))) / spentNanos;
  if (leftMs > BigInt(HORIZON_MS)) return { ...burn, basis, lasts_the_day: isDay };
  const atMs = now + Number(leftMs);
  const exhausted_at = rfc3339(atMs);
  return { ...burn, basis, exhausted_at, lasts_the_day: isDay && atMs >= endsAtMs };
}

/** What each of `budgets` spent in the hour and the day before `now`, less what was given back. */
export async function readSpending(
  db: Sql,
  budgets: readonly AccountId[],
  currencies: readonly string[],
  now: EpochMs,
): Promise<Map<AccountId, Spending>> {
  const found = await rows<{ id: AccountId; hour: string; day: string; first_at: string }>(
    db,
    sql`
      with spending as (
        select id from account where kind = 'spend' and currency = any(${sql.param(currencies)})
      ), posting as (
        select unnest(within || debit_account_id) as account_id, amount_nanos, created_at
        from transfer
        where kind = 'post' and credit_account_id in (select id from spending)
          and created_at > ${rfc3339(now - DAY_MS)} and created_at <= ${rfc3339(now)}
        union all
        select unnest(within || credit_account_id), -amount_nanos, created_at
        from transfer
        where kind = 'direct' and reverses_id is not null
          and debit_account_id in (select id from spending)
          and created_at > ${rfc3339(now - DAY_MS)} and created_at <= ${rfc3339(now)}
      )
      select account_id as id, sum(amount_nanos)::text as day, min(created_at) as first_at,
        coalesce(sum(amount_nanos) filter (
          where created_at > ${rfc3339(now - HOUR_MS)}), 0)::text as hour
      from posting where account_id = any(${sql.param(budgets)})
      group by account_id`,
  );
  return new Map(
    found.map(({ id, hour, day, first_at }) => [
      id,
      {
        lastHourNanos: readNanos(hour),
        lastDayNanos: readNanos(day),
        firstAtMs: readTime(first_at),
      },
    ]),
  );
}

/** More may have been given back in a while than was spent in it. */
function textOf(nanos: Nanos): string {
  return String(nanos < 0n ? 0n : nanos);
}

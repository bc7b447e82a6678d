/**
 * Day budgets: a project's daily allowance is a budget of its own for each calendar day in the
 * project's time zone, an enclosing budget of the day's calls; so is its daily token allowance.
 *
 * What is left of a day lapses at midnight, because the next call reserves from the next day's.
 * Where the project carries over, the next day is given the rest, up to a cap: computed once, when
 * that day is opened, and at that moment taken from the day before. Days on which nobody opened
 * anything were unspent, so they carry too. A reservation that is still open then counts as spent.
 *
 * Invariant: a day's budget is never seen unfunded, and is funded once, by whomever.
 */
import { sql } from "drizzle-orm";
import type { Database, Sql } from "../db/database.ts";
import { readNanos, rows } from "../db/rows.ts";
import type { Ledger } from "../ledger/ledger.ts";
import type { Nanos } from "../money.ts";
import { type Clock, type EpochMs, localDate } from "../runtime/clock.ts";
import {
  type AccountId,
  derivedId,
  type Ids,
  type ProjectId,
  type TransferId,
} from "../runtime/ids.ts";
import { recordEvent } from "./budget-events.ts";
import { addDays, daysBetween, type LocalDate, startOfDate } from "./calendar.ts";

export interface Day {
  projectId: ProjectId;
  /** IANA name: "America/Toronto". */
  timeZone: string;
  currency: string;
  /** Null: the project's days have no limit. */
  allowanceNanos: Nanos | null;
  /** At most so much of the day before is added. */
  carryOverNanos: Nanos;
  /** Tokens; null: no limit. */
  tokenAllowance: bigint | null;
}

export interface Days {
  /**
   * The budget of the day that it is now, opened and funded the first time; null where the
   * project has no allowance (any more). An allowance raised during the day counts at once, a
   * lowered one from the next day.
   */
  dayAccount(day: Day): Promise<AccountId | null>;
  /** The same, of the daily token allowance. */
  tokenDayAccount(day: Day): Promise<AccountId | null>;
}

export interface DaysDependencies {
  db: Pick<Database, "sql">;
  /** The ledger inside a transaction. */
  ledgerIn: (transaction: { sql: Sql }) => Pick<Ledger, "open" | "fund" | "balance" | "reverse">;
  ids: Ids;
  clock: Clock;
}

/** One kind of day budget of a project, and what it is given. */
interface Allowance {
  /** All its days' owners begin with it: "day/<project>/". */
  prefix: string;
  /** Names its transfers. */
  key: "day" | "tokens.day";
  projectId: ProjectId;
  timeZone: string;
  currency: string;
  amount: bigint;
  carryMax: bigint;
}

interface Known {
  timeZone: string;
  amount: bigint;
  account: AccountId;
  fromMs: EpochMs;
  untilMs: EpochMs;
}

export function createDays(dependencies: DaysDependencies): Days {
  const { clock } = dependencies;
  /** By prefix: the last day that was seen to be funded. */
  const known = new Map<string, Known>();
  return {
    dayAccount: async ({ projectId, timeZone, currency, allowanceNanos, carryOverNanos }) => {
      if (allowanceNanos === null) return null;
      const shape = { prefix: `day/${projectId}/`, key: "day", projectId, timeZone } as const;
      return current({ ...shape, currency, amount: allowanceNanos, carryMax: carryOverNanos });
    },
    tokenDayAccount: async ({ projectId, timeZone, tokenAllowance }) => {
      if (tokenAllowance === null) return null;
      const prefix = `tokens/day/${projectId}/`;
      const shape = { prefix, key: "tokens.day", projectId, timeZone } as const;
      return current({ ...shape, currency: "TOK", amount: tokenAllowance, carryMax: 0n });
    },
  };

  async function current(allowance: Allowance): Promise<AccountId> {
    const { prefix, timeZone, amount } = allowance;
    const now = clock.now();
    const last = known.get(prefix);
    const isToday = last !== undefined && last.fromMs <= now && now < last.untilMs;
    // In another time zone the day that now is may be another, as in every other process.
    if (isToday && last.timeZone === timeZone && last.amount >= amount) return last.account;
    const inZone = (atMs: EpochMs) => localDate(atMs, timeZone);
    const date = inZone(now);
    const account = await openFunded(dependencies, allowance, date);
    const fromMs = startOfDate(date, inZone);
    const untilMs = startOfDate(addDays(date, 1), inZone);
    known.set(prefix, { timeZone, amount, account, fromMs, untilMs });
    return account;
  }
}

/** All in one transaction: what is there is funded. */
async function openFunded(
  { db, ledgerIn, ids, clock }: DaysDependencies,
  allowance: Allowance,
  date: LocalDate,
): Promise<AccountId> {
  const { prefix, key, projectId, currency, amount } = allowance;
  return db.sql.transaction(async (transaction) => {
    const ledger = ledgerIn({ sql: transaction });
    const open = (kind: "funding" | "budget", owner: string) => {
      const mustNotExceed = kind === "budget";
      return ledger.open({ id: ids.next("account"), kind, owner, currency, mustNotExceed });
    };
    const funding = await open("funding", `organisation/${currency}`);
    const account = await open("budget", `${prefix}${date}`);
    // One at a time from here: the others wait, and then find what this one gave.
    await transaction.execute(
      sql`select pg_advisory_xact_lock(hashtextextended(${`${prefix}${date}`}, 0))`,
    );
    const given = await allowanceGiven(transaction, account);
    if (given === null) {
      const opening = { transaction, ledger, now: clock.now() };
      await carryOver(opening, allowance, date, { funding, account });
    }
    if (given === null || given < amount) {
      await ledger.fund({
        id: derivedId("transfer", key, projectId, date, String(given ?? 0n)),
        from: funding,
        to: account,
        amountNanos: amount - (given ?? 0n),
        reason: "allowance",
      });
      await recordEvent(transaction, { account, kind: "replenished", now: clock.now() });
    }
    return account;
  });
}

interface Opening {
  transaction: Sql;
  ledger: Pick<Ledger, "fund" | "balance" | "reverse">;
  now: EpochMs;
}

/** Gives the day what the one before it left, and tells what has lapsed of that. */
async function carryOver(
  { transaction, ledger, now }: Opening,
  allowance: Allowance,
  date: LocalDate,
  { funding, account }: { funding: AccountId; account: AccountId },
): Promise<void> {
  const { prefix, key, projectId, amount, carryMax } = allowance;
  const before = await lastDay(transaction, prefix, date);
  if (before === null) return;
  // Held until the rest is the new day's: nobody spends it meanwhile. In the order of all others.
  await transaction.execute(sql`
    select from account where id in (${before.account}, ${funding}, ${account})
    order by id for no key update`);
  const balance = await ledger.balance(before.account);
  if (balance === null) throw new Error("a day's account is gone");
  const skippedDays = daysBetween(before.date, date) - 1;
  const carried = carriedOver({
    restNanos: balance.availableNanos,
    skippedDays,
    allowanceNanos: amount,
    capNanos: carryMax,
  });
  if (carried > 0n) {
    const taken = lesser(carried, balance.availableNanos);
    await takeBack({ transaction, ledger, now }, before.account, taken);
    const id = derivedId("transfer", `${key}.carry`, projectId, date);
    const funded = { id, from: funding, to: account, amountNanos: carried };
    await ledger.fund({ ...funded, reason: "carry_over", note: `from ${before.date}` });
  }
  if (balance.availableNanos <= carried) return;
  await recordEvent(transaction, { account: before.account, kind: "lapsed", now });
}

/** Reverses what the day was given, so that nobody whose clock is late spends it there as well. */
async function takeBack(
  { transaction, ledger }: Opening,
  account: AccountId,
  amount: bigint,
): Promise<void> {
  const given = await rows<{ id: TransferId; amount_nanos: string }>(
    transaction,
    sql`select id, amount_nanos from transfer
      where credit_account_id = ${account} and kind = 'direct' and reverses_id is null
      order by seq desc`,
  );
  let left = amount;
  for (const transfer of given) {
    const amountNanos = lesser(left, readNanos(transfer.amount_nanos));
    if (amountNanos === 0n) continue;
    const id = derivedId("transfer", "carried", transfer.id);
    const reversal = { id, transferId: transfer.id, amountNanos, note: "carried into a later day" };
    const { outcome } = await ledger.reverse(reversal);
    if (outcome !== "reversed") throw new Error(`a day's rest was not taken back: ${outcome}`);
    left -= amountNanos;
  }
}

/**
 * What a day is given of those before it. Of the days that nobody opened, all is left; each one
 * carries at most the cap, so that of them and the last opened day together no more than it does.
 */
export function carriedOver(days: {
  restNanos: Nanos;
  skippedDays: number;
  allowanceNanos: Nanos;
  capNanos: Nanos;
}): Nanos {
  const left = days.restNanos + BigInt(days.skippedDays) * days.allowanceNanos;
  return lesser(left, days.capNanos);
}

function lesser(a: bigint, b: bigint): bigint {
  if (a < b) return a;
  return b;
}

/**
 * The last day before `date` that was opened. None where a later day was: then the clock was set
 * back, and what was left of earlier days is the later one's already.
 */
async function lastDay(
  db: Sql,
  prefix: string,
  date: LocalDate,
): Promise<{ account: AccountId; date: LocalDate } | null> {
  const [row] = await rows<{ id: AccountId; date: string }>(
    db,
    sql`select id, right(owner, 10) as date from account
      where kind = 'budget' and starts_with(owner, ${prefix}) and right(owner, 10) <> ${date}
      order by right(owner, 10) collate "C" desc limit 1`,
  );
  return row === undefined || row.date > date ? null : { account: row.id, date: row.date };
}

/** Null before the day was ever given anything. */
async function allowanceGiven(db: Sql, account: AccountId): Promise<bigint | null> {
  const [row] = await rows<{ amount: string | null }>(
    db,
    sql`select sum(amount_nanos)::text as amount from transfer
      where credit_account_id = ${account} and kind = 'direct' and reason = 'allowance'`,
  );
  return row?.amount === null || row === undefined ? null : readNanos(row.amount);
}

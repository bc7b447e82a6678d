/** A paused trial goes on: only once what stopped it would not stop it again at once. */
import { sql } from "drizzle-orm";
import type { Balance } from "../contract/money.ts";
import type { Database } from "../db/database.ts";
import type { Ledger } from "../ledger/ledger.ts";
import { TOKEN_UNIT } from "../money.ts";
import { Problem } from "../problem.ts";
import type { Projects } from "../projects/projects.ts";
import { type Clock, localDate, rfc3339 } from "../runtime/clock.ts";
import type { TrialId } from "../runtime/ids.ts";
import { findTrial } from "./rows.ts";
import { lastShortage, type Shortage, tellShortage } from "./shortage.ts";
import { queueAgain } from "./transitions.ts";

export interface ResumeDependencies {
  db: Database;
  ledger: Pick<Ledger, "balance">;
  projects: Pick<Projects, "get">;
  clock: Clock;
}

/**
 * Queues a paused trial again, whatever it waits for.
 *
 * @throws Problem `not_found`, `conflict` when it is not paused, or `budget_exceeded`.
 */
export async function resumeTrial(dependencies: ResumeDependencies, id: TrialId): Promise<void> {
  const { db, clock } = dependencies;
  const row = await findTrial(db.sql, id);
  if (row === null) throw new Problem("not_found", `There is no trial ${id}`);
  if (row.state !== "paused") {
    throw new Problem("conflict", `The trial is ${row.state}; only a paused one can be resumed`);
  }
  // A provider's quota may be back before it said so: that is for the person to know.
  const shortage = row.resume_at === null ? await lastShortage(db.sql, id) : null;
  const today = await openDay(dependencies.projects, shortage);
  const detail = shortage === null ? null : await stillShort(dependencies, shortage, today);
  if (detail !== null) throw new Problem("budget_exceeded", detail);
  const at = rfc3339(clock.now());
  await db.sql.transaction(async (transaction) => {
    if (!(await queueAgain(transaction, id, at))) return;
    await transaction.execute(sql`
      update approval set state = 'granted', resolved_at = ${at}
      where trial_id = ${id} and state = 'open' and kind = 'budget'`);
  });
}

/**
 * The day that now is, opened as the project's file has it; null where no day was short, or the
 * project has no allowance (any more). Never inside a transaction: whoever opens a day waits for
 * the accounts that the transaction holds.
 */
export async function openDay(
  projects: ResumeDependencies["projects"],
  shortage: Shortage | null,
): Promise<Balance | null> {
  if (shortage === null || shortage.day === null) return null;
  return (await projects.get(shortage.project)).today;
}

/**
 * Why the budget that ended the trial would refuse the same call again; null: it would not.
 *
 * @param ledger where the balance is read: a transaction's own sees what was funded in it.
 * @param today what `openDay` answered.
 */
export async function stillShort(
  { ledger, clock }: Pick<ResumeDependencies, "ledger" | "clock">,
  shortage: Shortage,
  today: Balance | null,
): Promise<string | null> {
  if (shortage.day !== null && !isToday(shortage, clock)) {
    if (today === null || shortage.currency === TOKEN_UNIT) return null;
    return tellShortage(shortage, BigInt(today.available_nanos));
  }
  const balance = await ledger.balance(shortage.account);
  return balance === null ? null : tellShortage(shortage, balance.availableNanos);
}

/** Whether more money for the budget that was short is of any use: not for one of a past day. */
export function isToday({ day }: Shortage, clock: Clock): boolean {
  return day === null || day.date === localDate(clock.now(), day.timeZone);
}

/**
 * Day budgets: a project's daily allowance is a budget of its own for each calendar day in the
 * project's time zone, an enclosing budget of the day's calls. What is left of it lapses at
 * midnight, because the next call reserves from the next day's.
 */
import type { Ledger } from "../ledger/ledger.ts";
import type { Nanos } from "../money.ts";
import { type Clock, localDate } from "../runtime/clock.ts";
import { type AccountId, derivedId, type Ids, type ProjectId } from "../runtime/ids.ts";

export interface Day {
  projectId: ProjectId;
  /** IANA name: "America/Toronto". */
  timeZone: string;
  currency: string;
  allowanceNanos: Nanos;
}

export interface Days {
  /**
   * The budget of the day that it is now, opened and funded the first time. An allowance raised
   * during the day counts at once, a lowered one from the next day.
   */
  dayAccount(day: Day): Promise<AccountId>;
}

export function createDays(ledger: Ledger, ids: Ids, clock: Clock): Days {
  /** By project: the last day that was seen to be funded. */
  const known = new Map<ProjectId, { date: string; allowanceNanos: Nanos; account: AccountId }>();
  return { dayAccount };

  async function dayAccount(day: Day): Promise<AccountId> {
    const { projectId, timeZone, allowanceNanos } = day;
    const date = localDate(clock.now(), timeZone);
    const last = known.get(projectId);
    if (last?.date === date && last.allowanceNanos >= allowanceNanos) return last.account;
    const account = await openFunded(day, date);
    known.set(projectId, { date, allowanceNanos, account });
    return account;
  }

  async function openFunded(day: Day, date: string): Promise<AccountId> {
    const { projectId, currency, allowanceNanos } = day;
    const open = (kind: "funding" | "budget", owner: string) =>
      ledger.open({
        id: ids.next("account"),
        kind,
        owner,
        currency,
        mustNotExceed: kind === "budget",
      });
    const [funding, account] = await Promise.all([
      open("funding", `organisation/${currency}`),
      open("budget", `day/${projectId}/${date}`),
    ]);
    for (;;) {
      const balance = await ledger.balance(account);
      if (balance === null) throw new Error("a day's account is gone");
      const { fundedNanos } = balance;
      if (fundedNanos >= allowanceNanos) return account;
      // The id says from what the day is raised: of all who raise it at once, one does. The
      // others look again.
      const id = derivedId("transfer", "day", projectId, date, String(fundedNanos));
      const amountNanos = allowanceNanos - fundedNanos;
      await ledger.fund({ id, from: funding, to: account, amountNanos, reason: "allowance" });
    }
  }
}

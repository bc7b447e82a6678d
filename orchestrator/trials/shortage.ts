/** Which budget ended a trial, by how much it was short, and what a person can do about it. */
import { sql } from "drizzle-orm";
import type { Sql } from "../db/database.ts";
import { rows } from "../db/rows.ts";
import { formatNanos, type Nanos, TOKEN_UNIT } from "../money.ts";
import type { AccountId, TrialId } from "../runtime/ids.ts";

export interface Shortage {
  trialId: TrialId;
  project: string;
  /** `organisation` is the one above every project. */
  level: "trial" | "day" | "project" | "organisation";
  account: AccountId;
  /** Of a day's budget, which day of the project's time zone; else null. */
  day: { date: string; timeZone: string } | null;
  currency: string;
  requiredNanos: Nanos;
  /** What was left when the gateway refused. */
  availableNanos: Nanos;
}

/** What the gateway last refused for want of money; null when it never did. */
export async function lastShortage(db: Sql, trialId: TrialId): Promise<Shortage | null> {
  const [last] = await rows<{
    account: AccountId;
    owner: string;
    currency: string;
    project: string;
    time_zone: string;
    required: string;
    available: string;
  }>(
    db,
    sql`select account.id as account, account.owner, account.currency, project.name as project,
        project.time_zone, event.data ->> 'required_nanos' as required, event.data ->> 'available_nanos' as available
      from event
      join account on account.id = event.data ->> 'account_id'
      join trial on trial.id = event.trial_id
      join project on project.id = trial.project_id
      where event.trial_id = ${trialId} and event.type = 'budget.exhausted'
      order by event.seq desc limit 1`,
  );
  if (last === undefined) return null;
  const [level, , date = ""] = last.owner.replace(/^tokens[/]/, "").split("/");
  return {
    trialId,
    project: last.project,
    level: level as Shortage["level"],
    account: last.account,
    day: level === "day" ? { date, timeZone: last.time_zone } : null,
    currency: last.currency,
    requiredNanos: BigInt(last.required),
    availableNanos: BigInt(last.available),
  };
}

/** One sentence for a person, with the first step to more money; null when there is enough now. */
export function tellShortage(shortage: Shortage, availableNanos: Nanos): string | null {
  const { trialId, project, level, currency, requiredNanos } = shortage;
  const missing = requiredNanos - availableNanos;
  if (missing <= 0n) return null;
  const short = `${formatNanos(missing, currency)} short of the next call`;
  if (currency === TOKEN_UNIT) {
    const whose = level === "trial" ? "trial's" : `${level}'s`;
    return `The ${whose} budget of tokens is ${short}; first: autocode approval ls`;
  }
  switch (level) {
    case "trial":
      return `The trial's budget is ${short}; first: autocode budget topup ${trialId} <amount>`;
    case "day":
      return (
        `The day's allowance of ${project} is ${short}; first: raise daily_allowance in its file ` +
        "and autocode project apply it, or wait for the next day"
      );
    case "project":
      return `The project's budget is ${short}; first: autocode budget topup ${project} <amount>`;
    case "organisation":
      return `The organisation's budget is ${short}; first: fund it`;
  }
}

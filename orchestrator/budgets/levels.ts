/** A budget with all that enclose it: organisation, project, day, trial, and the same in tokens. */
import { sql } from "drizzle-orm";
import { ALERT_PERCENTS, type BudgetLevel, type BudgetScope } from "../contract/budgets.ts";
import type { ProjectFile } from "../contract/projects.ts";
import type { Sql } from "../db/database.ts";
import { rows } from "../db/rows.ts";
import type { AccountBalance, Ledger } from "../ledger/ledger.ts";
import { TOKEN_UNIT } from "../money.ts";
import { toBalance } from "../projects/projects.ts";
import type { EpochMs } from "../runtime/clock.ts";
import type { AccountId, ProjectId, TrialId } from "../runtime/ids.ts";
import { NO_SPENDING, projectBurn, readSpending } from "./burn.ts";

/** Which budget, when, and when its day ends. */
export interface Wanted {
  project: { id: ProjectId; currency: string; config: ProjectFile };
  trialId: TrialId | null;
  date: string;
  dayEndsAtMs: EpochMs;
  now: EpochMs;
  /** Whether `now` is a time of the past, to be recomputed. */
  isPast: boolean;
}

/** Outermost first, money before tokens; those alone that were opened. */
export async function readLevels(
  db: Sql,
  ledger: Pick<Ledger, "balance" | "balanceAt">,
  wanted: Wanted,
): Promise<BudgetLevel[]> {
  const { project, now } = wanted;
  const found = await findAccounts(db, wanted);
  const balances = await Promise.all(
    found.map(({ id }) => (wanted.isPast ? ledger.balanceAt(id, now) : ledger.balance(id))),
  );
  const currencies = [project.currency, TOKEN_UNIT];
  const ids = found.map(({ id }) => id);
  const spending = await readSpending(db, ids, currencies, now);
  return found.flatMap((account, index) => {
    const balance = balances[index];
    if (balance === null || balance === undefined) return [];
    const scope = scopeOf(account.owner);
    const isLimited = account.must_not_exceed;
    const alerts = alertsOf(project.config);
    const burn = projectBurn(
      spending.get(account.id) ?? NO_SPENDING,
      { availableNanos: balance.availableNanos, isLimited },
      now,
      scope === "day" ? wanted.dayEndsAtMs : null,
    );
    const shared = { scope, owner: account.owner, is_limited: isLimited, alerts, burn };
    return [{ ...shared, balance: toBalance(balance), passed: passedOf(balance, alerts) }];
  });
}

/** The percents of `alerts` that what was spent has reached of what was funded. */
export function passedOf(
  { fundedNanos, spentNanos }: Pick<AccountBalance, "fundedNanos" | "spentNanos">,
  alerts: readonly number[],
): number[] {
  if (fundedNanos <= 0n) return [];
  return alerts.filter((percent) => spentNanos * 100n >= BigInt(percent) * fundedNanos);
}

export function alertsOf(config: ProjectFile): number[] {
  return [...(config.budget.alerts ?? ALERT_PERCENTS)].sort((a, b) => a - b);
}

/** How far the budget of this owner reaches: "tokens/day/project_…/2026-11-21" is a day's. */
export function scopeOf(owner: string): BudgetScope {
  const [first, second] = owner.split("/");
  return (first === "tokens" ? second : first) as BudgetScope;
}

async function findAccounts(
  db: Sql,
  { project, trialId, date }: Wanted,
): Promise<{ id: AccountId; owner: string; must_not_exceed: boolean }[]> {
  const own = [`project/${project.id}`, `day/${project.id}/${date}`];
  if (trialId !== null) own.push(`trial/${trialId}`);
  const owners = [
    `organisation/${project.currency}`,
    ...own,
    ...own.map((owner) => `tokens/${owner}`),
  ];
  return rows(
    db,
    sql`select id, owner, must_not_exceed from account
      where kind = 'budget' and owner = any(${sql.param(owners)}::text[])
      order by array_position(${sql.param(owners)}::text[], owner)`,
  );
}

/** When a budget's spending passes a mark: each mark once, until a top-up brings it back below. */
import { ALERT_PERCENTS } from "../../orchestrator/contract/budgets.ts";
import type { BudgetBalance } from "../../orchestrator/ledger/ledger.ts";
import type { Nanos } from "../../orchestrator/money.ts";
import type { AccountId } from "../../orchestrator/runtime/ids.ts";

const BUDGETS_MAX = 10_000;

export interface Thresholds {
  /** The marks passed since the last look at this budget, lowest first. */
  passed(accountId: AccountId, balance: BudgetBalance, costNanos: Nanos): number[];
}

export function createThresholds(): Thresholds {
  /** By account, the highest percentage since it was last funded. */
  const last = new Map<AccountId, { fundedNanos: Nanos; percent: number }>();
  return { passed };

  function passed(accountId: AccountId, balance: BudgetBalance, costNanos: Nanos): number[] {
    const { fundedNanos, spentNanos } = balance;
    const now = percent(spentNanos, fundedNanos);
    const known = last.get(accountId);
    const isSame = known !== undefined && known.fundedNanos === fundedNanos;
    const before = isSame
      ? known.percent
      : percent(spentNanos - costNanos, known?.fundedNanos ?? fundedNanos);
    last.delete(accountId);
    // Calls that end together may be looked at out of order.
    last.set(accountId, { fundedNanos, percent: isSame ? Math.max(before, now) : now });
    const [oldest] = last.keys();
    if (last.size > BUDGETS_MAX && oldest !== undefined) last.delete(oldest);
    return ALERT_PERCENTS.filter((mark) => before < mark && mark <= now);
  }
}

function percent(spentNanos: Nanos, fundedNanos: Nanos): number {
  if (fundedNanos <= 0n) return spentNanos > 0n ? 100 : 0;
  return Number((spentNanos * 100n) / fundedNanos);
}

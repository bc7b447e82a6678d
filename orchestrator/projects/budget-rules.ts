/** What must hold between the parts of a project's budget, beyond its schema. Pure. */
import type { ProjectFile } from "../contract/projects.ts";
import { formatNanos, parseUnits } from "../money.ts";
import { type EpochMs, localDate } from "../runtime/clock.ts";
import { datesUntil, doCollide, isDate } from "./calendar.ts";

export interface BudgetFault {
  /** Below `budget`. */
  path: string[];
  message: string;
}

export function budgetFaults(budget: ProjectFile["budget"]): BudgetFault[] {
  const { total, daily_allowance, per_trial, carry_over, top_ups = [] } = budget;
  const faults: BudgetFault[] = [];
  const amounts = [
    ...Object.entries({ total, daily_allowance, per_trial, carry_over }),
    ...top_ups.map(({ amount }, index) => [`top_ups.${index}.amount`, amount] as const),
  ];
  for (const [name, amount] of amounts) {
    if (amount === undefined || parseUnits(amount) !== null) continue;
    faults.push({ path: name.split("."), message: `${amount} is too much` });
  }
  if (carry_over !== undefined && daily_allowance === undefined) {
    const message =
      "nothing carries over without a budget.daily_allowance; set one, or leave it out";
    faults.push({ path: ["carry_over"], message });
  }
  for (const [index, topUp] of top_ups.entries()) {
    const path = ["top_ups", String(index)];
    if (!isDate(topUp.starting)) {
      const message = `there is no day ${topUp.starting}; use one such as 2026-11-01`;
      faults.push({ path: [...path, "starting"], message });
      continue;
    }
    const other = top_ups.slice(0, index).findIndex((earlier) => doCollide(earlier, topUp));
    if (other === -1) continue;
    const message = `falls on days of budget.top_ups.${other}; make one of the two, of both amounts`;
    faults.push({ path, message });
  }
  const { tokens } = budget;
  if (tokens !== undefined && tokens.per_trial > tokens.total) {
    faults.push({ path: ["tokens", "per_trial"], message: "is more than budget.tokens.total" });
  }
  return faults;
}

/** Dates in the past that a new schedule may fund at once; more is a mistyped year. */
const CATCH_UP_MAX = 60;

/** What may not become of a project's budget, `known` being its file so far, if it has one. */
export function budgetChangeFault(
  file: ProjectFile,
  known: ProjectFile | null,
  now: EpochMs,
): BudgetFault | null {
  const { budget, currency } = file;
  const before = known?.budget;
  if (before !== undefined && units(budget.total) < units(before.total)) {
    const was = formatNanos(units(before.total), currency);
    return { path: ["total"], message: `must not be less than before (${was})` };
  }
  if (before?.tokens !== undefined && budget.tokens !== undefined) {
    const was = before.tokens.total;
    const message = `must not be less than before (${was})`;
    if (budget.tokens.total < was) return { path: ["tokens", "total"], message };
  }
  const today = localDate(now, file.time_zone ?? "UTC");
  // Where one schedule becomes another, the dates that are over have been funded by the one before.
  const pastMax = (before?.top_ups ?? []).length > 0 ? 0 : CATCH_UP_MAX;
  for (const [index, entry] of (budget.top_ups ?? []).entries()) {
    const isKnown = before?.top_ups?.some(
      ({ every, starting }) => every === entry.every && starting === entry.starting,
    );
    const past = isKnown === true ? 0 : datesUntil(entry, today).length;
    if (past <= pastMax) continue;
    const message = `${entry.starting} would fund ${past} past dates at once; use a later day`;
    return { path: ["top_ups", String(index), "starting"], message };
  }
  return null;
}

function units(text: string): bigint {
  return parseUnits(text) ?? 0n;
}

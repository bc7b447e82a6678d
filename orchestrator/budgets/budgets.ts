/** The budgets port: what people ask of money. */
import type {
  AdherenceReport,
  Budget,
  BudgetEventList,
  BudgetReport,
  CostGrouping,
  CostReport,
  Income,
  ProfitReport,
  Statement,
  TopUp,
} from "../contract/budgets.ts";

export interface Page {
  limit: number;
  /** The cursor that the page before this one ended with. */
  before?: string;
}

export interface Period {
  since?: string;
  until?: string;
}

/** A budget is named by its owner: a project's name, or a trial's id. */
export interface Budgets {
  list(): Promise<Budget[]>;
  /**
   * The budget with all that enclose it, as they are now, or were `at` a past time.
   *
   * @throws Problem `not_found`.
   */
  get(name: string, at?: string): Promise<BudgetReport>;
  /** `tokens`: of its token budget. @throws Problem `invalid_request` where it has none. */
  statement(name: string, options: Page & { unit?: "money" | "tokens" }): Promise<Statement>;
  /**
   * Funds the budget once for one `idempotencyKey`; the currency TOK funds its token budget.
   *
   * @throws Problem `idempotency_mismatch`: the key was used with another body.
   */
  topUp(name: string, topUp: TopUp, idempotencyKey: string): Promise<Budget>;
  /** What was earned with the project's or the trial's work, once for one `idempotencyKey`. */
  recordIncome(name: string, income: TopUp, idempotencyKey: string): Promise<Income>;
  /** Marks passed, and what the calendar did; newest first. */
  events(name: string, options: Page): Promise<BudgetEventList>;
  profit(project: string): Promise<ProfitReport>;
  costs(project: string, by: CostGrouping): Promise<CostReport>;
  /** Each budget's limit and the most it was ever used, recomputed from the transfers. */
  adherence(project: string, options: Page): Promise<AdherenceReport>;
  /** Spend of a project, a line a call, in FOCUS columns or as JSON. */
  exportSpend(project: string, options: Period & { format: "csv" | "json" }): Promise<string>;
}

/** The budgets port: what people ask of money. */
import type { Budget, Statement, TopUp } from "../contract/budgets.ts";

/** A budget is named by its owner: a project's name, or a trial's id. */
export interface Budgets {
  list(): Promise<Budget[]>;
  /** @throws Problem `not_found`. */
  get(name: string): Promise<Budget>;
  statement(name: string, options: { limit: number; before?: string }): Promise<Statement>;
  /**
   * Funds the budget once for one `idempotencyKey`.
   *
   * @throws Problem `idempotency_mismatch`: the key was used with another body.
   */
  topUp(name: string, topUp: TopUp, idempotencyKey: string): Promise<Budget>;
  /** Spend of a project, a line a call, in FOCUS columns or as JSON. */
  exportSpend(
    project: string,
    options: { format: "csv" | "json"; since?: string; until?: string },
  ): Promise<string>;
}

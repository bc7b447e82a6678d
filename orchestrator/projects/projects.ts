/** The projects port: a project file becomes accounts, tasks and defaults for trials. */
import type { Balance } from "../contract/money.ts";
import type { NewProject, Project, Task } from "../contract/projects.ts";
import type { AccountBalance } from "../ledger/ledger.ts";

export interface Projects {
  /**
   * Makes or updates the project that the file describes, with its budget and tasks, all or
   * nothing. The total is funded once; a later, higher total tops it up by the difference.
   *
   * @throws Problem `invalid_request`, naming file, line and field.
   */
  apply(project: NewProject): Promise<Project>;
  list(): Promise<Project[]>;
  /** @throws Problem `not_found`. */
  get(name: string): Promise<Project>;
  tasks(name: string): Promise<Task[]>;
  /** Imports one task folder. @throws Problem `invalid_request`. */
  importTask(name: string, folder: string): Promise<Task>;
}

/** A balance on the wire. */
export function toBalance(balance: AccountBalance): Balance {
  return {
    currency: balance.currency,
    funded_nanos: String(balance.fundedNanos),
    reserved_nanos: String(balance.reservedNanos),
    spent_nanos: String(balance.spentNanos),
    available_nanos: String(balance.availableNanos < 0n ? 0n : balance.availableNanos),
  };
}

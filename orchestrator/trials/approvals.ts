/** The approvals port: what waits for a person, answered once. */
import type { Approval, ApprovalState, Approve, Reject } from "../contract/approvals.ts";
import type { ApprovalId } from "../runtime/ids.ts";

export interface ApprovalFilter {
  state?: ApprovalState;
  project?: string;
  trialId?: string;
}

export interface Approvals {
  /** Oldest first, the ones that wait longest. */
  list(filter: ApprovalFilter): Promise<Approval[]>;
  /** @throws Problem `not_found`, as the functions below. */
  get(id: ApprovalId): Promise<Approval>;
  /**
   * Of kind `egress_rule`: its rules stand in the project's policy from then on. Of kind `budget`:
   * tops up the budget that was short, by the amount suggested unless another is given, and queues
   * the trial again: both or neither, once. A repeat changes nothing.
   *
   * @throws Problem `conflict`: it was answered otherwise, or is not what the hash says.
   * @throws Problem `budget_exceeded`: the next call would be refused all the same.
   */
  approve(id: ApprovalId, answer: Approve): Promise<Approval>;
  /**
   * Cancels the trial with the reason, where it is a budget's; rules are only not added. A repeat
   * changes nothing. @throws Problem `conflict`.
   */
  reject(id: ApprovalId, answer: Reject): Promise<Approval>;
}

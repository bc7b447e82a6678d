/**
 * The calls port: what the gateway writes of each call it forwarded. A call's row and the end of
 * its reservation are one transaction, so that the sum of the rows is what was spent.
 */
import type { Side, Wire } from "../../orchestrator/contract/agents.ts";
import type { BudgetBalance } from "../../orchestrator/ledger/ledger.ts";
import type { Nanos } from "../../orchestrator/money.ts";
import type { EpochMs } from "../../orchestrator/runtime/clock.ts";
import type { CallId, KeyId, TransferId, TrialId } from "../../orchestrator/runtime/ids.ts";
import type { Attempt } from "./attempts.ts";
import type { EndedReservation } from "./reservations.ts";
import type { Usage } from "./usage.ts";

export interface FinishedCall {
  id: CallId;
  trialId: TrialId;
  keyId: KeyId;
  /** The first reservation of its money, and of its tokens where the trial has such a budget. */
  transferId: TransferId;
  tokenTransferId: TransferId | null;
  /** What ends each of its reservations; what they settle of money is `costNanos`. */
  reservations: readonly EndedReservation[];
  resolution: "settle" | "release";
  wire: Wire;
  side: Side;
  model: string;
  modelRequested: string;
  provider: string;
  priceVersion: string;
  reservedNanos: Nanos;
  /** At most what was reserved; 0 when released. */
  costNanos: Nanos;
  usage: Usage;
  isEstimated: boolean;
  /** GPU time of an own model, times GPUs, as its price counts it; null where it does not. */
  gpuMs: number | null;
  /** Providers that were asked before the one that answered. */
  attempts: readonly Attempt[];
  /** What the agent got. */
  status: number;
  error: string | null;
  startedAtMs: EpochMs;
  firstByteAtMs: EpochMs | null;
  endedAtMs: EpochMs;
}

/** `balance`: of the trial's budget, after it. */
export type FinishResult =
  | { outcome: "finished"; balance: BudgetBalance }
  /** A repeat: nothing was written. */
  | { outcome: "already_finished" }
  /** The reservation had expired, in full: what was too much is given back. */
  | { outcome: "corrected"; balance: BudgetBalance };

export interface Calls {
  /**
   * Ends the reservations and writes the row, in one transaction with those of other calls that
   * end at the same time. Idempotent by the call's id. A reservation that is made after this was
   * called sees what it gives back.
   */
  finish(call: FinishedCall): Promise<FinishResult>;
}

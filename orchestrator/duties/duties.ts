/**
 * The duties port: what is done by one orchestrator at a time, however many there are.
 *
 * A duty has a name and, while somebody leads it, a leader with a lease. A lease that is not
 * renewed runs out by the database's clock, and the next leader gets a higher fence.
 *
 * Invariant: of two processes that both believe they lead a duty, `confirm` says yes to one.
 */
import type { Sql } from "../db/database.ts";

export interface Lease {
  /** Higher than that of every leader before. */
  readonly fence: bigint;
  /** False as soon as it ran out by our own clock, or the database gave the duty to another. */
  isHeld(): boolean;
  /**
   * Asks the database. Inside a transaction the answer holds until its end: another leader waits
   * for it, so that what is written there is written by the leader.
   */
  confirm(transaction?: Sql): Promise<boolean>;
}

export interface Duties {
  /** Our lease on the duty; null while another process leads it. From now on it is wanted. */
  lead(duty: string): Promise<Lease | null>;
  /** Calls back when a wanted duty became ours. */
  onGain(listener: (duty: string) => void): Disposable;
  /** Gives every duty up, so that others need not wait for the leases' end. */
  handOver(): Promise<void>;
  /** Why leases cannot be renewed; null while they can. */
  fault(): string | null;
}

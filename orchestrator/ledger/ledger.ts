/**
 * The ledger port: where money is. Every amount is nano-units of its account's currency.
 *
 * Callers make the ids; a repeated id repeats nothing. Refusals are outcomes, to be handled each.
 * Invariant: for an account that must not be exceeded, reserved + spent <= funded at every instant.
 */
import type { Nanos } from "../money.ts";
import type { EpochMs } from "../runtime/clock.ts";
import type { AccountId, TransferId } from "../runtime/ids.ts";

export type AccountKind = "funding" | "budget" | "spend";

export interface NewAccount {
  /** Used when the account does not exist yet. */
  id: AccountId;
  kind: AccountKind;
  /** With `kind`, what the account is known by: opening it twice opens it once. */
  owner: string;
  currency: string;
  /** Whether reserved + spent must stay within what was funded. */
  mustNotExceed: boolean;
}

export interface AccountBalance {
  accountId: AccountId;
  owner: string;
  currency: string;
  fundedNanos: Nanos;
  reservedNanos: Nanos;
  spentNanos: Nanos;
  /** funded − reserved − spent; 0 at least for an account that must not be exceeded. */
  availableNanos: Nanos;
}

export interface Reservation {
  id: TransferId;
  /** The budget that pays: a trial's. */
  budget: AccountId;
  /** Its enclosing budgets, outermost first (organisation, project, day): each must cover it. */
  within: readonly AccountId[];
  /** The account that the money goes to. */
  spend: AccountId;
  amountNanos: Nanos;
  /** After this long an unresolved reservation expires: posted in full (see `expire`). */
  timeoutMs: number;
}

export type ReserveResult =
  | { outcome: "reserved" }
  | { outcome: "already_reserved" }
  | { outcome: "insufficient_funds"; budget: AccountId; availableNanos: Nanos }
  | { outcome: "account_not_found" };

export interface Settlement {
  id: TransferId;
  pendingId: TransferId;
  /** What it cost, at most what was reserved. */
  amountNanos: Nanos;
}

export type SettleResult =
  | { outcome: "settled" }
  | { outcome: "already_resolved" }
  | { outcome: "exceeds_reservation"; reservedNanos: Nanos }
  | { outcome: "reservation_not_found" };

export interface Release {
  id: TransferId;
  pendingId: TransferId;
}

export type ReleaseResult =
  | { outcome: "released" }
  | { outcome: "already_resolved" }
  | { outcome: "reservation_not_found" };

export interface Funding {
  id: TransferId;
  from: AccountId;
  to: AccountId;
  amountNanos: Nanos;
  reason: string;
}

export type FundResult =
  | { outcome: "funded" }
  | { outcome: "already_funded" }
  | { outcome: "account_not_found" };

export interface StatementLine {
  transferId: TransferId;
  kind: "direct" | "pending" | "post" | "void";
  reason: string;
  debitOwner: string;
  creditOwner: string;
  amountNanos: Nanos;
  at: EpochMs;
}

export interface Ledger {
  /** The account's id: the one given, or that of the account which its owner already has. */
  open(account: NewAccount): Promise<AccountId>;
  /** Moves money from a funding account to a budget. Idempotent on `id`. */
  fund(funding: Funding): Promise<FundResult>;
  reserve(reservation: Reservation): Promise<ReserveResult>;
  settle(settlement: Settlement): Promise<SettleResult>;
  release(release: Release): Promise<ReleaseResult>;
  /**
   * Resolves reservations whose time is over, at most `limit` of them: posted in full, because a
   * crash between forwarding and settling must never make a call free. Returns how many.
   */
  expire(limit: number): Promise<number>;
  /**
   * Resolves reservations made before `madeBefore` in the same way, though their time is not over:
   * for who knows that nobody is left to settle them, as after a kill. Returns how many.
   */
  abandon(madeBefore: EpochMs): Promise<number>;
  /** Null when there is no such account. */
  balance(accountId: AccountId): Promise<AccountBalance | null>;
  findAccount(kind: AccountKind, owner: string): Promise<AccountId | null>;
  /** Transfers that touch the account (as leaf or enclosing budget), newest first. */
  statement(
    accountId: AccountId,
    options: { limit: number; before?: TransferId },
  ): Promise<StatementLine[]>;
}

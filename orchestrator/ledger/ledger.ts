/**
 * The ledger port: where money is. Every amount is nano-units of its account's currency.
 *
 * Callers make the ids; a repeated id repeats nothing. Refusals are outcomes, to be handled each.
 * Invariant: for an account that must not be exceeded, reserved + spent <= funded at every instant.
 */
import type { Statement } from "../db/database.ts";
import type { Nanos } from "../money.ts";
import type { EpochMs } from "../runtime/clock.ts";
import type { AccountId, TransferId } from "../runtime/ids.ts";

/** `exchange` and `rounding` are the ledger's own: one of each for a currency. */
export type AccountKind = "funding" | "budget" | "spend" | "income" | "exchange" | "rounding";

export interface NewAccount {
  /** Used when the account does not exist yet. */
  id: AccountId;
  kind: AccountKind;
  /** With `kind`, what the account is known by: opening it twice opens it once. */
  owner: string;
  /** An ISO 4217 code; `TOK` for a token budget, whose amounts are tokens. */
  currency: string;
  /** Whether reserved + spent must stay within what was funded. */
  mustNotExceed: boolean;
}

export interface BudgetBalance {
  /** What was put in and not taken back. */
  fundedNanos: Nanos;
  reservedNanos: Nanos;
  /** What was taken and not given back. */
  spentNanos: Nanos;
  /** funded − reserved − spent; 0 at least for an account that must not be exceeded. */
  availableNanos: Nanos;
}

export interface AccountBalance extends BudgetBalance {
  accountId: AccountId;
  owner: string;
  currency: string;
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
  /** After this long an unresolved reservation expires (see `expire`). */
  timeoutMs: number;
  /**
   * What expiry does with it: `post` (the default) where a call may have been forwarded on it,
   * `void` where nothing can have been.
   */
  expiresTo?: "post" | "void";
}

export interface InsufficientFunds {
  outcome: "insufficient_funds";
  /** The tightest budget of the path, and what it has. */
  budget: AccountId;
  availableNanos: Nanos;
  reservedNanos: Nanos;
}

export type ReserveRefusal =
  | { outcome: "already_reserved" }
  | InsufficientFunds
  | { outcome: "account_not_found" };

/** `balance`: the paying budget's, after it. */
export type ReserveResult = { outcome: "reserved"; balance: BudgetBalance } | ReserveRefusal;

export type ReserveTogetherResult =
  /** In the order of the reservations; each after all of them. */
  | { outcome: "reserved"; balances: BudgetBalance[] }
  | { outcome: "refused"; index: number; refusal: ReserveRefusal };

export interface Settlement {
  id: TransferId;
  pendingId: TransferId;
  /** What it cost, at most what was reserved. */
  amountNanos: Nanos;
  /** What it was for, as statements have it, where it was no call. */
  reason?: string;
}

export type SettleResult =
  | { outcome: "settled"; balance: BudgetBalance }
  /** It had been posted by expiry: what that took too much was reversed. */
  | { outcome: "corrected"; balance: BudgetBalance }
  | { outcome: "already_resolved" }
  | { outcome: "exceeds_reservation"; reservedNanos: Nanos }
  | { outcome: "reservation_not_found" };

export interface Release {
  id: TransferId;
  pendingId: TransferId;
}

export type ReleaseResult =
  | { outcome: "released"; balance: BudgetBalance }
  /** It had been posted by expiry: all of that was reversed. */
  | { outcome: "corrected"; balance: BudgetBalance }
  | { outcome: "already_resolved" }
  | { outcome: "reservation_not_found" };

export type Resolution = ({ op: "settle" } & Settlement) | ({ op: "release" } & Release);
export type ResolveResult = SettleResult | ReleaseResult;

/**
 * Rows to write in the transaction that moves the money. `statement` is made once for all the items
 * that are flushed together, and run before accounts are locked; what it throws undoes the flush,
 * and each is then tried alone.
 */
export interface Alongside<Item> {
  statement: (items: readonly Item[]) => Statement;
  item: Item;
}

export interface Funding {
  id: TransferId;
  from: AccountId;
  to: AccountId;
  amountNanos: Nanos;
  reason: string;
  /** For people: who allowed it, and why. */
  note?: string | null;
}

export type FundResult =
  | { outcome: "funded" }
  | { outcome: "already_funded" }
  | { outcome: "account_not_found" };

export interface Reversal {
  id: TransferId;
  /** A post, or a direct transfer that is no reversal itself. */
  transferId: TransferId;
  /** Everything that is not reversed yet, where absent. */
  amountNanos?: Nanos;
  note: string;
}

export type ReverseResult =
  | { outcome: "reversed"; amountNanos: Nanos }
  | { outcome: "already_reversed" }
  | { outcome: "transfer_not_found" }
  /** A reservation (release it), a void, or a reversal. */
  | { outcome: "not_reversible" }
  | { outcome: "exceeds_transfer"; remainingNanos: Nanos }
  /** The budget that it would be taken back from has used or reserved it. */
  | InsufficientFunds;

/** One unit of `from` is `rateNanos` nano-units of `to`. */
export interface DatedRate {
  from: string;
  to: string;
  rateNanos: bigint;
  /** The date it is in force from: it goes into the note. */
  effectiveFrom: string;
}

export interface Conversion {
  id: TransferId;
  /**
   * `charge`: `to` gets `amountNanos`, and `from` pays what that is, rounded up. `income`: `from`
   * gives `amountNanos`, and `to` gets what that is, rounded down.
   */
  kind: "charge" | "income";
  /** Neither is a budget that pays, which only a reservation may take from. */
  from: AccountId;
  to: AccountId;
  amountNanos: Nanos;
  /** From the currency of `amountNanos` to the other account's. */
  rate: DatedRate;
  /** Round to 1 nano-unit (the default), or to the currency's smallest coin. */
  roundTo?: "nano" | "minor";
}

export type ConvertResult =
  /** `convertedNanos`: in the other currency, of which `roundingNanos` are rounding. */
  | { outcome: "converted"; convertedNanos: Nanos; roundingNanos: Nanos }
  | { outcome: "already_converted" }
  | { outcome: "account_not_found" }
  | { outcome: "rate_does_not_fit" };

export interface Income {
  id: TransferId;
  /** Whose: "project/<id>". Its income account is opened where it has none. */
  owner: string;
  currency: string;
  amountNanos: Nanos;
  note: string;
}

export type IncomeResult = { outcome: "recorded" } | { outcome: "already_recorded" };

export interface StatementLine {
  transferId: TransferId;
  /** Of two transfers of one account, the lower one happened first. */
  seq: bigint;
  kind: "direct" | "pending" | "post" | "void";
  reason: string;
  note: string | null;
  /** What it takes back. */
  reversesId: TransferId | null;
  debitOwner: string;
  creditOwner: string;
  amountNanos: Nanos;
  /** What the account had available right after it, as the statement runs. */
  availableNanos: Nanos;
  at: EpochMs;
}

export interface Ledger {
  /** The account's id: the one given, or that of the account which its owner already has. */
  open(account: NewAccount): Promise<AccountId>;
  /**
   * Moves money from a funding account to a budget. Idempotent on `id`.
   *
   * @throws Problem `invalid_request` (and so do `recordIncome` and `convert`) when an account
   *   would have moved more in all than the ledger can count: some 9.2 billion units.
   */
  fund(funding: Funding): Promise<FundResult>;
  /** Money that came in from outside. Idempotent on `id`. */
  recordIncome(income: Income): Promise<IncomeResult>;
  /** Moves money between accounts of two currencies, through the exchange accounts. */
  convert(conversion: Conversion): Promise<ConvertResult>;
  /** Takes a transfer back, whole or in part, on every budget that it touched. */
  reverse(reversal: Reversal): Promise<ReverseResult>;
  reserve(reservation: Reservation): Promise<ReserveResult>;
  /** Makes all of the reservations or none: a call's money and tokens, for one. */
  reserveTogether(reservations: readonly Reservation[]): Promise<ReserveTogetherResult>;
  settle(settlement: Settlement): Promise<SettleResult>;
  release(release: Release): Promise<ReleaseResult>;
  /**
   * Resolves each as `settle` and `release` do (a result each, in their order), all that can be
   * resolved and `alongside` in one transaction.
   */
  resolveTogether<Item>(
    resolutions: readonly Resolution[],
    alongside?: Alongside<Item>,
  ): Promise<ResolveResult[]>;
  /**
   * Resolves reservations whose time is over, at most `limit` of them, as their `expiresTo` says:
   * posted in full with the reason `expired`, because a crash between forwarding and settling must
   * never make a call free, or voided. Returns how many.
   */
  expire(limit: number): Promise<number>;
  /**
   * Resolves reservations made before `madeBefore` in the same way, though their time is not over:
   * for who knows that nobody is left to settle them, as after a kill. Returns how many.
   */
  abandon(madeBefore: EpochMs): Promise<number>;
  /** Null when there is no such account. */
  balance(accountId: AccountId): Promise<AccountBalance | null>;
  /** The balance as it was then: of what happened up to `atMs`. */
  balanceAt(accountId: AccountId, atMs: EpochMs): Promise<AccountBalance | null>;
  findAccount(kind: AccountKind, owner: string): Promise<AccountId | null>;
  /** Transfers that touch the account (as leaf or enclosing budget), newest first. */
  statement(
    accountId: AccountId,
    options: { limit: number; before?: TransferId },
  ): Promise<StatementLine[]>;
}

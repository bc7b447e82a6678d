/**
 * What the ledger answers to requests that arrive together: each in its order, on the balances
 * that those before it left. Values in, values out; `flush.ts` does the reading and the writing.
 */
import type { Nanos } from "../money.ts";
import { type EpochMs, rfc3339 } from "../runtime/clock.ts";
import type { AccountId, TransferId } from "../runtime/ids.ts";
import type { Release, Reservation, ReserveResult, Settlement, SettleResult } from "./ledger.ts";

export interface AccountState {
  kind: string;
  currency: string;
  mustNotExceed: boolean;
  /** credits posted − debits posted − debits pending */
  availableNanos: Nanos;
}

export interface Pending {
  budget: AccountId;
  within: readonly AccountId[];
  spend: AccountId;
  amountNanos: Nanos;
}

/** Before the requests: everything that they name. `decide` brings it up to date. */
export interface LedgerState {
  accounts: Map<AccountId, AccountState>;
  /** Reservations, resolved or not. */
  pendings: Map<TransferId, Pending>;
  /** Transfers that exist. */
  transferIds: Set<TransferId>;
  resolvedIds: Set<TransferId>;
}

export type Resolution =
  | ({ op: "settle"; reason: string } & Settlement)
  | ({ op: "release" } & Release);
export type Request = ({ op: "reserve" } & Reservation) | Resolution;

export type ResolveResult = { outcome: "resolved" } | Exclude<SettleResult, { outcome: "settled" }>;
export type Result = ReserveResult | ResolveResult;

export interface Change {
  debitsPendingNanos: Nanos;
  debitsPostedNanos: Nanos;
  creditsPendingNanos: Nanos;
  creditsPostedNanos: Nanos;
}

export interface NewTransfer extends Pending {
  id: TransferId;
  kind: "pending" | "post" | "void";
  pendingId: TransferId | null;
  expiresAt: string | null;
  reason: string;
}

export interface Decision {
  /** One for each request, in their order. */
  results: Result[];
  changes: Map<AccountId, Change>;
  transfers: NewTransfer[];
}

export const CALL_REASON = "call";

export function decide(state: LedgerState, requests: readonly Request[], now: EpochMs): Decision {
  const changes = new Map<AccountId, Change>();
  const transfers: NewTransfer[] = [];
  const results = requests.map((request) =>
    request.op === "reserve" ? reserve(request) : resolve(request),
  );
  return { results, changes, transfers };

  function reserve(reservation: Reservation): Result {
    const refused = refusal(state, reservation);
    if (refused !== null) return refused;
    const { id, budget, within, spend, amountNanos, timeoutMs } = reservation;
    const pending = { budget, within, spend, amountNanos };
    transfers.push({
      id,
      kind: "pending",
      ...pending,
      pendingId: null,
      expiresAt: rfc3339(now + timeoutMs),
      reason: CALL_REASON,
    });
    state.transferIds.add(id);
    state.pendings.set(id, pending);
    apply(pending, { pendingNanos: amountNanos, postedNanos: 0n });
    return { outcome: "reserved" };
  }

  function resolve(resolution: Resolution): Result {
    const { id, pendingId } = resolution;
    const pending = state.pendings.get(pendingId);
    if (pending === undefined) return { outcome: "reservation_not_found" };
    if (state.resolvedIds.has(pendingId)) return { outcome: "already_resolved" };
    const reservedNanos = pending.amountNanos;
    const isSettle = resolution.op === "settle";
    const amountNanos = isSettle ? resolution.amountNanos : reservedNanos;
    if (amountNanos > reservedNanos) return { outcome: "exceeds_reservation", reservedNanos };

    transfers.push({
      id,
      kind: isSettle ? "post" : "void",
      ...pending,
      amountNanos,
      pendingId,
      expiresAt: null,
      reason: isSettle ? resolution.reason : "release",
    });
    state.transferIds.add(id);
    state.resolvedIds.add(pendingId);
    const postedNanos = isSettle ? amountNanos : 0n;
    apply(pending, { pendingNanos: -reservedNanos, postedNanos });
    return { outcome: "resolved" };
  }

  /** A debit of the budget is a debit of every budget that encloses it. */
  function apply(
    { budget, within, spend }: Pending,
    { pendingNanos, postedNanos }: { pendingNanos: Nanos; postedNanos: Nanos },
  ): void {
    for (const accountId of [...within, budget]) {
      const change = changeOf(accountId);
      change.debitsPendingNanos += pendingNanos;
      change.debitsPostedNanos += postedNanos;
      const account = state.accounts.get(accountId);
      if (account !== undefined) account.availableNanos -= pendingNanos + postedNanos;
    }
    const change = changeOf(spend);
    change.creditsPendingNanos += pendingNanos;
    change.creditsPostedNanos += postedNanos;
  }

  function changeOf(accountId: AccountId): Change {
    const change = changes.get(accountId) ?? {
      debitsPendingNanos: 0n,
      debitsPostedNanos: 0n,
      creditsPendingNanos: 0n,
      creditsPostedNanos: 0n,
    };
    changes.set(accountId, change);
    return change;
  }
}

/** Why the reservation cannot be made now, or null. */
function refusal(
  state: LedgerState,
  { id, budget, within, spend, amountNanos }: Reservation,
): ReserveResult | null {
  if (state.transferIds.has(id)) return { outcome: "already_reserved" };
  const currencies = new Set<string>();
  let short: (ReserveResult & { outcome: "insufficient_funds" }) | null = null;
  for (const accountId of [...within, budget, spend]) {
    const account = state.accounts.get(accountId);
    if (account?.kind !== (accountId === spend ? "spend" : "budget")) {
      return { outcome: "account_not_found" };
    }
    currencies.add(account.currency);
    const { mustNotExceed, availableNanos } = account;
    if (accountId === spend || !mustNotExceed || availableNanos >= amountNanos) continue;
    // The tightest budget is told, so that the caller knows the most it could have asked for.
    if (short === null || availableNanos < short.availableNanos) {
      short = { outcome: "insufficient_funds", budget: accountId, availableNanos };
    }
  }
  // A sum of two currencies is no amount; nothing of ours makes such a path.
  if (currencies.size > 1) return { outcome: "account_not_found" };
  return short;
}

/**
 * What the ledger answers to requests that arrive together: each in its order, on the balances
 * that those before it left. Values in, values out; `flush.ts` does the reading and the writing.
 */
import { NANOS_MAX, type Nanos } from "../money.ts";
import { type EpochMs, rfc3339 } from "../runtime/clock.ts";
import type { AccountId, TransferId } from "../runtime/ids.ts";
import type {
  BudgetBalance,
  InsufficientFunds,
  Reservation,
  ReserveRefusal,
  ReserveResult,
  Resolution,
  ResolveResult,
  Reversal,
  ReverseResult,
} from "./ledger.ts";

/** What an account's balance is made of. */
export interface Sums {
  creditsPostedNanos: Nanos;
  debitsPostedNanos: Nanos;
  debitsPendingNanos: Nanos;
  reversedNanos: Nanos;
}

export interface AccountState extends Sums {
  kind: string;
  currency: string;
  mustNotExceed: boolean;
}

/** A transfer that a request names. It never changes. */
export interface KnownTransfer {
  kind: "direct" | "pending" | "post" | "void";
  reversesId: TransferId | null;
  debit: AccountId;
  within: readonly AccountId[];
  credit: AccountId;
  amountNanos: Nanos;
}

/** What ended a reservation. */
export interface Resolved {
  id: TransferId;
  kind: "post" | "void";
  reason: string;
  amountNanos: Nanos;
}

/** What was taken back of a transfer. */
export interface Reversed {
  amountNanos: Nanos;
  isCorrected: boolean;
}

/** Before the requests: everything that they name. `decide` brings it up to date. */
export interface LedgerState {
  accounts: Map<AccountId, AccountState>;
  named: Map<TransferId, KnownTransfer>;
  /** Transfers that exist. */
  transferIds: Set<TransferId>;
  /** By reservation. */
  resolved: Map<TransferId, Resolved>;
  reversed: Map<TransferId, Reversed>;
}

/** `reason`: why, where it is not the caller's own doing. */
export type ResolveRequest = Resolution & { reason?: string };

/** Moves money at once, between accounts of one currency; never out of a budget. */
export interface Direct {
  id: TransferId;
  from: AccountId;
  to: AccountId;
  amountNanos: Nanos;
  reason: string;
  note: string | null;
}

export type Request =
  | ({ op: "reserve" } & Reservation)
  | ({ op: "direct" } & Direct)
  | ({ op: "reverse" } & Reversal)
  | ResolveRequest;

export type DirectResult =
  | { outcome: "moved" }
  | { outcome: "already_moved" }
  | { outcome: "account_not_found" }
  | { outcome: "out_of_range" };

export type Result = ReserveResult | ResolveResult | DirectResult | ReverseResult;

export interface Change {
  debitsPendingNanos: Nanos;
  debitsPostedNanos: Nanos;
  creditsPendingNanos: Nanos;
  creditsPostedNanos: Nanos;
  reversedNanos: Nanos;
}

export interface NewTransfer extends KnownTransfer {
  id: TransferId;
  pendingId: TransferId | null;
  /** Of a post or void: what its reservation holds. */
  reservedNanos: Nanos;
  expiresAt: string | null;
  expiresTo: "post" | "void" | null;
  reason: string;
  note: string | null;
}

export interface Decision {
  /** Of each bundle, in their order: a result for each request, up to the first that undid it. */
  results: Result[][];
  changes: Map<AccountId, Change>;
  transfers: NewTransfer[];
}

export const CALL_REASON = "call";
export const RELEASE_REASON = "release";
export const EXPIRED_REASON = "expired";
export const CORRECTED_REASON = "corrected";
const REVERSAL_REASON = "reversal";
const DONE: ReadonlySet<string> = new Set(["reserved", "moved", "reversed"]);

/**
 * Each bundle's requests are answered in their order. One that is refused undoes its bundle, but
 * for resolutions: of those, each stands for itself.
 */
export function decide(
  state: LedgerState,
  bundles: readonly (readonly Request[])[],
  now: EpochMs,
): Decision {
  const changes = new Map<AccountId, Change>();
  const transfers: NewTransfer[] = [];
  return { results: bundles.map(decideBundle), changes, transfers };

  function decideBundle(requests: readonly Request[]): Result[] {
    const before = transfers.length;
    const answers: Answer[] = [];
    for (const request of requests) {
      const answer = answerTo(request);
      answers.push(answer);
      const isResolution = request.op === "settle" || request.op === "release";
      if (isResolution || DONE.has(answer.result.outcome)) continue;
      while (transfers.length > before) undo();
      break;
    }
    // The balance after the whole bundle, which nobody sees in parts.
    return answers.map(({ result, budget }) =>
      budget === null ? result : ({ ...result, balance: balanceOf(budget) } as Result),
    );
  }

  function answerTo(request: Request): Answer {
    switch (request.op) {
      case "reserve":
        return reserve(request);
      case "direct":
        return { result: move(request), budget: null };
      case "reverse":
        return { result: reverse(request), budget: null };
      case "settle":
      case "release":
        return resolve(request);
    }
  }

  function reserve(reservation: Reservation): Answer {
    const refused = reserveRefusal(state, reservation);
    if (refused !== null) return { result: refused, budget: null };
    const { id, budget, within, spend, amountNanos, timeoutMs, expiresTo } = reservation;
    add({
      id,
      kind: "pending",
      ...{ debit: budget, within, credit: spend, amountNanos },
      expiresAt: rfc3339(now + timeoutMs),
      expiresTo: expiresTo ?? "post",
      reason: CALL_REASON,
    });
    return { result: { outcome: "reserved", balance: balanceOf(budget) }, budget };
  }

  function resolve(resolution: ResolveRequest): Answer {
    const { id, pendingId } = resolution;
    const pending = state.named.get(pendingId);
    const refuse = (result: Result): Answer => ({ result, budget: null });
    if (pending?.kind !== "pending") return refuse({ outcome: "reservation_not_found" });
    const reservedNanos = pending.amountNanos;
    const isSettle = resolution.op === "settle";
    const costNanos = isSettle ? resolution.amountNanos : 0n;
    const resolved = state.resolved.get(pendingId);
    const late = resolved === undefined ? null : lateFor(resolution, resolved);
    if (resolved !== undefined && late === null) return refuse({ outcome: "already_resolved" });
    if (costNanos > reservedNanos) return refuse({ outcome: "exceeds_reservation", reservedNanos });

    if (late !== null) {
      // Somebody may have reversed a part of it before.
      const aboveNanos = late.amountNanos - late.reversedNanos - costNanos;
      addReversal(pending, {
        id,
        reversesId: late.id,
        amountNanos: aboveNanos > 0n ? aboveNanos : 0n,
        reason: CORRECTED_REASON,
        note: null,
      });
      const balance = balanceOf(pending.debit);
      return { result: { outcome: "corrected", balance }, budget: pending.debit };
    }
    // Not all of `pending`: one that was made in this flush has an id and an expiry besides.
    const { debit, within, credit } = pending;
    add({
      id,
      ...{ debit, within, credit },
      kind: isSettle ? "post" : "void",
      // A void names what it gives back; a post what it took.
      amountNanos: isSettle ? costNanos : reservedNanos,
      pendingId,
      reservedNanos,
      reason: resolution.reason ?? (isSettle ? CALL_REASON : RELEASE_REASON),
    });
    const outcome = isSettle ? "settled" : "released";
    return { result: { outcome, balance: balanceOf(pending.debit) }, budget: pending.debit };
  }

  /** What expiry posted and this resolution may still correct, or null. */
  function lateFor(resolution: ResolveRequest, { id, kind, reason, amountNanos }: Resolved) {
    const isExpiry = resolution.reason === EXPIRED_REASON;
    if (isExpiry || kind !== "post" || reason !== EXPIRED_REASON) return null;
    const reversed = state.reversed.get(id);
    if (reversed?.isCorrected) return null;
    return { id, amountNanos, reversedNanos: reversed?.amountNanos ?? 0n };
  }

  function move({ id, from, to, ...rest }: Direct): DirectResult {
    if (state.transferIds.has(id)) return { outcome: "already_moved" };
    const [debit, credit] = [state.accounts.get(from), state.accounts.get(to)];
    const isFound = debit !== undefined && debit.kind !== "budget" && credit !== undefined;
    if (!isFound || debit.currency !== credit.currency) return { outcome: "account_not_found" };
    const highest = [debit.debitsPostedNanos, credit.creditsPostedNanos];
    if (highest.some((sum) => sum + rest.amountNanos > NANOS_MAX)) {
      return { outcome: "out_of_range" };
    }
    add({ id, kind: "direct", debit: from, within: [], credit: to, ...rest });
    return { outcome: "moved" };
  }

  function reverse({ id, transferId, amountNanos, note }: Reversal): ReverseResult {
    if (state.transferIds.has(id)) return { outcome: "already_reversed" };
    const original = state.named.get(transferId);
    if (original === undefined) return { outcome: "transfer_not_found" };
    const isReversible = original.kind === "direct" || original.kind === "post";
    if (!isReversible || original.reversesId !== null) return { outcome: "not_reversible" };
    const reversedNanos = state.reversed.get(transferId)?.amountNanos ?? 0n;
    const remainingNanos = original.amountNanos - reversedNanos;
    const wantedNanos = amountNanos ?? remainingNanos;
    if (wantedNanos > remainingNanos || wantedNanos === 0n) {
      return { outcome: "exceeds_transfer", remainingNanos };
    }
    const payer = state.accounts.get(original.credit);
    if (payer?.mustNotExceed) {
      const { availableNanos, reservedNanos } = budgetBalance(payer);
      if (availableNanos < wantedNanos) {
        const budget = original.credit;
        return { outcome: "insufficient_funds", budget, availableNanos, reservedNanos };
      }
    }
    const taken = { id, reversesId: transferId, amountNanos: wantedNanos, note };
    addReversal(original, { ...taken, reason: REVERSAL_REASON });
    return { outcome: "reversed", amountNanos: wantedNanos };
  }

  /** The other way round, and mirrored on every enclosing budget. */
  function addReversal(
    { debit, within, credit }: KnownTransfer,
    reversal: {
      id: TransferId;
      reversesId: TransferId;
      amountNanos: Nanos;
      reason: string;
      note: string | null;
    },
  ): void {
    add({ ...reversal, kind: "direct", debit: credit, within, credit: debit });
  }

  function add(given: Given): void {
    const transfer: NewTransfer = {
      pendingId: null,
      reservedNanos: 0n,
      expiresAt: null,
      expiresTo: null,
      reversesId: null,
      note: null,
      ...given,
    };
    transfers.push(transfer);
    state.transferIds.add(transfer.id);
    state.named.set(transfer.id, transfer);
    const { id, pendingId, kind, reason, amountNanos, reversesId } = transfer;
    if (pendingId !== null && (kind === "post" || kind === "void")) {
      state.resolved.set(pendingId, { id, kind, reason, amountNanos });
    }
    if (reversesId !== null) {
      const before = state.reversed.get(reversesId);
      state.reversed.set(reversesId, {
        amountNanos: (before?.amountNanos ?? 0n) + amountNanos,
        isCorrected: before?.isCorrected === true || reason === CORRECTED_REASON,
      });
    }
    apply(transfer, 1n);
  }

  /** Takes the last transfer out again: of a bundle that is refused, and has no resolution. */
  function undo(): void {
    const transfer = transfers.pop();
    if (transfer === undefined) return;
    state.transferIds.delete(transfer.id);
    state.named.delete(transfer.id);
    apply(transfer, -1n);
  }

  /** A debit of a budget is a debit of every budget that encloses it; so is what is given back. */
  function apply(transfer: NewTransfer, times: 1n | -1n): void {
    const { kind, within, debit, credit, reversesId } = transfer;
    const amountNanos = times * transfer.amountNanos;
    const isReversal = reversesId !== null;
    const pendingNanos = kind === "pending" ? amountNanos : -times * transfer.reservedNanos;
    const postedNanos = kind === "direct" || kind === "post" ? amountNanos : 0n;
    for (const accountId of isReversal ? [debit] : [...within, debit]) {
      const change = changeOf(accountId);
      change.debitsPendingNanos += pendingNanos;
      change.debitsPostedNanos += postedNanos;
      const account = state.accounts.get(accountId);
      if (account === undefined) continue;
      account.debitsPendingNanos += pendingNanos;
      account.debitsPostedNanos += postedNanos;
    }
    for (const accountId of isReversal ? [...within, credit] : [credit]) {
      const change = changeOf(accountId);
      change.creditsPendingNanos += pendingNanos;
      change.creditsPostedNanos += postedNanos;
      const account = state.accounts.get(accountId);
      if (account !== undefined) account.creditsPostedNanos += postedNanos;
    }
    if (!isReversal) return;
    for (const accountId of [...within, debit, credit]) {
      changeOf(accountId).reversedNanos += amountNanos;
      const account = state.accounts.get(accountId);
      if (account !== undefined) account.reversedNanos += amountNanos;
    }
  }

  function changeOf(accountId: AccountId): Change {
    const change = changes.get(accountId) ?? {
      debitsPendingNanos: 0n,
      debitsPostedNanos: 0n,
      creditsPendingNanos: 0n,
      creditsPostedNanos: 0n,
      reversedNanos: 0n,
    };
    changes.set(accountId, change);
    return change;
  }

  function balanceOf(accountId: AccountId): BudgetBalance {
    const account = state.accounts.get(accountId);
    if (account === undefined) throw new Error(`decide: ${accountId} was not read`);
    return budgetBalance(account);
  }
}

/** `budget`: whose balance the result tells. */
interface Answer {
  result: Result;
  budget: AccountId | null;
}

type Given = Pick<NewTransfer, "id" | "kind" | "debit" | "within" | "credit" | "reason"> &
  Pick<NewTransfer, "amountNanos"> &
  Partial<NewTransfer>;

/** What the four sums of an account say to people. */
export function budgetBalance(sums: Sums): BudgetBalance {
  const { creditsPostedNanos, debitsPostedNanos, debitsPendingNanos, reversedNanos } = sums;
  return {
    fundedNanos: creditsPostedNanos - reversedNanos,
    reservedNanos: debitsPendingNanos,
    spentNanos: debitsPostedNanos - reversedNanos,
    availableNanos: creditsPostedNanos - debitsPostedNanos - debitsPendingNanos,
  };
}

/** Why the reservation cannot be made now, or null. */
function reserveRefusal(
  state: LedgerState,
  { id, budget, within, spend, amountNanos }: Reservation,
): ReserveRefusal | null {
  if (state.transferIds.has(id)) return { outcome: "already_reserved" };
  const currencies = new Set<string>();
  let short: InsufficientFunds | null = null;
  for (const accountId of [...within, budget, spend]) {
    const account = state.accounts.get(accountId);
    if (account?.kind !== (accountId === spend ? "spend" : "budget")) {
      return { outcome: "account_not_found" };
    }
    currencies.add(account.currency);
    const { availableNanos, reservedNanos } = budgetBalance(account);
    const isCovered = !account.mustNotExceed || availableNanos >= amountNanos;
    if (accountId === spend || isCovered) continue;
    // The tightest budget is told, so that the caller knows the most it could have asked for.
    if (short === null || availableNanos < short.availableNanos) {
      short = { outcome: "insufficient_funds", budget: accountId, availableNanos, reservedNanos };
    }
  }
  // A sum of two currencies is no amount; nothing of ours makes such a path.
  if (currencies.size > 1) return { outcome: "account_not_found" };
  return short;
}

/**
 * A budget account as one would wish it: a page of arithmetic without a database, a lock or a
 * second caller. What the ledger answers to many must be what this answers to one after another.
 */
import type { Model } from "./linear.ts";

/** Ids are small numbers: of the reservations and top-ups that a history may name. */
export type AccountOp =
  | { op: "fund"; at: number }
  | { op: "reserve"; at: number }
  | { op: "settle"; at: number; by: number }
  | { op: "release"; at: number; by: number }
  /** Of one reservation: whatever it is, it is not pending afterwards. */
  | { op: "expire"; at: number }
  | { op: "balance" };

export interface AccountResult {
  outcome: string;
  /** Where the answer tells them; else null. */
  availableNanos: bigint | null;
  reservedNanos: bigint | null;
  spentNanos: bigint | null;
}

export interface Facts {
  fundedNanos: bigint;
  topUpNanos: readonly bigint[];
  amountNanos: readonly bigint[];
  isVoidedByExpiry: readonly boolean[];
  /** By reservation, then by who settles: two callers may wish to settle at different costs. */
  costNanos: readonly (readonly bigint[])[];
}

/**
 * A letter for each top-up (`-` or `f`) and each reservation: none, pending, void, expired (and
 * posted in full); a digit: posted at the cost of that caller; a capital A, B…: posted by expiry,
 * then corrected by that caller.
 */
export type AccountState = { topUps: string; reservations: string };

export const NOTHING = (facts: Facts): AccountState => ({
  topUps: "-".repeat(facts.topUpNanos.length),
  reservations: "-".repeat(facts.amountNanos.length),
});

export function createAccountModel(facts: Facts): Model<AccountState, AccountOp, AccountResult> {
  return {
    apply,
    key: ({ topUps, reservations }) => topUps + reservations,
    isSame: (expected, seen) =>
      expected.outcome === seen.outcome &&
      isKnownSame(expected.availableNanos, seen.availableNanos) &&
      isKnownSame(expected.reservedNanos, seen.reservedNanos) &&
      isKnownSame(expected.spentNanos, seen.spentNanos),
  };

  function apply(state: AccountState, op: AccountOp) {
    switch (op.op) {
      case "balance":
        return told(state, "balance");
      case "fund": {
        const isRepeat = state.topUps[op.at] === "f";
        const topUps = put(state.topUps, op.at, "f");
        return told({ ...state, topUps }, isRepeat ? "already_funded" : "funded");
      }
      case "reserve": {
        if (state.reservations[op.at] !== "-") return told(state, "already_reserved");
        const { availableNanos } = balanceOf(state);
        if (availableNanos < (facts.amountNanos[op.at] ?? 0n)) {
          return told(state, "insufficient_funds");
        }
        return told(mark(state, op.at, "p"), "reserved");
      }
      case "settle": {
        const was = state.reservations[op.at];
        if (was === "-") return told(state, "reservation_not_found");
        if (was === "p") return told(mark(state, op.at, String(op.by)), "settled");
        if (was !== "e") return told(state, "already_resolved");
        return told(mark(state, op.at, String.fromCharCode(65 + op.by)), "corrected");
      }
      case "release": {
        const was = state.reservations[op.at];
        if (was === "-") return told(state, "reservation_not_found");
        if (was === "p") return told(mark(state, op.at, "v"), "released");
        if (was !== "e") return told(state, "already_resolved");
        return told(mark(state, op.at, "v"), "corrected");
      }
      case "expire": {
        const isPending = state.reservations[op.at] === "p";
        const expired = facts.isVoidedByExpiry[op.at] ? "v" : "e";
        return told(isPending ? mark(state, op.at, expired) : state, "expire");
      }
    }
  }

  function told(state: AccountState, outcome: string) {
    return { state, result: { outcome, ...balanceOf(state) } };
  }

  function balanceOf({ topUps, reservations }: AccountState) {
    let fundedNanos = facts.fundedNanos;
    for (const [at, nanos] of facts.topUpNanos.entries()) {
      if (topUps[at] === "f") fundedNanos += nanos;
    }
    let [reservedNanos, spentNanos] = [0n, 0n];
    for (const [at, nanos] of facts.amountNanos.entries()) {
      const was = reservations[at] ?? "-";
      if (was === "p") reservedNanos += nanos;
      else if (was === "e") spentNanos += nanos;
      else if (was >= "0" && was <= "9") spentNanos += facts.costNanos[at]?.[Number(was)] ?? 0n;
      else if (was >= "A" && was <= "Z") {
        spentNanos += facts.costNanos[at]?.[was.charCodeAt(0) - 65] ?? 0n;
      }
    }
    return { availableNanos: fundedNanos - reservedNanos - spentNanos, reservedNanos, spentNanos };
  }
}

function mark(state: AccountState, at: number, letter: string): AccountState {
  return { ...state, reservations: put(state.reservations, at, letter) };
}

function put(text: string, at: number, letter: string): string {
  return text.slice(0, at) + letter + text.slice(at + 1);
}

function isKnownSame(expected: bigint | null, seen: bigint | null): boolean {
  return seen === null || expected === seen;
}

/**
 * Goal: what is decided of requests that arrive together is right by itself, before any constraint
 * of the tables or a second try alone could make up for it.
 *
 * Method: values in, values out; no database.
 */
import assert from "node:assert/strict";
import { test } from "node:test";
import {
  type AccountState,
  decide,
  EXPIRED_REASON,
  type LedgerState,
  type Request,
} from "../../../orchestrator/ledger/decide.ts";
import type { AccountId, TransferId } from "../../../orchestrator/runtime/ids.ts";

const OUTER: AccountId = "account_outer";
const BUDGET: AccountId = "account_budget";
const SPEND: AccountId = "account_spend";

function account(kind: string, fundedNanos: bigint): AccountState {
  return {
    kind,
    currency: "CAD",
    mustNotExceed: kind === "budget",
    creditsPostedNanos: fundedNanos,
    debitsPostedNanos: 0n,
    debitsPendingNanos: 0n,
    reversedNanos: 0n,
  };
}

/** 100 in the trial's budget, 50 in the one around it. */
function newState(): LedgerState {
  return {
    accounts: new Map([
      [OUTER, account("budget", 50n)],
      [BUDGET, account("budget", 100n)],
      [SPEND, account("spend", 0n)],
    ]),
    named: new Map(),
    transferIds: new Set(),
    resolved: new Map(),
    reversed: new Map(),
  };
}

function reserve(name: string, amountNanos: bigint): Request {
  const path = { budget: BUDGET, within: [OUTER], spend: SPEND };
  return { op: "reserve", id: id(name), ...path, amountNanos, timeoutMs: 1 };
}

function settle(name: string, of: string, amountNanos: bigint, reason?: string): Request {
  const given = { op: "settle" as const, id: id(name), pendingId: id(of), amountNanos };
  return reason === undefined ? given : { ...given, reason };
}

function id(name: string): TransferId {
  return `transfer_${name}`;
}

/** The outcome of each request, and what is written; one request a bundle. */
function outcomes(...requests: Request[]): { outcomes: string[]; written: number } {
  const { results, transfers } = decide(
    newState(),
    requests.map((request) => [request]),
    0,
  );
  return { outcomes: results.flat().map(({ outcome }) => outcome), written: transfers.length };
}

test("a reserve is refused by the first level that does not cover it, after those before it", () => {
  assert.deepEqual(outcomes(reserve("a", 30n), reserve("b", 21n), reserve("c", 20n)), {
    outcomes: ["reserved", "insufficient_funds", "reserved"],
    written: 2,
  });
});

test("an id is reserved once, whoever sends it again in the same company", () => {
  assert.deepEqual(outcomes(reserve("a", 10n), reserve("a", 10n)), {
    outcomes: ["reserved", "already_reserved"],
    written: 1,
  });
});

test("a reservation is resolved once, and not above itself", () => {
  assert.deepEqual(
    outcomes(
      reserve("a", 10n),
      settle("s1", "a", 11n),
      settle("s2", "a", 4n),
      settle("s3", "a", 4n),
    ),
    {
      outcomes: ["reserved", "exceeds_reservation", "settled", "already_resolved"],
      written: 2,
    },
  );
});

test("what expiry posted is corrected once", () => {
  const requests = [
    reserve("a", 10n),
    settle("e", "a", 10n, EXPIRED_REASON),
    settle("s1", "a", 4n),
    settle("s2", "a", 4n),
  ];
  assert.deepEqual(outcomes(...requests), {
    outcomes: ["reserved", "settled", "corrected", "already_resolved"],
    written: 3,
  });
});

test("all of a bundle is made, or nothing of it", () => {
  const bundle = [reserve("a", 30n), reserve("b", 30n)];
  const state = newState();
  const { results, transfers, changes } = decide(state, [bundle, [reserve("c", 50n)]], 0);
  assert.deepEqual(
    results.map((answers) => answers.map(({ outcome }) => outcome)),
    [["reserved", "insufficient_funds"], ["reserved"]],
  );
  assert.deepEqual(
    transfers.map((one) => one.id),
    [id("c")],
  );
  assert.equal(changes.get(OUTER)?.debitsPendingNanos, 50n);
  assert.equal(state.accounts.get(BUDGET)?.debitsPendingNanos, 50n);
});

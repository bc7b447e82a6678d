/**
 * Reservations and resolutions in one round trip, where all that must be known of them before is
 * known: what accounts are and what a reservation of ours holds never changes. Balances are not
 * among it: the statement locks the accounts, in the order of their ids, and checks them there.
 *
 * Invariant: it is all written or nothing is. Where a budget does not cover what is wanted of it,
 * or an id or a resolution is there already, the statement fails, and `flush.ts` answers each.
 */
import { sql } from "drizzle-orm";
import type { Database, Statement } from "../db/database.ts";
import { rows, serverError } from "../db/rows.ts";
import { together } from "../db/statement.ts";
import type { Nanos } from "../money.ts";
import { type EpochMs, rfc3339 } from "../runtime/clock.ts";
import type { AccountId, TransferId } from "../runtime/ids.ts";
import { readSums } from "./accounts.ts";
import {
  type AccountState,
  budgetBalance,
  type Decision,
  decide,
  type KnownTransfer,
  type LedgerState,
  type Request,
  type ResolveRequest,
  type Result,
  type Sums,
} from "./decide.ts";
import { alongsideStatements, type Bundle, flush } from "./flush.ts";
import type { BudgetBalance } from "./ledger.ts";

type Db = Pick<Database, "sql"> & Pick<Partial<Database>, "together">;

export interface OneTrip {
  /** The results of each bundle, in their order. All of them are written, or none. */
  flush(bundles: readonly Bundle[], now: EpochMs): Promise<Result[][]>;
  /** Keeps what the answer to a lone request says of its reservation. */
  learn(request: Request, result: Result): void;
}

/** Facts are small, and those of ended trials give way. */
const ACCOUNTS_MAX = 50_000;
const RESERVATIONS_MAX = 50_000;
const NOTHING: Sums = {
  creditsPostedNanos: 0n,
  debitsPostedNanos: 0n,
  debitsPendingNanos: 0n,
  reversedNanos: 0n,
};
const HOPED: ReadonlySet<string> = new Set(["reserved", "settled", "released"]);

export function createOneTrip(db: Db): OneTrip {
  const accounts = new Map<AccountId, Pick<AccountState, "kind" | "currency">>();
  const reservations = new Map<TransferId, KnownTransfer>();
  return { flush: flushBundles, learn };

  async function flushBundles(bundles: readonly Bundle[], now: EpochMs): Promise<Result[][]> {
    const results = (await inOneTrip(bundles, now)) ?? (await flush(db.sql, bundles, now));
    for (const [index, { requests }] of bundles.entries()) {
      for (const [at, request] of requests.entries()) {
        const result = results[index]?.[at];
        if (result !== undefined) learn(request, result);
      }
    }
    return results;
  }

  function learn(request: Request, { outcome }: Result): void {
    if (request.op === "settle" || request.op === "release") reservations.delete(request.pendingId);
    if (request.op !== "reserve" || outcome !== "reserved") return;
    const { id, budget, within, spend, amountNanos } = request;
    const [oldest] = reservations.size >= RESERVATIONS_MAX ? reservations.keys() : [];
    if (oldest !== undefined) reservations.delete(oldest);
    reservations.set(id, {
      ...{ kind: "pending", reversesId: null, debit: budget, within, credit: spend, amountNanos },
    });
  }

  /** Null when it takes a look first. */
  async function inOneTrip(bundles: readonly Bundle[], now: EpochMs): Promise<Result[][] | null> {
    const state = await foreseen(bundles);
    if (state === null) return null;
    const decision = decide(state, requestsOf(bundles), now);
    const { results } = decision;
    if (!results.flat().every(({ outcome }) => HOPED.has(outcome))) return null;
    const statement = flushStatement(decision, mostDrawn(bundles, state.named), now);
    try {
      const answers = await together(db, [...alongsideStatements(bundles), statement]);
      const had = new Map((answers.at(-1) as FlushRow[]).map((row) => [row.id, readSums(row)]));
      return told(bundles, results, state.named, had);
    } catch (error) {
      if (/^2[23]/.test(serverError(error)?.code ?? "")) return null;
      throw error;
    }
  }

  /** The state in which all of it would be done, balances apart: they count from nothing. */
  async function foreseen(bundles: readonly Bundle[]): Promise<LedgerState | null> {
    const named = new Map<TransferId, KnownTransfer>();
    const touched = new Set<AccountId>();
    for (const { requests } of bundles) {
      for (const request of requests) {
        if (request.op === "direct" || request.op === "reverse") return null;
        if (request.op === "reserve") {
          for (const id of [...request.within, request.budget, request.spend]) touched.add(id);
          continue;
        }
        const reservation = reservations.get(request.pendingId);
        if (reservation === undefined) return null;
        named.set(request.pendingId, reservation);
        const { within, debit, credit } = reservation;
        for (const id of [...within, debit, credit]) touched.add(id);
      }
    }
    await learnAccounts([...touched].filter((id) => !accounts.has(id)));
    const known = new Map<AccountId, AccountState>();
    for (const id of touched) {
      const facts = accounts.get(id);
      if (facts === undefined) return null;
      known.set(id, { ...facts, mustNotExceed: false, ...NOTHING });
    }
    return {
      accounts: known,
      named,
      transferIds: new Set(),
      resolved: new Map(),
      reversed: new Map(),
    };
  }

  async function learnAccounts(ids: readonly AccountId[]): Promise<void> {
    if (ids.length === 0) return;
    const found = await rows<{ id: AccountId; kind: string; currency: string }>(
      db.sql,
      sql`select id, kind, currency from account where id = any(${sql.param(ids)}::text[])`,
    );
    if (accounts.size + found.length > ACCOUNTS_MAX) accounts.clear();
    for (const { id, kind, currency } of found) accounts.set(id, { kind, currency });
  }
}

function requestsOf(bundles: readonly Bundle[]): Request[][] {
  return bundles.map(({ requests }) => [...requests]);
}

/** The most that the requests, in their order, draw from each budget before they give back. */
function mostDrawn(bundles: readonly Bundle[], named: LedgerState["named"]): Map<AccountId, Nanos> {
  const drawn = new Map<AccountId, Nanos>();
  const most = new Map<AccountId, Nanos>();
  for (const request of requestsOf(bundles).flat()) {
    if (request.op === "reserve") draw([...request.within, request.budget], request.amountNanos);
    const pending = "pendingId" in request ? named.get(request.pendingId) : undefined;
    if (pending === undefined) continue;
    const cost = request.op === "settle" ? request.amountNanos : 0n;
    draw([...pending.within, pending.debit], cost - pending.amountNanos);
  }
  return most;

  function draw(budgets: readonly AccountId[], amountNanos: Nanos): void {
    for (const id of budgets) {
      const sum = (drawn.get(id) ?? 0n) + amountNanos;
      drawn.set(id, sum);
      if (sum > (most.get(id) ?? 0n)) most.set(id, sum);
    }
  }
}

/** The results, with balances that counted from nothing counted from what the accounts had. */
function told(
  bundles: readonly Bundle[],
  results: readonly Result[][],
  named: LedgerState["named"],
  accounts: ReadonlyMap<AccountId, Sums>,
): Result[][] {
  return results.map((answers, index) =>
    answers.map((result, at) => {
      const request = bundles[index]?.requests[at];
      const budget =
        request?.op === "reserve"
          ? request.budget
          : named.get((request as ResolveRequest).pendingId)?.debit;
      const had = budget === undefined ? undefined : accounts.get(budget);
      if (had === undefined || !("balance" in result)) {
        throw new Error("flush: an account that was locked did not come back");
      }
      return { ...result, balance: sumOf(result.balance, budgetBalance(had)) } as Result;
    }),
  );
}

function sumOf(one: BudgetBalance, other: BudgetBalance): BudgetBalance {
  return {
    fundedNanos: one.fundedNanos + other.fundedNanos,
    reservedNanos: one.reservedNanos + other.reservedNanos,
    spentNanos: one.spentNanos + other.spentNanos,
    availableNanos: one.availableNanos + other.availableNanos,
  };
}

/** An account as it was when it was locked. */
type FlushRow = { id: AccountId } & Parameters<typeof readSums>[0];

function flushStatement(
  { changes, transfers }: Decision,
  drawn: ReadonlyMap<AccountId, Nanos>,
  now: EpochMs,
): Statement {
  const changeRows = [...changes].map(([id, change]) => ({
    id,
    debits_pending: String(change.debitsPendingNanos),
    debits_posted: String(change.debitsPostedNanos),
    credits_pending: String(change.creditsPendingNanos),
    credits_posted: String(change.creditsPostedNanos),
    drawn: String(drawn.get(id) ?? 0n),
  }));
  const transferRows = transfers.map((transfer) => ({
    id: transfer.id,
    kind: transfer.kind,
    debit: transfer.debit,
    within: transfer.within.join(" "),
    credit: transfer.credit,
    amount: String(transfer.amountNanos),
    pending_id: transfer.pendingId,
    expires_at: transfer.expiresAt,
    expires_to: transfer.expiresTo,
    reason: transfer.reason,
  }));
  const values = [JSON.stringify(changeRows), JSON.stringify(transferRows), rfc3339(now)];
  return { text: FLUSH, values };
}

/**
 * Balances are set from the rows as locked, and the insert waits for the locks: why, says
 * `single.ts`. An array in JSON is one value, however long it is. The server logs what fails it.
 */
const FLUSH = `/* prepared: ledger.flush */
  with change as materialized (
    select * from json_to_recordset($1::json) as change (
      id text, debits_pending bigint, debits_posted bigint, credits_pending bigint,
      credits_posted bigint, drawn bigint
    )
  ), locked as materialized (
    select * from account where id = any(array(select id from change))
    order by id
    for no key update
  ), decision as materialized (
    select case
      when bool_and(
        not must_not_exceed
        or credits_posted_nanos - debits_posted_nanos - debits_pending_nanos >= drawn
      ) then 'true'
      else 'a budget does not cover its reservations'
    end::boolean as is_covered
    from locked join change on change.id = locked.id
  ), inserted as (
    insert into transfer
      (id, kind, debit_account_id, within, credit_account_id, amount_nanos, pending_id,
        expires_at, expires_to, reason, created_at)
    select id, kind, debit, string_to_array(within, ' '), credit, amount, pending_id, expires_at,
      expires_to, reason, $3::timestamptz
    from json_to_recordset($2::json) as new (
      id text, kind text, debit text, within text, credit text, amount bigint, pending_id text,
      expires_at timestamptz, expires_to text, reason text
    ), decision
    where is_covered
  ), changed as (
    update account set
      debits_pending_nanos = locked.debits_pending_nanos + change.debits_pending,
      debits_posted_nanos = locked.debits_posted_nanos + change.debits_posted,
      credits_pending_nanos = locked.credits_pending_nanos + change.credits_pending,
      credits_posted_nanos = locked.credits_posted_nanos + change.credits_posted
    from locked join change on change.id = locked.id, decision
    where account.id = locked.id and is_covered
  )
  select id, credits_posted_nanos as credits_posted, debits_posted_nanos as debits_posted,
    debits_pending_nanos as debits_pending, reversed_nanos as reversed
  from locked, decision where is_covered`;

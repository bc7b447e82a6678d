/**
 * The ledger over PostgreSQL, the only place where money is: nothing of it is kept in memory.
 *
 * Reserve, settle and release go through one group commit: alone, a request is one statement
 * (`single.ts`); with others, one transaction for all of them, in one round trip where nothing must
 * be looked up first (`one-trip.ts`), else in two (`flush.ts`). Any number of ledgers,
 * in any number of processes, may work on one database.
 */
import type { Database } from "../db/database.ts";
import { serverError } from "../db/rows.ts";
import { NANOS_MAX, NANOS_PER_UNIT, type Nanos } from "../money.ts";
import { Problem } from "../problem.ts";
import type { Clock, EpochMs } from "../runtime/clock.ts";
import { type AccountId, derivedId, type TransferId } from "../runtime/ids.ts";
import { findAccountOf, openAccount, openExchange, openOwn, readBalance } from "./accounts.ts";
import type { Request, Result } from "./decide.ts";
import { expiryOf, findExpired, findLeftOver, type Unresolved } from "./expiry.ts";
import { AlongsideError, type Bundle } from "./flush.ts";
import { conversionLegs } from "./fx.ts";
import { createGroupCommit } from "./group-commit.ts";
import { readBalanceAt } from "./history.ts";
import type {
  AccountBalance,
  AccountKind,
  Alongside,
  Conversion,
  ConvertResult,
  Funding,
  FundResult,
  Income,
  IncomeResult,
  Ledger,
  NewAccount,
  Release,
  ReleaseResult,
  Reservation,
  ReserveResult,
  ReserveTogetherResult,
  Resolution,
  ResolveResult,
  Reversal,
  ReverseResult,
  Settlement,
  SettleResult,
  StatementLine,
} from "./ledger.ts";
import { createOneTrip } from "./one-trip.ts";
import { fundSingle, runSingle } from "./single.ts";
import { readStatement } from "./statement.ts";

/**
 * How far another process's clock may be behind ours: a reservation made now expires no earlier
 * than this long ago.
 */
const CLOCK_SKEW_MS = 3_600_000;
const PATH_LENGTH_MAX = 16;

export interface LedgerOptions {
  /** Most requests in one transaction; 1: each in a statement of its own. */
  batchMax?: number;
}

/**
 * A ledger on `db`, or inside a transaction as `{ sql: tx }`: there a refusal is an outcome as
 * ever, but a failed statement ends the transaction.
 */
export function createLedger(
  db: Pick<Database, "sql"> & Pick<Partial<Database>, "together">,
  clock: Clock,
  { batchMax = 500 }: LedgerOptions = {},
): Ledger {
  const oneTrip = createOneTrip(db);
  const submit = createGroupCommit<Bundle, Result[]>({
    one: runAlone,
    many: (bundles) => oneTrip.flush(bundles, clock.now()),
    isItemFault,
    itemsMax: batchMax,
  });
  /** Every reservation that expired before it is resolved. */
  let expiredUntil: EpochMs | null = null;
  return {
    open,
    fund,
    recordIncome,
    convert,
    reverse,
    reserve,
    reserveTogether,
    settle,
    release,
    resolveTogether,
    expire,
    abandon,
    balance,
    balanceAt,
    findAccount,
    statement,
  };

  /** A lone request is one round trip; what must be done together is a transaction. */
  async function runAlone(bundle: Bundle): Promise<Result[]> {
    const [request, ...others] = bundle.requests;
    if (request !== undefined && others.length === 0 && bundle.alongside === undefined) {
      const result = await runSingle(db.sql, request, clock.now());
      oneTrip.learn(request, result);
      return [result];
    }
    const [results = []] = await oneTrip.flush([bundle], clock.now());
    return results;
  }

  function open(account: NewAccount): Promise<AccountId> {
    return openAccount(db.sql, account, clock.now());
  }

  async function fund(funding: Funding): Promise<FundResult> {
    checkAmount("fund", funding.amountNanos);
    const result = await fundSingle(db.sql, funding, clock.now());
    if (result.outcome === "out_of_range") throw outOfRange();
    return result;
  }

  async function recordIncome(income: Income): Promise<IncomeResult> {
    const { id, owner, currency, amountNanos, note } = income;
    checkAmount("recordIncome", amountNanos, 1n);
    const from = await openOwn(db.sql, "funding", "outside", currency, clock.now());
    const accountId = derivedId("account", "income", owner);
    const to = await open({ id: accountId, kind: "income", owner, currency, mustNotExceed: false });
    const result = await send({ op: "direct", id, from, to, amountNanos, reason: "income", note });
    switch (result.outcome) {
      case "moved":
        return { outcome: "recorded" };
      case "already_moved":
        return { outcome: "already_recorded" };
      case "out_of_range":
        throw outOfRange();
      default:
        throw new Error(`recordIncome: ${result.outcome}, of accounts just opened`);
    }
  }

  async function convert(conversion: Conversion): Promise<ConvertResult> {
    checkAmount("convert", conversion.amountNanos, 1n);
    const accounts = await openExchange(db.sql, conversion, clock.now());
    if ("outcome" in accounts) return accounts;
    const { legs, convertedNanos, roundingNanos } = conversionLegs(conversion, accounts);
    if (legs.some(({ amountNanos }) => amountNanos > NANOS_MAX)) throw outOfRange();
    const results = await submit({ requests: legs.map((leg) => ({ op: "direct", ...leg })) });
    const last = results.at(-1);
    switch (last?.outcome) {
      case "moved":
        return { outcome: "converted", convertedNanos, roundingNanos };
      case "already_moved":
        return { outcome: "already_converted" };
      case "account_not_found":
        return last;
      case "out_of_range":
        throw outOfRange();
      default:
        throw new Error(`convert: ${last?.outcome}, of transfers between accounts`);
    }
  }

  async function reverse(reversal: Reversal): Promise<ReverseResult> {
    if (reversal.amountNanos !== undefined) checkAmount("reverse", reversal.amountNanos, 1n);
    return (await send({ op: "reverse", ...reversal })) as ReverseResult;
  }

  async function reserve(reservation: Reservation): Promise<ReserveResult> {
    return (await send(reserveRequest(reservation))) as ReserveResult;
  }

  async function reserveTogether(
    reservations: readonly Reservation[],
  ): Promise<ReserveTogetherResult> {
    if (reservations.length === 0) return { outcome: "reserved", balances: [] };
    const results = await submit({ requests: reservations.map(reserveRequest) });
    const made = results.flatMap((result) => (result.outcome === "reserved" ? [result] : []));
    if (made.length === reservations.length) {
      return { outcome: "reserved", balances: made.map(({ balance }) => balance) };
    }
    const refusal = results.at(-1) as Exclude<ReserveResult, { outcome: "reserved" }>;
    return { outcome: "refused", index: results.length - 1, refusal };
  }

  async function settle(settlement: Settlement): Promise<SettleResult> {
    return (await send(resolveRequest({ op: "settle", ...settlement }))) as SettleResult;
  }

  async function release(released: Release): Promise<ReleaseResult> {
    return (await send(resolveRequest({ op: "release", ...released }))) as ReleaseResult;
  }

  async function resolveTogether<Item>(
    resolutions: readonly Resolution[],
    alongside?: Alongside<Item>,
  ): Promise<ResolveResult[]> {
    const requests = resolutions.map(resolveRequest);
    const bundle = alongside === undefined ? {} : { alongside: alongside as Alongside<unknown> };
    return (await submit({ requests, ...bundle })) as ResolveResult[];
  }

  async function send(request: Request): Promise<Result> {
    const [result] = await submit({ requests: [request] });
    if (result === undefined) throw new Error("ledger: a request without an answer");
    return result;
  }

  async function expire(limit: number): Promise<number> {
    const now = clock.now();
    const found = await findExpired(db.sql, { from: expiredUntil, now, limit });
    const resolved = await endAll(found);
    if (found.length < limit) expiredUntil = now - CLOCK_SKEW_MS;
    return resolved;
  }

  async function abandon(madeBefore: EpochMs): Promise<number> {
    return endAll(await findLeftOver(db.sql, { madeBefore, now: clock.now() }));
  }

  async function endAll(found: readonly Unresolved[]): Promise<number> {
    const results = await Promise.all(found.map(expiryOf).map(send));
    return results.filter(({ outcome }) => /^(settled|released)$/.test(outcome)).length;
  }

  function balance(accountId: AccountId): Promise<AccountBalance | null> {
    return readBalance(db.sql, accountId);
  }

  function balanceAt(accountId: AccountId, atMs: EpochMs): Promise<AccountBalance | null> {
    return readBalanceAt(db.sql, accountId, atMs);
  }

  function findAccount(kind: AccountKind, owner: string): Promise<AccountId | null> {
    return findAccountOf(db.sql, kind, owner);
  }

  function statement(
    accountId: AccountId,
    options: { limit: number; before?: TransferId },
  ): Promise<StatementLine[]> {
    return readStatement(db.sql, accountId, options);
  }
}

function reserveRequest(reservation: Reservation): Request {
  const { amountNanos, budget, within, spend, timeoutMs } = reservation;
  checkAmount("reserve", amountNanos);
  const path = [...within, budget, spend];
  if (new Set(path).size !== path.length || path.length > PATH_LENGTH_MAX) {
    throw new RangeError("reserve: the accounts must differ, and be at most 16");
  }
  if (!(timeoutMs > 0)) throw new RangeError("reserve: timeoutMs must be positive");
  return { op: "reserve", ...reservation };
}

function resolveRequest(resolution: Resolution): Request {
  if (resolution.op === "settle") checkAmount("settle", resolution.amountNanos);
  return resolution;
}

function outOfRange(): Problem {
  const most = `${NANOS_MAX / NANOS_PER_UNIT} units`;
  const detail = `amount_nanos: an account that has moved more than ${most} in all does not`;
  return new Problem("invalid_request", `${detail} fit the ledger`);
}

function checkAmount(what: string, amountNanos: Nanos, least = 0n): void {
  if (amountNanos < least || amountNanos > NANOS_MAX) {
    throw new RangeError(`${what}: an amount must be from ${least} to ${NANOS_MAX}`);
  }
}

/**
 * What one bad request can do to those it is flushed with: break a constraint, a range, or an id.
 * The lost connection and the stopped server are nobody's fault, and nobody's alone.
 */
function isItemFault(error: unknown): boolean {
  if (error instanceof AlongsideError) return true;
  // 22: a value out of range; 23: a constraint; 40: a deadlock, after which nothing was written.
  return /^(22|23|40)/.test(serverError(error)?.code ?? "");
}

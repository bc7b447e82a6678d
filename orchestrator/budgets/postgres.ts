/** Budgets over the ledger: a project's by its name, a trial's by its id. */
import { sql } from "drizzle-orm";
import type { Budget, BudgetReport, Income, Statement, TopUp } from "../contract/budgets.ts";
import type { Database } from "../db/database.ts";
import { rows } from "../db/rows.ts";
import type { AccountBalance, Ledger } from "../ledger/ledger.ts";
import { NANOS_MAX, type Nanos, TOKEN_UNIT } from "../money.ts";
import { Problem } from "../problem.ts";
import type { PostgresProjects, ProjectRow } from "../projects/postgres.ts";
import { toBalance } from "../projects/projects.ts";
import { type Clock, rfc3339 } from "../runtime/clock.ts";
import { type AccountId, derivedId, isId, type TransferId, type TrialId } from "../runtime/ids.ts";
import { readAdherence } from "./adherence.ts";
import type { Budgets, Page } from "./budgets.ts";
import { readEvents } from "./events.ts";
import { readLevels } from "./levels.ts";
import { readCosts, readProfit } from "./profit.ts";
import { exportSpend } from "./spend.ts";

export interface BudgetsDependencies {
  db: Pick<Database, "sql">;
  ledger: Ledger;
  projects: PostgresProjects;
  clock: Clock;
}

/** Whose budget a name is of. */
interface Owner {
  project: ProjectRow;
  trialId: TrialId | null;
}

export function createBudgets({ db, ledger, projects, clock }: BudgetsDependencies): Budgets {
  return {
    list,
    get,
    statement,
    topUp,
    recordIncome,
    events,
    profit: async (project) => readProfit(db.sql, await projects.find(project)),
    costs: async (project, by) => readCosts(db.sql, await projects.find(project), by),
    adherence: async (project, page) => readAdherence(db.sql, await projects.find(project), page),
    exportSpend: async (project, options) => exportSpend(db, await projects.find(project), options),
  };

  async function list(): Promise<Budget[]> {
    const all = await projects.list();
    return Promise.all(all.map(async ({ name }) => toBudget(await balanceOf(await find(name)))));
  }

  async function get(name: string, at?: string): Promise<BudgetReport> {
    const owner = await find(name);
    const { project, trialId } = owner;
    const now = at === undefined ? clock.now() : readPast(at, clock);
    const accountId = await accountOf(owner);
    const isPast = at !== undefined;
    if (!isPast) await projects.openToday(project);
    const balance = await (isPast ? ledger.balanceAt(accountId, now) : ledger.balance(accountId));
    if (balance === null) throw new Error("a budget without an account");
    const { date, dayEndsAtMs, nextTopUp } = projects.calendarAt(project, now);
    const wanted = { project, trialId, date, dayEndsAtMs, now, isPast };
    return {
      name,
      project: project.name,
      ...toBudget(balance),
      at: rfc3339(now),
      time_zone: project.time_zone,
      levels: await readLevels(db.sql, ledger, wanted),
      next_top_up: nextTopUp,
    };
  }

  async function statement(
    name: string,
    { limit, before, unit = "money" }: Page & { unit?: "money" | "tokens" },
  ): Promise<Statement> {
    const owner = await find(name);
    const account = unit === "tokens" ? await tokenAccount(owner) : await accountOf(owner);
    const balance = await ledger.balance(account);
    if (balance === null) throw new Error("a budget without an account");
    const lines = await ledger.statement(balance.accountId, {
      limit,
      ...(before === undefined ? {} : { before: before as TransferId }),
    });
    return {
      ...toBudget(balance),
      lines: lines.map((line) => ({
        transfer_id: line.transferId,
        kind: line.kind,
        reason: line.reason,
        debit: line.debitOwner,
        credit: line.creditOwner,
        amount_nanos: String(line.amountNanos),
        available_nanos: String(line.availableNanos),
        note: line.note,
        reverses_id: line.reversesId,
        at: rfc3339(line.at),
      })),
      next_cursor: lines.length < limit ? null : (lines.at(-1)?.transferId ?? null),
    };
  }

  async function topUp(name: string, wanted: TopUp, idempotencyKey: string): Promise<Budget> {
    const owner = await find(name);
    const { currency, note } = wanted;
    const to = currency === TOKEN_UNIT ? await tokenAccount(owner) : await accountOf(owner);
    const balance = await ledger.balance(to);
    if (balance === null) throw new Error("a budget without an account");
    const amountNanos = readAmount(wanted, balance.currency);
    const id = derivedId("transfer", "topup", to, idempotencyKey);
    const from = await ledger.findAccount("funding", `organisation/${currency}`);
    if (from === null) throw new Error("a budget without a funding account");
    const funding = { id, from, to, amountNanos, reason: "topup" };
    const { outcome } = await ledger.fund(note === undefined ? funding : { ...funding, note });
    if (outcome === "already_funded") await refuseOtherAmount(id, amountNanos);
    const after = await ledger.balance(to);
    return toBudget(after ?? balance);
  }

  async function recordIncome(name: string, wanted: TopUp, key: string): Promise<Income> {
    const { project, trialId } = await find(name);
    const { currency } = project;
    const amountNanos = readAmount(wanted, currency);
    const owner = trialId === null ? `project/${project.id}` : `trial/${trialId}`;
    const id = derivedId("transfer", "income", owner, key);
    const note = wanted.note ?? "income";
    const { outcome } = await ledger.recordIncome({ id, owner, currency, amountNanos, note });
    if (outcome === "already_recorded") await refuseOtherAmount(id, amountNanos);
    const account = await ledger.findAccount("income", owner);
    const balance = account === null ? null : await ledger.balance(account);
    return { owner, currency, income_nanos: String(balance?.fundedNanos ?? 0n) };
  }

  async function events(name: string, page: Page) {
    const { project, trialId } = await find(name);
    return readEvents(db.sql, { projectId: project.id, trialId }, page);
  }

  async function refuseOtherAmount(id: TransferId, amountNanos: bigint): Promise<void> {
    const [known] = await rows<{ amount_nanos: string }>(
      db.sql,
      sql`select amount_nanos from transfer where id = ${id}`,
    );
    if (known !== undefined && BigInt(known.amount_nanos) === amountNanos) return;
    const detail = "Idempotency-Key: it has moved another amount; use a new key for a new top-up";
    throw new Problem("idempotency_mismatch", detail);
  }

  async function find(name: string): Promise<Owner> {
    if (!isId("trial", name)) return { project: await projects.find(name), trialId: null };
    const [trial] = await rows<Pick<TrialView, "project_id">>(
      db.sql,
      sql`select project_id from trial where id = ${name}`,
    );
    if (trial === undefined) throw new Problem("not_found", `There is no trial ${name}`);
    return { project: await projects.findById(trial.project_id), trialId: name };
  }

  async function balanceOf(owner: Owner): Promise<AccountBalance> {
    const balance = await ledger.balance(await accountOf(owner));
    if (balance === null) throw new Error("a budget without an account");
    return balance;
  }

  async function accountOf({ project, trialId }: Owner): Promise<AccountId> {
    if (trialId === null) return (await projects.accounts(project)).budget;
    const account = await ledger.findAccount("budget", `trial/${trialId}`);
    if (account !== null) return account;
    throw new Problem("conflict", "The trial has no budget yet: it has not been admitted");
  }

  async function tokenAccount({ project, trialId }: Owner): Promise<AccountId> {
    const owner = trialId === null ? `project/${project.id}` : `trial/${trialId}`;
    const account = await ledger.findAccount("budget", `tokens/${owner}`);
    if (account !== null) return account;
    const detail = "This budget rations no tokens; set budget.tokens in the project's file first";
    throw new Problem("invalid_request", detail);
  }
}

type TrialView = { project_id: ProjectRow["id"] };

/** @throws Problem `invalid_request` unless it is an amount of the budget's own currency. */
function readAmount(wanted: TopUp, currency: string): Nanos {
  if (wanted.currency !== currency) {
    const detail = `currency: this budget is in ${currency}, not ${wanted.currency}`;
    throw new Problem("invalid_request", detail);
  }
  const amountNanos = BigInt(wanted.amount_nanos);
  if (amountNanos === 0n || amountNanos > NANOS_MAX) throw unfit();
  return amountNanos;
}

/** A day is meant from its first moment on. @throws Problem `invalid_request`. */
function readPast(text: string, clock: Clock): number {
  const atMs = Date.parse(text);
  if (Number.isNaN(atMs)) {
    const detail = `querystring.at: "${text}" is no time; use 2026-11-21 or RFC 3339`;
    throw new Problem("invalid_request", detail);
  }
  if (atMs <= clock.now()) return atMs;
  throw new Problem("invalid_request", "querystring.at: it is yet to come; use a time of the past");
}

function unfit(): Problem {
  const detail = "amount_nanos: must be more than 0 and fit the ledger";
  return new Problem("invalid_request", detail);
}

function toBudget(balance: AccountBalance): Budget {
  return { owner: balance.owner, balance: toBalance(balance) };
}

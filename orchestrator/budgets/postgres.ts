/** Budgets over the ledger: a project's by its name, a trial's by its id. */
import { sql } from "drizzle-orm";
import type { Budget, Statement, TopUp } from "../contract/budgets.ts";
import type { Database } from "../db/database.ts";
import { rows, serverError } from "../db/rows.ts";
import type { AccountBalance, Ledger } from "../ledger/ledger.ts";
import { NANOS_MAX } from "../money.ts";
import { Problem } from "../problem.ts";
import { type PostgresProjects, toBalance } from "../projects/postgres.ts";
import { rfc3339 } from "../runtime/clock.ts";
import { type AccountId, derivedId, isId, type TransferId } from "../runtime/ids.ts";
import type { Budgets } from "./budgets.ts";
import { exportSpend } from "./spend.ts";

export interface BudgetsDependencies {
  db: Database;
  ledger: Ledger;
  projects: PostgresProjects;
}

/** PostgreSQL's numeric_value_out_of_range. */
const OUT_OF_RANGE = "22003";

export function createBudgets({ db, ledger, projects }: BudgetsDependencies): Budgets {
  return {
    list,
    get,
    statement,
    topUp,
    exportSpend: async (project, options) => exportSpend(db, await projects.find(project), options),
  };

  async function list(): Promise<Budget[]> {
    return Promise.all((await projects.list()).map(({ name }) => get(name)));
  }

  async function get(name: string): Promise<Budget> {
    return toBudget(await find(name));
  }

  async function statement(
    name: string,
    options: { limit: number; before?: string },
  ): Promise<Statement> {
    const { limit, before } = options;
    const balance = await find(name);
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
        available_nanos: null,
        note: null,
        reverses_id: null,
        at: rfc3339(line.at),
      })),
      next_cursor: lines.length < limit ? null : (lines.at(-1)?.transferId ?? null),
    };
  }

  async function topUp(name: string, wanted: TopUp, idempotencyKey: string): Promise<Budget> {
    const balance = await find(name);
    if (wanted.currency !== balance.currency) {
      const detail = `currency: this budget is in ${balance.currency}, not ${wanted.currency}`;
      throw new Problem("invalid_request", detail);
    }
    const amountNanos = BigInt(wanted.amount_nanos);
    if (amountNanos === 0n || amountNanos > NANOS_MAX) throw unfit(null);
    const id = derivedId("transfer", "topup", balance.accountId, idempotencyKey);
    const from = await ledger.findAccount("funding", `organisation/${balance.currency}`);
    if (from === null) throw new Error("a budget without a funding account");
    const funding = { id, from, to: balance.accountId, amountNanos, reason: "topup" };
    const { outcome } = await ledger.fund(funding).catch((error: unknown) => {
      // Only the ledger can tell: what is full may be the account that all budgets are funded from.
      throw serverError(error)?.code === OUT_OF_RANGE ? unfit(error) : error;
    });
    if (outcome === "already_funded") await refuseOtherAmount(id, amountNanos);
    return get(name);
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

  async function find(name: string): Promise<AccountBalance> {
    const accountId = isId("trial", name)
      ? await trialAccount(name)
      : (await projects.accounts(await projects.find(name))).budget;
    const balance = await ledger.balance(accountId);
    if (balance === null) throw new Error("a budget without an account");
    return balance;
  }

  async function trialAccount(trialId: string): Promise<AccountId> {
    const [trial] = await rows<{ account_id: AccountId | null }>(
      db.sql,
      sql`select account_id from trial where id = ${trialId}`,
    );
    if (trial === undefined) throw new Problem("not_found", `There is no trial ${trialId}`);
    if (trial.account_id === null) {
      throw new Problem("conflict", "The trial has no budget yet: it has not been admitted");
    }
    return trial.account_id;
  }
}

function unfit(cause: unknown): Problem {
  const detail = "amount_nanos: must be more than 0 and fit the ledger";
  return new Problem("invalid_request", detail, cause === null ? {} : { cause });
}

function toBudget(balance: AccountBalance): Budget {
  return { owner: balance.owner, balance: toBalance(balance) };
}

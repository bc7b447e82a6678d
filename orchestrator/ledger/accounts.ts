/** Opening and reading accounts. */
import { sql } from "drizzle-orm";
import type { Sql } from "../db/database.ts";
import { readNanos, rows } from "../db/rows.ts";
import { TOKEN_UNIT } from "../money.ts";
import { Problem } from "../problem.ts";
import { type EpochMs, rfc3339 } from "../runtime/clock.ts";
import { type AccountId, derivedId } from "../runtime/ids.ts";
import { budgetBalance, type Sums } from "./decide.ts";
import type { ExchangeAccounts } from "./fx.ts";
import type {
  AccountBalance,
  AccountKind,
  Conversion,
  ConvertResult,
  NewAccount,
} from "./ledger.ts";

/** @throws Problem `conflict` when the owner's account is kept in another way. */
export async function openAccount(db: Sql, account: NewAccount, now: EpochMs): Promise<AccountId> {
  const { id, kind, owner, currency, mustNotExceed } = account;
  // The second look is for a rival whose row was not yet committed at the first.
  for (let attempt = 0; attempt < 2; attempt++) {
    const [row] = await rows<{ id: AccountId; currency: string; must_not_exceed: boolean }>(
      db,
      sql`
        with inserted as (
          insert into account (id, kind, owner, currency, must_not_exceed, created_at)
          values (${id}, ${kind}, ${owner}, ${currency}, ${mustNotExceed},
            ${rfc3339(now)})
          on conflict do nothing
          returning id, currency, must_not_exceed
        )
        select * from inserted
        union all
        select id, currency, must_not_exceed from account
        where kind = ${kind} and owner = ${owner}
        limit 1`,
    );
    if (row === undefined) continue;
    if (row.currency !== currency || row.must_not_exceed !== mustNotExceed) {
      throw new Problem(
        "conflict",
        `The ${kind} account of ${owner} is kept in ${row.currency}` +
          `${row.must_not_exceed ? " with a limit" : ""}: it cannot be opened otherwise`,
      );
    }
    return row.id;
  }
  throw new Error(`open: the account of ${owner} is neither there nor can it be inserted`);
}

/** The account that the ledger keeps for itself, one of each `kind` and `name` for a currency. */
export function openOwn(
  db: Sql,
  kind: AccountKind,
  name: string,
  currency: string,
  now: EpochMs,
): Promise<AccountId> {
  const owner = `${name}/${currency}`;
  const id = derivedId("account", kind, owner);
  return openAccount(db, { id, kind, owner, currency, mustNotExceed: false }, now);
}

type NoExchange = Extract<
  ConvertResult,
  { outcome: "account_not_found" } | { outcome: "rate_does_not_fit" }
>;

/** What a conversion passes through; or why there can be none. */
export async function openExchange(
  db: Sql,
  { kind, from, to, rate }: Conversion,
  now: EpochMs,
): Promise<ExchangeAccounts | NoExchange> {
  const [paying, paid] = await Promise.all([readBalance(db, from), readBalance(db, to)]);
  if (paying === null || paid === null) return { outcome: "account_not_found" };
  const [known, other] = kind === "charge" ? [paid, paying] : [paying, paid];
  const isFitting = known.currency === rate.from && other.currency === rate.to;
  // Tokens have a price, not a rate of exchange.
  if (!isFitting || rate.from === rate.to || [rate.from, rate.to].includes(TOKEN_UNIT)) {
    return { outcome: "rate_does_not_fit" };
  }
  const [given, gotten, rounding] = await Promise.all([
    openOwn(db, "exchange", "exchange", rate.from, now),
    openOwn(db, "exchange", "exchange", rate.to, now),
    openOwn(db, "rounding", "rounding", rate.to, now),
  ]);
  return { given, gotten, rounding };
}

export async function readBalance(db: Sql, accountId: AccountId): Promise<AccountBalance | null> {
  const [row] = await rows<{
    owner: string;
    currency: string;
    credits_posted: string;
    debits_posted: string;
    debits_pending: string;
    reversed: string;
  }>(
    db,
    sql`
      select owner, currency, credits_posted_nanos as credits_posted,
        debits_posted_nanos as debits_posted, debits_pending_nanos as debits_pending,
        reversed_nanos as reversed
      from account where id = ${accountId}`,
  );
  if (row === undefined) return null;
  const { owner, currency } = row;
  return { accountId, owner, currency, ...budgetBalance(readSums(row)) };
}

/** The sums of an account, as statements name them, that its balance is made of. */
export function readSums(row: {
  credits_posted: string;
  debits_posted: string;
  debits_pending: string;
  reversed: string;
}): Sums {
  return {
    creditsPostedNanos: readNanos(row.credits_posted),
    debitsPostedNanos: readNanos(row.debits_posted),
    debitsPendingNanos: readNanos(row.debits_pending),
    reversedNanos: readNanos(row.reversed),
  };
}

export async function findAccountOf(
  db: Sql,
  kind: AccountKind,
  owner: string,
): Promise<AccountId | null> {
  const [row] = await rows<{ id: AccountId }>(
    db,
    sql`select id from account where kind = ${kind} and owner = ${owner}`,
  );
  return row?.id ?? null;
}

/** An account's history: the transfers that touch it. */
import { sql } from "drizzle-orm";
import type { Sql } from "../db/database.ts";
import { readNanos, readTime, rows } from "../db/rows.ts";
import type { AccountId, TransferId } from "../runtime/ids.ts";
import type { StatementLine } from "./ledger.ts";

export async function readStatement(
  db: Sql,
  accountId: AccountId,
  { limit, before }: { limit: number; before?: TransferId },
): Promise<StatementLine[]> {
  const older =
    before === undefined
      ? sql`true`
      : sql`(created_at, id) < (select created_at, id from transfer where id = ${before})`;
  // Three branches, an index each: as debtor, as creditor, as an enclosing budget.
  const branch = (touches: ReturnType<typeof sql>) => sql`
    (select * from transfer where ${touches} and ${older}
    order by created_at desc, id desc limit ${limit})`;
  const found = await rows<{
    id: TransferId;
    kind: StatementLine["kind"];
    reason: string;
    debit_owner: string;
    credit_owner: string;
    amount_nanos: string;
    created_at: string;
  }>(
    db,
    sql`
      select found.id, found.kind, found.reason, debit.owner as debit_owner,
        credit.owner as credit_owner, found.amount_nanos, found.created_at
      from (
        ${branch(sql`debit_account_id = ${accountId}`)}
        union all
        ${branch(sql`credit_account_id = ${accountId}`)}
        union all
        ${branch(sql`within @> array[${accountId}]::text[]`)}
      ) as found
      join account as debit on debit.id = found.debit_account_id
      join account as credit on credit.id = found.credit_account_id
      order by found.created_at desc, found.id desc
      limit ${limit}`,
  );
  return found.map((row) => ({
    transferId: row.id,
    kind: row.kind,
    reason: row.reason,
    debitOwner: row.debit_owner,
    creditOwner: row.credit_owner,
    amountNanos: readNanos(row.amount_nanos),
    at: readTime(row.created_at),
  }));
}

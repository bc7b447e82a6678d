/** What happens to a project's budgets by the calendar, in the table of budget events. */
import { sql } from "drizzle-orm";
import type { Sql } from "../db/database.ts";
import { type EpochMs, rfc3339 } from "../runtime/clock.ts";
import type { AccountId } from "../runtime/ids.ts";

/** With the account's balance as it is then; in the transaction that makes it so. */
export async function recordEvent(
  transaction: Sql,
  event: { account: AccountId; kind: "replenished" | "lapsed"; now: EpochMs },
): Promise<void> {
  await transaction.execute(sql`
    insert into budget_event (account_id, kind, funded_nanos, spent_nanos, at)
    select id, ${event.kind}, credits_posted_nanos - reversed_nanos,
      debits_posted_nanos - reversed_nanos, ${rfc3339(event.now)}
    from account where id = ${event.account}`);
}

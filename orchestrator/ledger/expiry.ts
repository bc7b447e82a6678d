/** Reservations that nobody resolved: which they are, and what becomes of them. */
import { type SQL, sql } from "drizzle-orm";
import type { Sql } from "../db/database.ts";
import { readNanos, rows } from "../db/rows.ts";
import type { Nanos } from "../money.ts";
import { type EpochMs, rfc3339 } from "../runtime/clock.ts";
import { derivedId, type TransferId } from "../runtime/ids.ts";
import { EXPIRED_REASON, type ResolveRequest } from "./decide.ts";

export interface Unresolved {
  id: TransferId;
  amountNanos: Nanos;
  expiresTo: "post" | "void";
}

export async function findExpired(
  db: Sql,
  { from, now, limit }: { from: EpochMs | null; now: EpochMs; limit: number },
): Promise<Unresolved[]> {
  return findUnresolved(
    db,
    sql`expires_at <= ${rfc3339(now)} and expires_at >= ${rfc3339(from ?? 0)}`,
    limit,
  );
}

/** Those made before, whose time is not over: of the others `expire` takes care. */
export async function findLeftOver(
  db: Sql,
  { madeBefore, now }: { madeBefore: EpochMs; now: EpochMs },
): Promise<Unresolved[]> {
  return findUnresolved(
    db,
    sql`expires_at > ${rfc3339(now)} and created_at < ${rfc3339(madeBefore)}`,
    null,
  );
}

async function findUnresolved(db: Sql, which: SQL, limit: number | null): Promise<Unresolved[]> {
  const found = await rows<{
    id: TransferId;
    amount_nanos: string;
    expires_to: Unresolved["expiresTo"];
  }>(
    db,
    sql`
      select id, amount_nanos, expires_to from transfer as pending
      where kind = 'pending' and ${which}
        and not exists (select from transfer where pending_id = pending.id)
      order by expires_at, id
      limit ${limit}`,
  );
  return found.map((row) => ({
    id: row.id,
    amountNanos: readNanos(row.amount_nanos),
    expiresTo: row.expires_to,
  }));
}

/** As the reservation says. The id comes from it: two that do it at once do it once. */
export function expiryOf({ id: pendingId, amountNanos, expiresTo }: Unresolved): ResolveRequest {
  const id = derivedId("transfer", "expire", pendingId);
  const common = { id, pendingId, reason: EXPIRED_REASON };
  if (expiresTo === "void") return { op: "release", ...common };
  return { op: "settle", ...common, amountNanos };
}

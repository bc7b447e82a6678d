/** The calls port over PostgreSQL: one transaction for a call's row and its money. */
import { sql } from "drizzle-orm";
import type { Database, Sql } from "../../orchestrator/db/database.ts";
import { rows } from "../../orchestrator/db/rows.ts";
import type { Ledger } from "../../orchestrator/ledger/ledger.ts";
import { rfc3339 } from "../../orchestrator/runtime/clock.ts";
import type { CallId } from "../../orchestrator/runtime/ids.ts";
import type { CallBodies, Calls, FinishedCall, FinishResult } from "./calls.ts";

/** @param ledgerIn the ledger inside a transaction. */
export function createPostgresCalls(
  db: Pick<Database, "sql">,
  ledgerIn: (transaction: { sql: Sql }) => Pick<Ledger, "settle" | "release">,
): Calls {
  return { finish, attach };

  async function finish(call: FinishedCall): Promise<FinishResult> {
    return db.sql.transaction(async (transaction) => {
      // The row first: from the ledger's statement on, the project's accounts are locked.
      if (!(await insert(transaction, call))) return { outcome: "already_finished" };
      const ledger = ledgerIn({ sql: transaction });
      let hasExpired = false;
      for (const { resolutionId: id, pendingId, settledAmount } of call.reservations) {
        const result =
          settledAmount === null
            ? await ledger.release({ id, pendingId })
            : await ledger.settle({ id, pendingId, amountNanos: settledAmount });
        switch (result.outcome) {
          case "settled":
          case "released":
          case "corrected":
            break;
          case "already_resolved":
            hasExpired = true;
            break;
          case "exceeds_reservation":
          case "reservation_not_found":
            throw new Error(`finish: ${result.outcome}, of a reservation just made`);
        }
      }
      if (!hasExpired) return { outcome: "finished" };
      await rows(
        transaction,
        sql`update call set cost_nanos = reserved_nanos, is_estimated = true,
          error = 'the reservation expired before the call ended: posted in full'
        where id = ${call.id}`,
      );
      return { outcome: "expired" };
    });
  }

  async function attach(callId: CallId, { requestGzip, responseGzip }: CallBodies): Promise<void> {
    await rows(
      db.sql,
      sql`update call set request_gzip = ${requestGzip}, response_gzip = ${responseGzip}
      where id = ${callId}`,
    );
  }
}

/** Whether the row is new. */
async function insert(transaction: Sql, call: FinishedCall): Promise<boolean> {
  const { usage } = call;
  // A server's own words: NUL is no text to PostgreSQL, and the money must not wait for it.
  const error = call.error?.slice(0, 2_000).replaceAll("\0", "\ufffd") ?? null;
  const firstByteAt = call.firstByteAtMs === null ? null : rfc3339(call.firstByteAtMs);
  const inserted = await rows(
    transaction,
    sql`insert into call (
      id, trial_id, key_id, transfer_id, token_transfer_id, wire, side, model, model_requested, provider,
      price_version, reserved_nanos, cost_nanos,
      input_tokens, cache_read_tokens, cache_write_tokens, output_tokens, reasoning_tokens,
      is_estimated, status, error, started_at, first_byte_at, ended_at
    ) values (
      ${call.id}, ${call.trialId}, ${call.keyId}, ${call.transferId},
      ${call.tokenTransferId}, ${call.wire}, ${call.side},
      ${call.model}, ${call.modelRequested}, ${call.provider},
      ${call.priceVersion}, ${call.reservedNanos}, ${call.costNanos},
      ${usage.inputTokens}, ${usage.cacheReadTokens}, ${usage.cacheWriteTokens},
      ${usage.outputTokens}, ${usage.reasoningTokens},
      ${call.isEstimated}, ${call.status}, ${error},
      ${rfc3339(call.startedAtMs)}, ${firstByteAt}, ${rfc3339(call.endedAtMs)}
    )
    on conflict (id) do nothing
    returning id`,
  );
  return inserted.length === 1;
}

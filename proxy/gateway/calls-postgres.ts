/**
 * The calls port over PostgreSQL. Calls that end together are one insert, in the transaction of the
 * ledger's flush that moves their money.
 */
import { sql } from "drizzle-orm";
import type { Database, Statement } from "../../orchestrator/db/database.ts";
import type {
  BudgetBalance,
  Ledger,
  Resolution,
  ResolveResult,
} from "../../orchestrator/ledger/ledger.ts";
import { rfc3339 } from "../../orchestrator/runtime/clock.ts";
import type { Calls, FinishedCall, FinishResult } from "./calls.ts";

const ERROR_LENGTH_MAX = 2_000;

export function createPostgresCalls(
  db: Pick<Database, "sql">,
  ledger: Pick<Ledger, "resolveTogether">,
): Calls {
  return { finish };

  async function finish(call: FinishedCall): Promise<FinishResult> {
    const alongside = { statement: insertCalls, item: call };
    const results = await ledger.resolveTogether(call.reservations.map(toResolution), alongside);
    try {
      return readResults(call, results);
    } catch (error) {
      // A defect, of a reservation that is not this call's: no row without its money.
      await db.sql.execute(sql`delete from call where id = ${call.id}`);
      throw error;
    }
  }
}

function toResolution({
  resolutionId: id,
  pendingId,
  settledAmount,
}: FinishedCall["reservations"][number]): Resolution {
  if (settledAmount === null) return { op: "release", id, pendingId };
  return { op: "settle", id, pendingId, amountNanos: settledAmount };
}

function readResults(call: FinishedCall, results: readonly ResolveResult[]): FinishResult {
  let balance: BudgetBalance | null = null;
  let isCorrected = false;
  for (const [index, result] of results.entries()) {
    switch (result.outcome) {
      case "settled":
      case "released":
      case "corrected":
        isCorrected ||= result.outcome === "corrected";
        if (call.reservations[index]?.unit === "money") balance = result.balance;
        break;
      case "already_resolved":
        break;
      case "exceeds_reservation":
      case "reservation_not_found":
        throw new Error(`finish: ${result.outcome}, of a reservation just made`);
    }
  }
  if (balance === null) return { outcome: "already_finished" };
  return { outcome: isCorrected ? "corrected" : "finished", balance };
}

/** Of a repeat, the rows are there. An array in JSON is one value, however many they are. */
const INSERT_CALLS = `/* prepared: gateway.calls */
  insert into call (
    id, trial_id, key_id, transfer_id, token_transfer_id, wire, side, model, model_requested,
    provider, price_version, reserved_nanos, cost_nanos, input_tokens, cache_read_tokens,
    cache_write_tokens, long_cache_write_tokens, output_tokens, reasoning_tokens, is_estimated,
    gpu_ms, attempts, status, error, started_at, first_byte_at, ended_at
  )
  select
    id, trial_id, key_id, transfer_id, token_transfer_id, wire, side, model, model_requested,
    provider, price_version, reserved_nanos, cost_nanos, input_tokens, cache_read_tokens,
    cache_write_tokens, long_cache_write_tokens, output_tokens, reasoning_tokens, is_estimated,
    gpu_ms, attempts, status, error, started_at, first_byte_at, ended_at
  from json_to_recordset($1::json) as new (
    id text, trial_id text, key_id text, transfer_id text, token_transfer_id text, wire text,
    side text, model text, model_requested text, provider text, price_version text,
    reserved_nanos bigint, cost_nanos bigint, input_tokens bigint, cache_read_tokens bigint,
    cache_write_tokens bigint, long_cache_write_tokens bigint, output_tokens bigint,
    reasoning_tokens bigint, is_estimated boolean, gpu_ms bigint, attempts jsonb,
    status integer, error text,
    started_at timestamptz, first_byte_at timestamptz, ended_at timestamptz
  )
  on conflict (id) do nothing`;

function insertCalls(calls: readonly FinishedCall[]): Statement {
  return { text: INSERT_CALLS, values: [JSON.stringify(calls.map(toRow))] };
}

function toRow(call: FinishedCall) {
  const { usage } = call;
  return {
    id: call.id,
    trial_id: call.trialId,
    key_id: call.keyId,
    transfer_id: call.transferId,
    token_transfer_id: call.tokenTransferId,
    wire: call.wire,
    side: call.side,
    model: call.model,
    model_requested: asText(call.modelRequested),
    provider: call.provider,
    price_version: call.priceVersion,
    reserved_nanos: String(call.reservedNanos),
    cost_nanos: String(call.costNanos),
    input_tokens: usage.inputTokens,
    cache_read_tokens: usage.cacheReadTokens,
    cache_write_tokens: usage.cacheWriteTokens,
    long_cache_write_tokens: usage.longCacheWriteTokens,
    output_tokens: usage.outputTokens,
    reasoning_tokens: usage.reasoningTokens,
    is_estimated: call.isEstimated,
    gpu_ms: call.gpuMs,
    attempts: call.attempts.map((one) => ({ ...one, error: asText(one.error ?? "") || null })),
    status: call.status,
    error: call.error === null ? null : asText(call.error.slice(0, ERROR_LENGTH_MAX)),
    started_at: rfc3339(call.startedAtMs),
    first_byte_at: call.firstByteAtMs === null ? null : rfc3339(call.firstByteAtMs),
    ended_at: rfc3339(call.endedAtMs),
  };
}

/** NUL and half a surrogate pair are no text to PostgreSQL, and the money must not wait for it. */
function asText(text: string): string {
  return text.toWellFormed().replaceAll("\0", "\ufffd");
}

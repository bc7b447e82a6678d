/** The calls of a trial, as the gateway recorded them. */
import { promisify } from "node:util";
import { gunzip } from "node:zlib";
import { sql } from "drizzle-orm";
import type { Side, Wire } from "../contract/agents.ts";
import type { Call } from "../contract/calls.ts";
import type { FlowRecord } from "../contract/flows.ts";
import type { Sql } from "../db/database.ts";
import { readTime, rows } from "../db/rows.ts";
import { rfc3339 } from "../runtime/clock.ts";
import type { TrialId } from "../runtime/ids.ts";
import type { Traffic } from "../traffic/traffic.ts";

const inflate = promisify(gunzip);

type CallRow = {
  id: string;
  trial_id: string;
  wire: Wire;
  side: Side;
  model: string;
  model_requested: string;
  provider: string;
  price_version: string;
  reserved_nanos: string;
  cost_nanos: string;
  input_tokens: string;
  cache_read_tokens: string;
  cache_write_tokens: string;
  long_cache_write_tokens: string;
  output_tokens: string;
  reasoning_tokens: string;
  gpu_ms: string | null;
  attempts: Call["attempts"];
  is_estimated: boolean;
  status: number;
  error: string | null;
  started_at: string;
  first_byte_at: string | null;
  ended_at: string;
};

export async function readCalls(db: Sql, trialId: TrialId): Promise<Call[]> {
  const found = await rows<CallRow>(
    db,
    sql`select id, trial_id, wire, side, model, model_requested, provider, price_version,
        reserved_nanos, cost_nanos, input_tokens, cache_read_tokens, cache_write_tokens,
        long_cache_write_tokens, output_tokens, reasoning_tokens, gpu_ms, attempts, is_estimated,
        status, error, started_at, first_byte_at, ended_at
      from call where trial_id = ${trialId} order by started_at, id`,
  );
  return found.map(toCall);
}

/** A call with what passed, where all of it was kept. */
export interface RecordedCall extends Call {
  request: Buffer | null;
  response: Buffer | null;
}

/** Bodies are those of the record of traffic; of calls from before there was one, the row's own. */
export async function readRecordedCalls(
  db: Sql,
  traffic: Pick<Traffic, "scan">,
  trialId: TrialId,
): Promise<RecordedCall[]> {
  const flows = new Map<string, FlowRecord>();
  for await (const flow of traffic.scan({ trial_id: trialId, door: "gateway" })) {
    if (flow.call_id !== null) flows.set(flow.call_id, flow);
  }
  const found = await rows<CallRow & { request_gzip: Buffer | null; response_gzip: Buffer | null }>(
    db,
    sql`select * from call where trial_id = ${trialId} order by started_at, id`,
  );
  return Promise.all(
    found.map(async (row) => ({
      ...toCall(row),
      request: wholeBody(flows.get(row.id)?.request) ?? (await opened(row.request_gzip)),
      response: wholeBody(flows.get(row.id)?.response) ?? (await opened(row.response_gzip)),
    })),
  );
}

async function opened(gzip: Buffer | null): Promise<Buffer | null> {
  return gzip === null ? null : inflate(gzip);
}

function wholeBody(side: FlowRecord["request"] | FlowRecord["response"] | undefined) {
  const body = side?.body ?? null;
  return body === null || body.is_truncated ? null : Buffer.from(body.content, body.encoding);
}

function toCall(row: CallRow): Call {
  const startedMs = readTime(row.started_at);
  const firstByteMs = row.first_byte_at === null ? null : readTime(row.first_byte_at);
  return {
    id: row.id,
    trial_id: row.trial_id,
    wire: row.wire,
    side: row.side,
    model: row.model,
    model_requested: row.model_requested,
    provider: row.provider,
    price_version: row.price_version,
    reserved_nanos: row.reserved_nanos,
    cost_nanos: row.cost_nanos,
    usage: {
      input_tokens: Number(row.input_tokens),
      cache_read_tokens: Number(row.cache_read_tokens),
      cache_write_tokens: Number(row.cache_write_tokens),
      output_tokens: Number(row.output_tokens),
      reasoning_tokens: Number(row.reasoning_tokens),
    },
    long_cache_write_tokens: Number(row.long_cache_write_tokens),
    gpu_ms: row.gpu_ms === null ? null : Number(row.gpu_ms),
    attempts: row.attempts,
    is_estimated: row.is_estimated,
    status: row.status,
    started_at: rfc3339(startedMs),
    first_byte_ms: firstByteMs === null ? null : Math.max(0, firstByteMs - startedMs),
    duration_ms: Math.max(0, readTime(row.ended_at) - startedMs),
    error: row.error,
  };
}

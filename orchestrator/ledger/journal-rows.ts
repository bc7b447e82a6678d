/** Transfers and checkpoints as the journal's format has them: read as text, hashed as read. */
import { type SQL, sql } from "drizzle-orm";
import type { CheckpointRecord, TransferRecord } from "../contract/ledger.ts";

/** RFC 3339 with all the digits that a `timestamptz` has, so that no change of one goes unseen. */
export function instant(column: SQL): SQL {
  return sql`to_char(${column} at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"')`;
}

/** The columns of a transfer, for `select`, from a table or alias called `transfer`. */
export const TRANSFER_COLUMNS: SQL = sql`
  transfer.id, transfer.seq, transfer.kind, transfer.debit_account_id, transfer.within,
  transfer.credit_account_id, transfer.amount_nanos, transfer.pending_id, transfer.reverses_id,
  ${instant(sql`transfer.expires_at`)} as expires_at, transfer.expires_to, transfer.reason,
  transfer.note, ${instant(sql`transfer.created_at`)} as created_at`;

/** `bigint` columns come as text. */
export type TransferRow = Omit<TransferRecord, "type" | "position" | "chain" | "seq"> & {
  seq: string;
};

export interface Place {
  position: number;
  chain: Buffer;
}

export function transferRecord(row: TransferRow, place: Place | null): TransferRecord {
  return {
    type: "transfer",
    position: place?.position ?? null,
    chain: place?.chain.toString("hex") ?? null,
    id: row.id,
    seq: Number(row.seq),
    kind: row.kind,
    debit_account_id: row.debit_account_id,
    within: row.within,
    credit_account_id: row.credit_account_id,
    amount_nanos: row.amount_nanos,
    pending_id: row.pending_id,
    reverses_id: row.reverses_id,
    expires_at: row.expires_at,
    expires_to: row.expires_to,
    reason: row.reason,
    note: row.note,
    created_at: row.created_at,
  };
}

export type CheckpointRow = {
  position: string;
  chain: Buffer;
  signed_at: string;
  key_id: string;
  signature: Buffer;
};

export function checkpointRecord(row: CheckpointRow): CheckpointRecord {
  return {
    type: "checkpoint",
    position: Number(row.position),
    chain: row.chain.toString("hex"),
    signed_at: row.signed_at,
    key_id: row.key_id,
    signature: row.signature.toString("base64"),
  };
}

/**
 * The ledger's export, a JSON object a line, and what checking one says.
 *
 * Order of the lines: `header`, each `account`, each `transfer` in the journal's order with a
 * `checkpoint` behind the transfer that it signs, the transfers that are not sealed yet, `end`.
 */
import { type Static, Type } from "typebox";
import { CurrencyCode, NanosText } from "./money.ts";

export const EXPORT_FORMAT = "autocode-ledger-export/1";

const AccountId = Type.String({ pattern: "^account_[0-7][0-9a-hjkmnp-tv-z]{25}$" });
const TransferId = Type.String({ pattern: "^transfer_[0-7][0-9a-hjkmnp-tv-z]{25}$" });
/** Microseconds always: the text is part of what is hashed. */
const Instant = Type.String({
  pattern: "^\\d{4,6}-\\d{2}-\\d{2}T\\d{2}:\\d{2}:\\d{2}\\.\\d{6}Z$",
  description: "RFC 3339 in UTC with six decimals",
});
const Hash = Type.String({ pattern: "^[0-9a-f]{64}$", description: "SHA-256 in hexadecimal" });
const Count = Type.Integer({ minimum: 0, maximum: Number.MAX_SAFE_INTEGER });
const Position = Type.Integer({ minimum: 1, maximum: Number.MAX_SAFE_INTEGER });
const KeyId = Type.String({
  pattern: "^ed25519:[A-Za-z0-9_-]{43}$",
  description: "The public key itself: 32 bytes in base64url",
});
const Signature = Type.String({ pattern: "^[A-Za-z0-9+/]{86}==$", description: "Ed25519, base64" });

/** A field more than we know of is a fault, not something to pass over. */
const CLOSED = { additionalProperties: false } as const;

export type HeaderRecord = Static<typeof HeaderRecord>;
export const HeaderRecord = Type.Object(
  {
    type: Type.Literal("header"),
    format: Type.Literal(EXPORT_FORMAT),
    exported_at: Type.String({ format: "date-time" }),
    key_id: KeyId,
  },
  CLOSED,
);

export type AccountRecord = Static<typeof AccountRecord>;
export const AccountRecord = Type.Object(
  {
    type: Type.Literal("account"),
    id: AccountId,
    kind: Type.String({ minLength: 1, maxLength: 50 }),
    owner: Type.String({ minLength: 1, maxLength: 200 }),
    currency: CurrencyCode,
    must_not_exceed: Type.Boolean(),
    debits_pending_nanos: NanosText,
    debits_posted_nanos: NanosText,
    credits_pending_nanos: NanosText,
    credits_posted_nanos: NanosText,
    reversed_nanos: NanosText,
    created_at: Instant,
  },
  CLOSED,
);

export type TransferRecord = Static<typeof TransferRecord>;
export const TransferRecord = Type.Object(
  {
    type: Type.Literal("transfer"),
    position: Type.Union([Position, Type.Null()]),
    chain: Type.Union([Hash, Type.Null()]),
    id: TransferId,
    seq: Position,
    kind: Type.Enum(["direct", "pending", "post", "void"]),
    debit_account_id: AccountId,
    within: Type.Array(AccountId, { description: "The enclosing budgets, outermost first" }),
    credit_account_id: AccountId,
    amount_nanos: NanosText,
    pending_id: Type.Union([TransferId, Type.Null()]),
    reverses_id: Type.Union([TransferId, Type.Null()]),
    expires_at: Type.Union([Instant, Type.Null()]),
    expires_to: Type.Union([Type.Union([Type.Literal("post"), Type.Literal("void")]), Type.Null()]),
    reason: Type.String({ minLength: 1, maxLength: 100 }),
    note: Type.Union([Type.String({ minLength: 1, maxLength: 500 }), Type.Null()]),
    created_at: Instant,
  },
  CLOSED,
);

export type CheckpointRecord = Static<typeof CheckpointRecord>;
export const CheckpointRecord = Type.Object(
  {
    type: Type.Literal("checkpoint"),
    position: Position,
    chain: Hash,
    signed_at: Instant,
    key_id: KeyId,
    signature: Signature,
  },
  CLOSED,
);

export type EndRecord = Static<typeof EndRecord>;
export const EndRecord = Type.Object(
  {
    type: Type.Literal("end"),
    accounts: Count,
    sealed: Count,
    unsealed: Count,
    checkpoints: Count,
    /** Of every byte before this line. */
    sha256: Hash,
    key_id: KeyId,
    signature: Signature,
  },
  CLOSED,
);

export type ExportRecord =
  | HeaderRecord
  | AccountRecord
  | TransferRecord
  | CheckpointRecord
  | EndRecord;
export const ExportRecord = Type.Union(
  [HeaderRecord, AccountRecord, TransferRecord, CheckpointRecord, EndRecord],
  { description: "A line of `autocode ledger export`" },
);

/** What is wrong with an export, in a word. */
export const LEDGER_FAULTS = [
  /** A transfer, an account or the file is not what was sealed. */
  "changed",
  "removed",
  "inserted",
  "moved",
  /** Something was changed and the chain after it made anew: a checkpoint no longer fits. */
  "rechained",
  "bad_signature",
  /** More was reserved and spent than funded. */
  "overspent",
  /** An account's balance is not the sum of its transfers. */
  "unbalanced",
  /** The ledger would have refused it. */
  "impossible",
  "cut_off",
] as const;
export type LedgerFaultKind = (typeof LEDGER_FAULTS)[number];
export const LedgerFaultKind = Type.Enum(LEDGER_FAULTS);

export type LedgerFault = Static<typeof LedgerFault>;
export const LedgerFault = Type.Object(
  {
    what: LedgerFaultKind,
    /** In the export, from 1. */
    line: Type.Integer(),
    position: Type.Union([Type.Integer(), Type.Null()]),
    transfer_id: Type.Union([Type.String(), Type.Null()]),
    account_id: Type.Union([Type.String(), Type.Null()]),
    detail: Type.String(),
  },
  CLOSED,
);

/** A public key that signed something in the export. */
export type LedgerKey = Static<typeof LedgerKey>;
export const LedgerKey = Type.Object(
  {
    key_id: Type.String(),
    fingerprint: Type.String({ examples: ["SHA256:47DEQpj8HBSa-_TImW-5JCeuQeRkm5NMpJWZG3hSuFU"] }),
    /** The public key in PEM. */
    public_key: Type.String(),
  },
  CLOSED,
);

export type LedgerReport = Static<typeof LedgerReport>;
export const LedgerReport = Type.Object(
  {
    is_intact: Type.Boolean(),
    /** Whether the signatures were held against a key that was named beforehand. */
    is_key_trusted: Type.Boolean(),
    accounts: Count,
    /** Transfers in the chain, and behind it. */
    sealed: Count,
    unsealed: Count,
    checkpoints: Count,
    /** Sealed transfers that no checkpoint covers yet. */
    unsigned: Count,
    /** The chain at its end. */
    chain: Type.String(),
    last_signed_at: Type.Union([Type.String(), Type.Null()]),
    keys: Type.Array(LedgerKey),
    fault: Type.Union([LedgerFault, Type.Null()]),
  },
  CLOSED,
);

export type LedgerStatus = Static<typeof LedgerStatus>;
export const LedgerStatus = Type.Object(
  {
    key: LedgerKey,
    sealed: Count,
    unsealed: Count,
    checkpoints: Count,
    last_signed_at: Type.Union([Type.String(), Type.Null()]),
  },
  CLOSED,
);

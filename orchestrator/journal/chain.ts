/**
 * The journal's arithmetic: which bytes of a transfer are hashed, how the chain goes on, what a
 * checkpoint signs. Whoever writes the journal and whoever checks an export use this one file.
 *
 * Invariant: the bytes of version 1 never change (verify.test.ts.snapshot has an example that other
 * programs can be checked against).
 */
import { createHash, createPublicKey, type KeyObject, verify } from "node:crypto";
import type { CheckpointRecord, LedgerKey, TransferRecord } from "../contract/ledger.ts";

/** The fields that the chain covers: all but the place in it. */
export type SealedTransfer = Omit<TransferRecord, "type" | "position" | "chain">;

const VERSION = "1";
/** The chain before the first transfer. */
export const GENESIS: Buffer = createHash("sha256").update("autocode ledger journal 1").digest();

/**
 * A transfer's bytes, version 1: the UTF-8 of a JSON array without white space, of strings, nulls
 * and one array of strings (`within`), escaped as ECMA-262's JSON.stringify does, in this order.
 */
export function transferContent(transfer: SealedTransfer): string {
  return JSON.stringify([
    VERSION,
    transfer.id,
    String(transfer.seq),
    transfer.kind,
    transfer.debit_account_id,
    transfer.within,
    transfer.credit_account_id,
    transfer.amount_nanos,
    transfer.pending_id,
    transfer.reverses_id,
    transfer.expires_at,
    transfer.expires_to,
    transfer.reason,
    transfer.note,
    transfer.created_at,
  ]);
}

/** SHA-256 of the 32 bytes of the chain before, and the transfer's bytes. */
export function nextChain(chain: Uint8Array, transfer: SealedTransfer): Buffer {
  return createHash("sha256").update(chain).update(transferContent(transfer)).digest();
}

/** What a checkpoint's signature is over. The first line keeps it from meaning anything else. */
export function checkpointMessage(
  checkpoint: Pick<CheckpointRecord, "position" | "chain" | "signed_at">,
): Buffer {
  const { position, chain, signed_at: signedAt } = checkpoint;
  return Buffer.from(`autocode ledger checkpoint 1\n${position}\n${chain}\n${signedAt}\n`);
}

/** What the signature of an export's `end` is over. */
export function exportMessage(sha256: string): Buffer {
  return Buffer.from(`autocode ledger export 1\n${sha256}\n`);
}

/** The id of an Ed25519 public key is the key: who has the id needs to look nothing up. */
export function keyIdOf(publicKey: KeyObject): string {
  const { x } = publicKey.export({ format: "jwk" });
  if (publicKey.asymmetricKeyType !== "ed25519" || x === undefined) {
    throw new RangeError("keyIdOf: the key is not an Ed25519 key");
  }
  return `ed25519:${x}`;
}

/** Whether `signature` (base64) over `message` was made by the key whose id is `keyId`. */
export function isSignedBy(keyId: string, message: Uint8Array, signature: string): boolean {
  return verify(null, message, publicKeyOf(keyId), Buffer.from(signature, "base64"));
}

/** What people compare: short, and bound to the whole key. */
export function describeKey(keyId: string): LedgerKey {
  const raw = Buffer.from(keyId.replace(/^ed25519:/, ""), "base64url");
  const digest = createHash("sha256").update(raw).digest("base64url");
  const pem = publicKeyOf(keyId).export({ type: "spki", format: "pem" });
  return { key_id: keyId, fingerprint: `SHA256:${digest}`, public_key: String(pem) };
}

function publicKeyOf(keyId: string): KeyObject {
  const x = keyId.replace(/^ed25519:/, "");
  return createPublicKey({ key: { kty: "OKP", crv: "Ed25519", x }, format: "jwk" });
}

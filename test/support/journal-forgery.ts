/** An export made anew around what was done to it, as far as a forger can. */
import { createHash } from "node:crypto";
import type {
  CheckpointRecord,
  ExportRecord,
  TransferRecord,
} from "../../orchestrator/contract/ledger.ts";
import {
  checkpointMessage,
  exportMessage,
  GENESIS,
  nextChain,
} from "../../orchestrator/journal/chain.ts";
import { createTestSigner, textOf } from "./journal.ts";

/** Positions without gaps. */
export function renumbered(given: readonly ExportRecord[]): ExportRecord[] {
  let position = 0;
  return given.map((record) =>
    record.type === "transfer" && record.position !== null
      ? { ...record, position: ++position }
      : record,
  );
}

/** With positions, numbers and chains made anew; checkpoints as they were. */
export function rechained(given: readonly ExportRecord[]): ExportRecord[] {
  let chain: Buffer = GENESIS;
  let seq = 0;
  return renumbered(given).map((record) => {
    if (record.type !== "transfer" || record.position === null) return record;
    const next = { ...record, seq: ++seq };
    chain = nextChain(chain, next);
    return { ...next, chain: chain.toString("hex") };
  });
}

/** Everything made anew, as who holds the key could do it. */
export async function resigned(
  given: readonly ExportRecord[],
  signer = createTestSigner(),
): Promise<string> {
  const done: ExportRecord[] = [];
  let last: TransferRecord | null = null;
  const counts = { accounts: 0, sealed: 0, unsealed: 0, checkpoints: 0 };
  for (const record of rechained(given)) {
    if (record.type === "transfer" && record.position !== null) last = record;
    if (record.type === "transfer") counts[record.position === null ? "unsealed" : "sealed"] += 1;
    if (record.type === "account") counts.accounts += 1;
    if (record.type === "checkpoint") {
      counts.checkpoints += 1;
      const place = { position: last?.position ?? 0, chain: last?.chain ?? "" };
      const unsigned: CheckpointRecord = { ...record, ...place };
      const { keyId, signature } = await signer.sign(checkpointMessage(unsigned));
      done.push({ ...unsigned, key_id: keyId, signature });
    } else if (record.type === "header") done.push({ ...record, key_id: signer.keyId });
    else if (record.type !== "end") done.push(record);
  }
  const text = textOf(done);
  const sha256 = createHash("sha256").update(text).digest("hex");
  const { keyId, signature } = await signer.sign(exportMessage(sha256));
  return text + textOf([{ type: "end", ...counts, sha256, key_id: keyId, signature }]);
}

/** A journal and an export over a test ledger, and a key that is the same in every run. */
import { createPrivateKey, createPublicKey, sign } from "node:crypto";
import { text } from "node:stream/consumers";
import type { ExportRecord, LedgerReport } from "../../orchestrator/contract/ledger.ts";
import { keyIdOf } from "../../orchestrator/journal/chain.ts";
import { type VerifyOptions, verifyExport } from "../../orchestrator/journal/verify.ts";
import {
  createJournal,
  type JournalOptions,
  type Signer,
} from "../../orchestrator/ledger/journal.ts";
import { createLedgerExport } from "../../orchestrator/ledger/journal-export.ts";
import type { TestLedger } from "./ledger.ts";

/** PKCS 8 around 32 bytes: RFC 8410. */
const PKCS8_HEAD = Buffer.from("302e020100300506032b657004220420", "hex");

/** A signer whose key is made of `seed`, a byte. */
export function createTestSigner(seed = 7): Signer & { keyId: string } {
  const der = Buffer.concat([PKCS8_HEAD, Buffer.alloc(32, seed)]);
  const privateKey = createPrivateKey({ key: der, format: "der", type: "pkcs8" });
  const keyId = keyIdOf(createPublicKey(privateKey));
  return {
    keyId,
    sign: async (message) => ({
      keyId,
      signature: sign(null, message, privateKey).toString("base64"),
    }),
    publicKey: async () => keyId,
  };
}

export function openTestJournal(
  { database, clock }: Pick<TestLedger, "database" | "clock">,
  options: JournalOptions = {},
) {
  const signer = createTestSigner();
  const journal = createJournal(database, clock, signer, options);
  const ledgerExport = createLedgerExport(database, clock, journal, signer);
  return {
    journal,
    signer,
    ledgerExport,
    exportText: async () => text(await ledgerExport.open()),
  };
}

/** Checks an export that is held in memory, given to the check in pieces of `pieceBytes`. */
export function verifyText(
  exported: string,
  options: VerifyOptions = {},
  pieceBytes = 65_536,
): Promise<LedgerReport> {
  const bytes = Buffer.from(exported);
  return verifyExport(async function* () {
    for (let at = 0; at < bytes.length; at += pieceBytes) yield bytes.subarray(at, at + pieceBytes);
  }, options);
}

export function recordsOf(exported: string): ExportRecord[] {
  return exported
    .split("\n")
    .filter((line) => line !== "")
    .map((line) => JSON.parse(line) as ExportRecord);
}

export function textOf(records: readonly unknown[]): string {
  return records.map((record) => `${JSON.stringify(record)}\n`).join("");
}

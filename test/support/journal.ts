/** A journal and an export over a test ledger, and a key that is the same in every run. */
import assert from "node:assert/strict";
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
import type { TransferId } from "../../orchestrator/runtime/ids.ts";
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
    publicKeys: async () => [keyId],
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

/**
 * A ledger with something of everything: nested budgets, tokens, posts, voids, an expiry and its
 * correction, reversals whole and in part, notes. Sealed and signed three times on the way.
 */
export async function makeHistory(
  world: TestLedger,
  journal: Pick<ReturnType<typeof openTestJournal>["journal"], "catchUp">,
): Promise<void> {
  const { ledger, ids, clock } = world;
  const outer = await world.openBudget(100_000n);
  const inner = await world.openBudget(50_000n, [outer.budget]);
  const { budget, spend, within } = inner;
  const posted: TransferId[] = [];
  for (let round = 0; round < 9; round++) {
    clock.ms += 1_000;
    const pendingId = ids.next("transfer");
    const id = ids.next("transfer");
    const amountNanos = BigInt(100 + round);
    await ledger.reserve({ id: pendingId, budget, within, spend, amountNanos, timeoutMs: 10_000 });
    if (round % 3 === 0) await ledger.release({ id, pendingId });
    else {
      await ledger.settle({ id, pendingId, amountNanos: BigInt(50 + round) });
      posted.push(id);
    }
    if (round % 4 === 3) await journal.catchUp();
  }
  const [first, second] = posted;
  assert.ok(first !== undefined && second !== undefined);
  await ledger.reverse({ id: ids.next("transfer"), transferId: first, note: "a mistake" });
  for (const amountNanos of [10n, 7n]) {
    const id = ids.next("transfer");
    await ledger.reverse({ id, transferId: second, amountNanos, note: "in part" });
  }
  const late = ids.next("transfer");
  await ledger.reserve({ id: late, budget, within, spend, amountNanos: 30n, timeoutMs: 1 });
  clock.ms += 1_000;
  assert.equal(await ledger.expire(10), 1);
  const corrected = { id: ids.next("transfer"), pendingId: late, amountNanos: 20n };
  assert.equal((await ledger.settle(corrected)).outcome, "corrected");
  const open = { id: ids.next("transfer"), budget, within, spend, amountNanos: 9n };
  await ledger.reserve({ ...open, timeoutMs: 60_000, expiresTo: "void" });
  await journal.catchUp();
}

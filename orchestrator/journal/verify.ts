/**
 * Checks an export of the ledger with nothing but the export: the chain over the transfers, the
 * signatures over the chain, the books that the transfers make, the digest over the whole.
 *
 * Invariant: what is kept in memory grows with the accounts and the open reservations, not with
 * the history. The first thing that is wrong ends the check, and is named as closely as it can be.
 */
import { createHash } from "node:crypto";
import type {
  CheckpointRecord,
  EndRecord,
  ExportRecord,
  LedgerFault,
  LedgerReport,
  TransferRecord,
} from "../contract/ledger.ts";
import {
  checkpointMessage,
  describeKey,
  exportMessage,
  GENESIS,
  isSignedBy,
  nextChain,
} from "./chain.ts";
import { diagnose } from "./diagnose.ts";
import { linesOf, type OpenExport, readLine } from "./lines.ts";
import { createReplay, type Replay } from "./replay.ts";

export interface VerifyOptions {
  /** Keys that may have signed; empty: any, so that signatures prove no more than consistency. */
  trustedKeyIds?: readonly string[];
  /** Fingerprints, where that is all that is known of a key. */
  trustedFingerprints?: readonly string[];
  /** Called every now and then with how many transfers have been checked. */
  onProgress?: (transfers: number) => void;
}

type Found = Partial<LedgerFault> & Pick<LedgerFault, "what" | "detail">;

const PROGRESS_EVERY = 10_000;

export async function verifyExport(
  open: OpenExport,
  options: VerifyOptions = {},
): Promise<LedgerReport> {
  const check = createCheck(createReplay(await reversedIds(open)), options);
  let fault: LedgerFault | null = null;
  let line = 0;
  for await (const text of linesOf(open())) {
    line += 1;
    const found = check.next(text, line);
    if (found === null) continue;
    fault = complete(found, line);
    break;
  }
  fault ??= withLine(check.end(), line);
  if (fault !== null && check.chainBefore() !== null) {
    const before = check.chainBefore() ?? GENESIS;
    fault = await diagnose(open, { fault, before });
  }
  return check.report(fault);
}

/** Transfers that others take back. A light look: the lines are checked in the one that follows. */
async function reversedIds(open: OpenExport): Promise<Set<string>> {
  const found = new Set<string>();
  for await (const text of linesOf(open())) {
    const [, id] = /"reverses_id":"(transfer_[0-9a-z]{26})"/.exec(text) ?? [];
    if (id !== undefined) found.add(id);
  }
  return found;
}

function createCheck(replay: Replay, options: VerifyOptions) {
  const { trustedKeyIds = [], trustedFingerprints = [], onProgress = () => {} } = options;
  const isKeyTrusted = trustedKeyIds.length + trustedFingerprints.length > 0;
  const digest = createHash("sha256");
  const keyIds = new Set<string>();
  const counts = { accounts: 0, sealed: 0, unsealed: 0, checkpoints: 0, signed: 0 };
  let state: "header" | "accounts" | "transfers" | "unsealed" | "over" = "header";
  let chain: Buffer = GENESIS;
  let lastSeq = 0;
  let lastSignedAt: string | null = null;
  /** The chain before the transfer at which it broke, or which is not there. */
  let brokenAfter: Buffer | null = null;
  return { next, end, report, chainBefore: () => brokenAfter };

  function next(text: string, line: number): Found | null {
    const read = readLine(text);
    if ("flaw" in read) return { what: "changed", detail: `Not a record: ${read.flaw}` };
    const { record } = read;
    const found = outOfOrder(record) ?? take(record, line);
    digest.update(text).update("\n");
    return found;
  }

  /** The parts of an export follow each other in one order. */
  function outOfOrder({ type }: ExportRecord): Found | null {
    const allowed = {
      header: ["header"],
      accounts: ["account", "transfer", "end"],
      transfers: ["transfer", "checkpoint", "end"],
      unsealed: ["transfer", "end"],
      over: [],
    }[state] as readonly string[];
    if (allowed.includes(type)) return null;
    return { what: "moved", detail: `A ${type} record cannot stand here` };
  }

  function take(record: ExportRecord, line: number): Found | null {
    switch (record.type) {
      case "header":
        state = "accounts";
        return unknownKey(record.key_id);
      case "account":
        counts.accounts += 1;
        return replay.open(record, line);
      case "transfer": {
        const total = counts.sealed + counts.unsealed;
        if (total % PROGRESS_EVERY === 0 && total > 0) onProgress(total);
        return named(record, transfer(record));
      }
      case "checkpoint":
        return checkpoint(record);
      case "end":
        state = "over";
        return endRecord(record);
    }
  }

  function transfer(record: TransferRecord): Found | null {
    if (record.position === null || record.chain === null) return unsealed(record);
    if (state === "unsealed") return { what: "moved", detail: "Sealed, behind one that is not" };
    state = "transfers";
    const computed = nextChain(chain, record);
    if (computed.toString("hex") !== record.chain) {
      brokenAfter = chain;
      return { what: "changed", detail: "Its chain is not that of its content" };
    }
    counts.sealed += 1;
    chain = computed;
    if (record.position !== counts.sealed) {
      const detail = `Its position is ${record.position}, and it stands at ${counts.sealed}`;
      return { what: "changed", detail };
    }
    return ordered(record) ?? replay.apply(record);
  }

  function unsealed(record: TransferRecord): Found | null {
    state = "unsealed";
    counts.unsealed += 1;
    if (record.position !== null || record.chain !== null) {
      return { what: "changed", detail: "It has a position without a chain, or the reverse" };
    }
    return ordered(record) ?? replay.apply(record);
  }

  function ordered({ seq, position }: TransferRecord): Found | null {
    if (seq > lastSeq) {
      lastSeq = seq;
      return null;
    }
    // What is sealed has every lower number before it, so this came in behind the journal's back.
    const what = position === null ? "inserted" : "moved";
    return { what, detail: `Its number ${seq} is not above ${lastSeq}, the one before it` };
  }

  function checkpoint(record: CheckpointRecord): Found | null {
    const { position } = record;
    counts.checkpoints += 1;
    keyIds.add(record.key_id);
    const about = { position };
    const untrusted = unknownKey(record.key_id);
    if (untrusted !== null) return { ...untrusted, ...about };
    if (!isSignedBy(record.key_id, checkpointMessage(record), record.signature)) {
      const detail = "The checkpoint's signature is not over its position, chain and time";
      return { what: "bad_signature", detail, ...about };
    }
    if (position > counts.sealed) {
      brokenAfter = chain;
      const detail = `The checkpoint signs ${position} transfers, and ${counts.sealed} are there`;
      return { what: "removed", detail, position: counts.sealed + 1 };
    }
    if (position < counts.sealed) {
      const detail = `The checkpoint signs ${position} transfers, behind ${counts.sealed}`;
      return { what: "moved", detail, ...about };
    }
    if (record.chain !== chain.toString("hex")) {
      const from = counts.signed + 1;
      const detail =
        `What was signed at ${position} is another chain: of the transfers ${from} to ` +
        `${position} some were changed, removed or inserted, and the chain made anew`;
      return { what: "rechained", detail, position: from };
    }
    counts.signed = position;
    lastSignedAt = record.signed_at;
    return null;
  }

  function unknownKey(keyId: string): Found | null {
    if (!isKeyTrusted || trustedKeyIds.includes(keyId)) return null;
    const { fingerprint } = describeKey(keyId);
    if (trustedFingerprints.includes(fingerprint)) return null;
    return { what: "bad_signature", detail: `Signed by ${fingerprint}, another key than yours` };
  }

  function endRecord(record: EndRecord): Found | null {
    const missing = (["accounts", "sealed", "unsealed", "checkpoints"] as const).find(
      (name) => counts[name] !== record[name],
    );
    if (missing !== undefined) {
      const what = counts[missing] < record[missing] ? "removed" : "inserted";
      const thing = { sealed: "sealed transfers", unsealed: "unsealed transfers" };
      const name = missing in thing ? thing[missing as keyof typeof thing] : missing;
      const [said, seen] = [record[missing], counts[missing]];
      const detail = `The export ends with ${said} ${name}; ${seen} are there`;
      return { what, detail };
    }
    const imbalance = replay.imbalance();
    if (imbalance !== null) return imbalance;
    keyIds.add(record.key_id);
    const untrusted = unknownKey(record.key_id);
    if (untrusted !== null) return untrusted;
    if (digest.copy().digest("hex") !== record.sha256) {
      const detail = "The file is not as it was written: something outside the chain was changed";
      return { what: "changed", detail };
    }
    if (isSignedBy(record.key_id, exportMessage(record.sha256), record.signature)) return null;
    return { what: "bad_signature", detail: "The signature at the end is not over this export" };
  }

  function end(): Found | null {
    if (state === "over") return null;
    return { what: "cut_off", detail: "The export has no end: its last lines are missing" };
  }

  function report(fault: LedgerFault | null): LedgerReport {
    return {
      is_intact: fault === null,
      is_key_trusted: isKeyTrusted,
      accounts: replay.accountCount(),
      sealed: counts.sealed,
      unsealed: counts.unsealed,
      checkpoints: counts.checkpoints,
      unsigned: counts.sealed - counts.signed,
      chain: chain.toString("hex"),
      last_signed_at: lastSignedAt,
      keys: [...keyIds].map(describeKey),
      fault,
    };
  }
}

function named({ id, position }: TransferRecord, found: Found | null): Found | null {
  return found === null ? null : { transfer_id: id, position, ...found };
}

function withLine(found: Found | null, line: number): LedgerFault | null {
  return found === null ? null : complete(found, line);
}

function complete(found: Found, line: number): LedgerFault {
  return { line, position: null, transfer_id: null, account_id: null, ...found };
}

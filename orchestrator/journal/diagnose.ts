/**
 * What happened where the chain broke: was the transfer there changed, or one before it removed,
 * inserted or moved? The chain tells that two neighbours do not fit; the rest of the export tells
 * why: each transfer's own chain fits one predecessor only, wherever that now stands.
 */
import type {
  CheckpointRecord,
  EndRecord,
  ExportRecord,
  LedgerFault,
  TransferRecord,
} from "../contract/ledger.ts";
import { checkpointMessage, exportMessage, GENESIS, isSignedBy, nextChain } from "./chain.ts";
import { linesOf, type OpenExport, readLine } from "./lines.ts";

/** A sealed transfer as it stands in the export; `ordinal` counts them from 1. */
interface Row {
  line: number;
  ordinal: number;
  position: number;
  id: string;
  chain: string;
}

interface Look {
  rows: Row[];
  broken: TransferRecord;
  brokenRow: Row;
  /** The transfer behind the broken one. */
  following: TransferRecord | null;
  /** Where a transfer stands that follows the chain before the broken one. */
  successor: Row | null;
  checkpoints: CheckpointRecord[];
  end: EndRecord | null;
}

interface Break {
  /** At the first transfer whose chain does not follow from the one before. */
  fault: LedgerFault;
  /** The chain before it. */
  before: Buffer;
}

export async function diagnose(open: OpenExport, { fault, before }: Break): Promise<LedgerFault> {
  const { look, successor } = await lookThrough(open, fault.line, before);
  if (look !== null) return explain(look, before, fault);
  // A checkpoint misses the transfer before it, which may stand elsewhere.
  if (successor === null) return fault;
  return about(successor, "moved", `It belongs before line ${fault.line}, the checkpoint there`);
}

function explain(look: Look, before: Buffer, fault: LedgerFault): LedgerFault {
  const { rows, broken, brokenRow, successor } = look;
  const copy = rows.find(({ chain, line }) => chain === broken.chain && line !== brokenRow.line);
  if (copy !== undefined) {
    return about(brokenRow, "inserted", `A copy of the transfer at line ${copy.line}`);
  }
  const predecessor = predecessorOf(rows, broken);
  if (predecessor !== null && predecessor.line < brokenRow.line) {
    // What stands between the two was put there, with a chain of its own that fits.
    const first = rows[predecessor.ordinal];
    if (first !== undefined && first.line !== brokenRow.line) {
      const detail = `The transfer behind it follows the one before it: it does not belong here`;
      return about(first, "inserted", detail);
    }
  }
  if (predecessor !== null && successor?.line === predecessor.line) {
    const detail = `It belongs to line ${brokenRow.line}, before ${broken.id}`;
    return about(successor, "moved", detail);
  }
  if (predecessor !== null) {
    const detail = `It belongs behind ${predecessor.id}, which stands at line ${predecessor.line}`;
    return about(brokenRow, "moved", detail);
  }
  if (successor !== null) {
    const detail = `${successor.id} follows the transfer before it: this one does not belong here`;
    return about(brokenRow, "inserted", detail);
  }
  const standing = brokenRow.ordinal;
  if (brokenRow.position > standing) return removed(brokenRow, standing, brokenRow.position - 1);
  const tally = countUp(look);
  if (tally < 0) return removed(brokenRow, standing, standing - tally - 1);
  if (tally > 0) {
    const detail = `There ${tally === 1 ? "is" : "are"} ${tally} more than were sealed`;
    return about(brokenRow, "inserted", detail);
  }
  return { ...fault, detail: changeOf(look, before) };
}

function changeOf({ broken, following }: Look, before: Buffer): string {
  const isChainAlone =
    following !== null &&
    nextChain(nextChain(before, broken), following).toString("hex") === following.chain;
  return isChainAlone
    ? "Its chain was changed: its content fits those beside it"
    : "Its content is not what was sealed";
}

function removed(row: Row, from: number, to: number): LedgerFault {
  const which =
    from === to ? `The transfer at position ${from} is` : `Positions ${from} to ${to} are`;
  return {
    ...about(row, "removed", `${which} missing before ${row.id}`),
    position: from,
    transfer_id: null,
  };
}

/** How many transfers too many (or, below 0, too few) stand before the next thing signed. */
function countUp({ rows, brokenRow, checkpoints, end }: Look): number {
  const byChain = new Map(rows.map((row) => [row.chain, row]));
  for (const checkpoint of checkpoints) {
    const { key_id: keyId, signature, chain, position } = checkpoint;
    const row = byChain.get(chain);
    if (row === undefined || row.line <= brokenRow.line) continue;
    if (isSignedBy(keyId, checkpointMessage(checkpoint), signature)) return row.ordinal - position;
  }
  if (end === null || !isSignedBy(end.key_id, exportMessage(end.sha256), end.signature)) return 0;
  return rows.length - end.sealed;
}

function predecessorOf(rows: readonly Row[], broken: TransferRecord): Row | null {
  const fits = (chain: Uint8Array) => nextChain(chain, broken).toString("hex") === broken.chain;
  if (fits(GENESIS)) return { line: 0, ordinal: 0, position: 0, id: "the beginning", chain: "" };
  return rows.find(({ chain }) => fits(Buffer.from(chain, "hex"))) ?? null;
}

async function lookThrough(
  open: OpenExport,
  brokenLine: number,
  before: Buffer,
): Promise<{ look: Look | null; successor: Row | null }> {
  const rows: Row[] = [];
  const checkpoints: CheckpointRecord[] = [];
  const found: { [Name in "broken" | "following"]?: TransferRecord } = {};
  let brokenRow: Row | null = null;
  let successor: Row | null = null;
  let end: EndRecord | null = null;
  let line = 0;
  for await (const text of linesOf(open())) {
    line += 1;
    const record = recordOf(text);
    if (record?.type === "checkpoint") checkpoints.push(record);
    if (record?.type === "end") end = record;
    if (record?.type !== "transfer" || record.position === null || record.chain === null) continue;
    const { position, id, chain } = record;
    const row = { line, ordinal: rows.length + 1, position, id, chain };
    rows.push(row);
    if (line > brokenLine) found.following ??= record;
    if (line === brokenLine) {
      found.broken = record;
      brokenRow = row;
    } else if (successor === null && nextChain(before, record).toString("hex") === chain) {
      successor = row;
    }
  }
  const { broken, following = null } = found;
  if (broken === undefined || brokenRow === null) return { look: null, successor };
  return {
    look: { rows, broken, brokenRow, following, successor, checkpoints, end },
    successor,
  };
}

function recordOf(text: string): ExportRecord | null {
  const read = readLine(text);
  return "record" in read ? read.record : null;
}

function about(row: Row, what: LedgerFault["what"], detail: string): LedgerFault {
  const { line, position, id } = row;
  return { what, line, position, transfer_id: id, account_id: null, detail };
}

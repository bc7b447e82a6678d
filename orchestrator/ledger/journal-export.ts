/**
 * The ledger as one stream of lines that can be checked without us (contract/ledger.ts has the
 * form), read in one snapshot and in pages, so that its memory is bounded whatever its length.
 */
import { createHash } from "node:crypto";
import { createReadStream, createWriteStream } from "node:fs";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { PassThrough, type Readable } from "node:stream";
import { pipeline } from "node:stream/promises";
import { type SQL, sql } from "drizzle-orm";
import {
  type AccountRecord,
  EXPORT_FORMAT,
  type ExportRecord,
  type LedgerReport,
} from "../contract/ledger.ts";
import type { Database, Sql } from "../db/database.ts";
import { rows } from "../db/rows.ts";
import { exportMessage } from "../journal/chain.ts";
import { verifyExport } from "../journal/verify.ts";
import { Problem } from "../problem.ts";
import { type Clock, rfc3339 } from "../runtime/clock.ts";
import type { Journal, Signer } from "./journal.ts";
import {
  type CheckpointRow,
  checkpointRecord,
  instant,
  TRANSFER_COLUMNS,
  type TransferRow,
  transferRecord,
} from "./journal-rows.ts";

export interface LedgerExport {
  /**
   * The export's bytes, sealed and signed up to now. A reader that leaves ends it; one that stands
   * still for a minute loses it.
   *
   * @throws Problem `rate_limited` while two are under way, `secrets_sealed`.
   */
  open(): Promise<Readable>;
  /** Whether the journal agrees with the transfers as they are now. */
  verify(): Promise<LedgerReport>;
}

const PAGE = 500;
/** As long as the server lets a transaction stand idle: then there is nothing to go on with. */
const STALL_MS = 60_000;
const EXPORTS_MAX = 2;

type Rows = Pick<Sql, "execute">;

export function createLedgerExport(
  db: Pick<Database, "sql">,
  clock: Clock,
  journal: Pick<Journal, "catchUp">,
  signer: Signer,
): LedgerExport {
  let underWay = 0;
  let verification: Promise<LedgerReport> | null = null;
  return { open, verify };

  async function open(): Promise<Readable> {
    if (underWay >= EXPORTS_MAX) {
      throw new Problem("rate_limited", "Two exports are under way: try again when one is done");
    }
    underWay += 1;
    try {
      await journal.catchUp();
      const keyId = await signer.publicKey();
      const out = new PassThrough();
      const stall = setTimeout(() => out.destroy(new Error("the reader stands still")), STALL_MS);
      out.once("close", () => {
        clearTimeout(stall);
        underWay -= 1;
      });
      const snapshot = { isolationLevel: "repeatable read", accessMode: "read only" } as const;
      db.sql
        .transaction(
          (tx) =>
            pipeline(
              textOf(tx, keyId, () => stall.refresh()),
              out,
            ),
          snapshot,
        )
        .catch((error: Error) => out.destroy(error));
      return out;
    } catch (error) {
      underWay -= 1;
      throw error;
    }
  }

  /** Those who ask while one is under way get its answer. */
  function verify(): Promise<LedgerReport> {
    verification ??= verifyNow().finally(() => {
      verification = null;
    });
    return verification;
  }

  /** By way of a file: a cause is found by looking again at the same snapshot. */
  async function verifyNow(): Promise<LedgerReport> {
    const dir = await mkdtemp(join(tmpdir(), "autocode-ledger-"));
    try {
      const file = join(dir, "export");
      await pipeline(await open(), createWriteStream(file, { mode: 0o600 }));
      const trustedKeyIds = await signer.publicKeys();
      return await verifyExport(() => createReadStream(file), { trustedKeyIds });
    } finally {
      await rm(dir, { recursive: true, force: true });
    }
  }

  async function* textOf(tx: Rows, keyId: string, onPage: () => void): AsyncGenerator<string> {
    const digest = createHash("sha256");
    const counts = { accounts: 0, sealed: 0, unsealed: 0, checkpoints: 0 };
    const exportedAt = rfc3339(clock.now());
    const header = {
      type: "header",
      format: EXPORT_FORMAT,
      exported_at: exportedAt,
      key_id: keyId,
    };
    yield take([header as ExportRecord]);
    for await (const page of accountsOf(tx)) yield take(page);
    for await (const page of sealedOf(tx)) yield take(page);
    for await (const page of unsealedOf(tx)) yield take(page);
    const sha256 = digest.digest("hex");
    // Not the header's, when the key was rotated since.
    const { keyId: signedBy, signature } = await signer.sign(exportMessage(sha256));
    yield lineOf({ type: "end", ...counts, sha256, key_id: signedBy, signature });

    function take(page: readonly ExportRecord[]): string {
      onPage();
      for (const record of page) {
        if (record.type === "account") counts.accounts += 1;
        if (record.type === "checkpoint") counts.checkpoints += 1;
        if (record.type !== "transfer") continue;
        if (record.position === null) counts.unsealed += 1;
        else counts.sealed += 1;
      }
      const text = page.map(lineOf).join("");
      digest.update(text);
      return text;
    }
  }
}

function lineOf(record: ExportRecord): string {
  return `${JSON.stringify(record)}\n`;
}

async function* accountsOf(tx: Rows): AsyncGenerator<AccountRecord[]> {
  for (let after = ""; ; ) {
    const page = await rows<Omit<AccountRecord, "type">>(
      tx,
      sql`select id, kind, owner, currency, must_not_exceed, debits_pending_nanos,
          debits_posted_nanos, credits_pending_nanos, credits_posted_nanos, reversed_nanos,
          ${instant(sql`created_at`)} as created_at
        from account where id > ${after} order by id limit ${PAGE}`,
    );
    yield page.map((row) => ({ type: "account", ...row }));
    if (page.length < PAGE) return;
    after = page.at(-1)?.id ?? "";
  }
}

async function* sealedOf(tx: Rows): AsyncGenerator<ExportRecord[]> {
  for (let after = 0; ; ) {
    const until = after + PAGE;
    // An entry whose transfer is gone leaves a gap, which the check names.
    const page = await rows<TransferRow & { position: string; chain: Buffer }>(
      tx,
      sql`select entry.position, entry.chain, ${TRANSFER_COLUMNS}
        from journal_entry as entry join transfer on transfer.id = entry.transfer_id
        where entry.position > ${after} and entry.position <= ${until} order by entry.position`,
    );
    const checkpoints = await checkpointsWithin(tx, after, until);
    yield page.flatMap(({ position: text, chain, ...row }) => {
      const position = Number(text);
      const checkpoint = checkpoints.get(position);
      const transfer = transferRecord(row, { position, chain });
      return checkpoint === undefined ? [transfer] : [transfer, checkpointRecord(checkpoint)];
    });
    const isMore = sql`exists (select from journal_entry where position > ${until})`;
    if (page.length < PAGE && !(await isTrue(tx, isMore))) return;
    after = until;
  }
}

async function checkpointsWithin(
  tx: Rows,
  after: number,
  until: number,
): Promise<Map<number, CheckpointRow>> {
  const found = await rows<CheckpointRow>(
    tx,
    sql`select position, chain, ${instant(sql`signed_at`)} as signed_at, key_id, signature
      from journal_checkpoint where position > ${after} and position <= ${until}`,
  );
  return new Map(found.map((row) => [Number(row.position), row]));
}

/** All that has no entry: what came last, and what was put in without the journal's knowledge. */
async function* unsealedOf(tx: Rows): AsyncGenerator<ExportRecord[]> {
  for (let after = "0"; ; ) {
    const page = await rows<TransferRow>(
      tx,
      sql`select ${TRANSFER_COLUMNS} from transfer
        where seq > ${after}::bigint
          and not exists (select from journal_entry where transfer_id = transfer.id)
        order by seq limit ${PAGE}`,
    );
    yield page.map((row) => transferRecord(row, null));
    if (page.length < PAGE) return;
    after = page.at(-1)?.seq ?? "0";
  }
}

async function isTrue(tx: Rows, condition: SQL): Promise<boolean> {
  const [row] = await rows<{ is_true: boolean }>(tx, sql`select ${condition} as is_true`);
  return row?.is_true === true;
}

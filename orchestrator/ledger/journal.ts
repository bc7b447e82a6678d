/**
 * The journal: a hash chain over the transfers in the order in which they were committed, written
 * behind them, and checkpoints of it that are signed.
 *
 * The order is `transfer.seq`. A transaction locks its accounts, which gives it its transaction id,
 * and only then draws numbers; it keeps the locks until it has committed. So of two transfers that
 * share an account the first has the lower number, and whoever drew a number had an id by then.
 *
 * A number may be sealed once no lower one can still appear. To know that: read the highest number
 * S that is visible, then draw a transaction id X of our own. Numbers below S were drawn before S
 * was, by transactions whose ids were there before, so below X. When a later snapshot says that
 * every transaction below X is over, each number up to S is either visible to it or a gap for ever.
 * (A snapshot's own upper bound would not do for X: it is one past the last transaction that is
 * over, and running ones may lie above it.)
 *
 * Invariant: entry n follows entry n - 1, whoever writes it: one sealer at a time by an advisory
 * lock that ends with its transaction, and by the primary key where that fails.
 */
import { setTimeout as pause } from "node:timers/promises";
import { sql } from "drizzle-orm";
import type { CheckpointRecord, LedgerStatus } from "../contract/ledger.ts";
import type { Database, Sql } from "../db/database.ts";
import { readTime, rows } from "../db/rows.ts";
import { checkpointMessage, describeKey, GENESIS, nextChain } from "../journal/chain.ts";
import { Problem } from "../problem.ts";
import { type Clock, rfc3339 } from "../runtime/clock.ts";
import { instant, TRANSFER_COLUMNS, type TransferRow, transferRecord } from "./journal-rows.ts";

/** What of the secrets port the journal needs. */
export interface Signer {
  sign(message: Uint8Array): Promise<{ keyId: string; signature: string }>;
  publicKey(): Promise<string>;
  /** That one, and those that it was rotated from. */
  publicKeys(): Promise<string[]>;
}

export interface JournalOptions {
  /** Most transfers in one transaction. */
  batchMax?: number;
  /** Most batches in one activation. */
  batchesMax?: number;
  /** A checkpoint at the latest after so many transfers, or so long after the last. */
  checkpointTransfers?: number;
  checkpointMs?: number;
}

export interface SealStatus {
  sealed: number;
  checkpoint: number | null;
}

export interface Journal {
  /** Seals what can be sealed, and signs what is due. Idempotent, and bounded. */
  activate(): Promise<SealStatus>;
  /**
   * Seals and signs everything that was committed before the call, as far as running transactions
   * let it within some seconds.
   *
   * @throws Problem `secrets_sealed` when nothing can be signed.
   */
  catchUp(): Promise<void>;
  status(): Promise<LedgerStatus>;
}

interface Mark {
  seq: string;
  xid: string;
}

interface Head {
  position: number;
  chain: Buffer;
  seq: string;
}

/** Any number, the same in every process: held while a batch is written. */
const SEALER_LOCK = 52_174;
const CATCH_UP_POLLS = 250;
const CATCH_UP_POLL_MS = 20;

export function createJournal(
  db: Pick<Database, "sql">,
  clock: Clock,
  signer: Signer,
  options: JournalOptions = {},
): Journal {
  const { batchMax = 1_000, batchesMax = 50 } = options;
  const { checkpointTransfers = 10_000, checkpointMs = 60_000 } = options;
  /** What the last activation saw: decided by the next one, as a rule. */
  let mark: Mark | null = null;
  return { activate, catchUp, status };

  async function activate(): Promise<SealStatus> {
    let sealed = 0;
    // Another activation may draw the next mark meanwhile.
    const seen = mark;
    if (seen !== null && (await isDecided(seen))) {
      const { count, isDone } = await sealUpTo(seen, batchesMax);
      sealed = count;
      if (isDone && mark === seen) mark = null;
    }
    mark ??= await drawMark();
    const checkpoint = await signHead({ isForced: false });
    return { sealed, checkpoint };
  }

  async function catchUp(): Promise<void> {
    const own = await drawMark();
    if (own !== null) {
      for (let poll = 0; poll < CATCH_UP_POLLS; poll++) {
        if (await isDecided(own)) {
          const { isDone } = await sealUpTo(own, Number.POSITIVE_INFINITY);
          if (isDone) break;
        }
        await pause(CATCH_UP_POLL_MS);
      }
    }
    await signHead({ isForced: true });
  }

  /** Null when all that is visible is sealed: then there is nothing to draw an id for. */
  async function drawMark(): Promise<Mark | null> {
    const [highest] = await rows<{ seq: string }>(
      db.sql,
      sql`select max(seq) as seq from transfer
        having max(seq) > coalesce((
          select transfer.seq from journal_entry join transfer on transfer.id = transfer_id
          order by position desc limit 1), 0)`,
    );
    if (highest === undefined) return null;
    // In a statement of its own, so that the id is younger than what was seen.
    const [own] = await rows<{ xid: string }>(
      db.sql,
      sql`select pg_current_xact_id()::text as xid`,
    );
    if (own === undefined) throw new Error("journal: the server gave no transaction id");
    return { seq: highest.seq, xid: own.xid };
  }

  /** Whether every transaction that may have drawn a number up to the mark's is over. For good. */
  async function isDecided({ xid }: Mark): Promise<boolean> {
    const [row] = await rows<{ is_decided: boolean }>(
      db.sql,
      sql`select pg_snapshot_xmin(pg_current_snapshot()) >= ${xid}::xid8 as is_decided`,
    );
    return row?.is_decided === true;
  }

  /** `isDone` is false when another sealer is at work, or when there is more. */
  async function sealUpTo(
    { seq }: Mark,
    batches: number,
  ): Promise<{ count: number; isDone: boolean }> {
    let count = 0;
    for (let batch = 0; batch < batches; batch++) {
      const sealed = await sealBatch(seq);
      if (sealed === null) return { count, isDone: false };
      count += sealed;
      if (sealed < batchMax) return { count, isDone: true };
    }
    return { count, isDone: false };
  }

  /** How many it sealed; null while another sealer holds the lock. */
  async function sealBatch(untilSeq: string): Promise<number | null> {
    return db.sql.transaction(async (tx) => {
      const [lock] = await rows<{ is_ours: boolean }>(
        tx,
        sql`select pg_try_advisory_xact_lock(${SEALER_LOCK}) as is_ours`,
      );
      if (lock?.is_ours !== true) return null;
      const head = await readHead(tx);
      const found = await rows<TransferRow>(
        tx,
        sql`select ${TRANSFER_COLUMNS} from transfer
          where seq > ${head.seq}::bigint and seq <= ${untilSeq}::bigint
          order by seq
          limit ${batchMax}`,
      );
      if (found.length > 0) await append(tx, head, found);
      return found.length;
    });
  }

  /**
   * Signs the chain's end, when it is not signed yet and either is due or asked for. Of two that
   * sign the same position at once one is kept.
   */
  async function signHead({ isForced }: { isForced: boolean }): Promise<number | null> {
    const head = await readHead(db.sql);
    const last = await readLastCheckpoint(db.sql);
    const unsigned = head.position - (last?.position ?? 0);
    const isOld = last === null || clock.now() - last.signedAtMs >= checkpointMs;
    if (unsigned === 0 || !(isForced || isOld || unsigned >= checkpointTransfers)) return null;
    const signedAt = rfc3339(clock.now()).replace("Z", "000Z");
    const signed = { position: head.position, chain: head.chain.toString("hex") };
    const message = checkpointMessage({ ...signed, signed_at: signedAt });
    const { keyId, signature } = await signer.sign(message);
    await rows(
      db.sql,
      sql`insert into journal_checkpoint (position, chain, signed_at, key_id, signature)
        values (${head.position}, ${head.chain}, ${signedAt}::timestamptz, ${keyId},
          ${Buffer.from(signature, "base64")})
        on conflict do nothing`,
    );
    return head.position;
  }

  async function status(): Promise<LedgerStatus> {
    const [row] = await rows<{
      sealed: string;
      unsealed: string;
      checkpoints: string;
      last_signed_at: CheckpointRecord["signed_at"] | null;
    }>(
      db.sql,
      sql`
        with head as (
          select position, transfer.seq from journal_entry
          join transfer on transfer.id = transfer_id order by position desc limit 1
        )
        select coalesce((select position from head), 0) as sealed,
          (select count(*) from transfer
            where seq > coalesce((select seq from head), 0)) as unsealed,
          (select count(*) from journal_checkpoint) as checkpoints,
          (select ${instant(sql`max(signed_at)`)} from journal_checkpoint) as last_signed_at`,
    );
    if (row === undefined) throw new Error("journal: no status");
    return {
      key: describeKey(await signer.publicKey()),
      sealed: Number(row.sealed),
      unsealed: Number(row.unsealed),
      checkpoints: Number(row.checkpoints),
      last_signed_at: row.last_signed_at,
    };
  }
}

async function readHead(db: Pick<Sql, "execute">): Promise<Head> {
  const [row] = await rows<{ position: string; chain: Buffer; seq: string | null }>(
    db,
    sql`select position, chain, transfer.seq from journal_entry
      left join transfer on transfer.id = transfer_id
      order by position desc limit 1`,
  );
  if (row === undefined) return { position: 0, chain: GENESIS, seq: "0" };
  if (row.seq === null) {
    throw new Problem(
      "conflict",
      `The transfer at the journal's end, position ${row.position}, is gone: somebody removed it`,
    );
  }
  return { position: Number(row.position), chain: row.chain, seq: row.seq };
}

async function readLastCheckpoint(
  db: Pick<Sql, "execute">,
): Promise<{ position: number; signedAtMs: number } | null> {
  const [row] = await rows<{ position: string; signed_at: string }>(
    db,
    sql`select position, signed_at from journal_checkpoint order by position desc limit 1`,
  );
  if (row === undefined) return null;
  return { position: Number(row.position), signedAtMs: readTime(row.signed_at) };
}

async function append(
  tx: Pick<Sql, "execute">,
  head: Head,
  transfers: readonly TransferRow[],
): Promise<void> {
  let chain = head.chain;
  const chains = transfers.map((row) => {
    chain = nextChain(chain, transferRecord(row, null));
    return chain;
  });
  await tx.execute(sql`
    insert into journal_entry (position, transfer_id, chain)
    select ${head.position}::bigint + place, id, chain
    from unnest(
      ${sql.param(transfers.map(({ id }) => id))}::text[],
      ${sql.param(chains)}::bytea[]
    ) with ordinality as new (id, chain, place)`);
}

/**
 * Removes contents that no checkpoint needs: what a forgotten checkpoint alone named, what an
 * upload that was cut off left.
 *
 * Safe beside uploads: what was stored or asked after within the grace stays, and what is removed
 * is looked at again under the lock that a checkpoint is made under (postgres.ts).
 */
import { sql } from "drizzle-orm";
import { BACKUP_LOCK } from "../backup/backup.ts";
import type { Database, Sql } from "../db/database.ts";
import { rows } from "../db/rows.ts";
import type { BackgroundTask } from "../runtime/background.ts";
import type { Clock } from "../runtime/clock.ts";
import type { Blobs, StoredFile } from "./files.ts";
import { lockProject } from "./postgres.ts";

export interface CollectOptions {
  periodMs: number;
  /** Longer than any worker takes from asking after a content to naming it. */
  graceMs: number;
}

const BATCH = 500;

export interface Collection extends BackgroundTask {
  /** How many files were removed. */
  activate(): Promise<number>;
}

export function createCollection(
  { db, blobs, clock }: { db: Database; blobs: Blobs; clock: Clock },
  { periodMs, graceMs }: CollectOptions,
): Collection {
  return { name: "collect_checkpoints", periodMs, activate };

  async function activate(): Promise<number> {
    const projects = await rows<{ id: string }>(db.sql, sql`select id from project order by id`);
    let removed = 0;
    for (const { id } of projects) removed += await collect(id);
    return removed;
  }

  async function collect(projectId: string): Promise<number> {
    let removed = 0;
    let batch: StoredFile[] = [];
    for await (const file of blobs.list(projectId)) {
      if (clock.now() - file.modifiedMs < graceMs) continue;
      batch.push(file);
      if (batch.length < BATCH) continue;
      removed += await removeUnneeded(projectId, batch);
      batch = [];
    }
    return removed + (await removeUnneeded(projectId, batch));
  }

  async function removeUnneeded(projectId: string, files: readonly StoredFile[]): Promise<number> {
    if (files.length === 0) return 0;
    const names = files.flatMap(({ sha256 }) => (sha256 === null ? [] : [sha256]));
    return db.sql.transaction(async (transaction) => {
      if (!(await isRemovalAllowed(transaction))) return 0;
      await lockProject(transaction, projectId);
      const needed = await rows<{ sha256: string }>(
        transaction,
        sql`select distinct sha256 from checkpoint_blob
          where project_id = ${projectId} and sha256 = any(${sql.param(names)}::text[])`,
      );
      const isNeeded = new Set<string | null>(needed.map(({ sha256 }) => sha256));
      let removed = 0;
      for (const file of files.filter(({ sha256 }) => !isNeeded.has(sha256))) {
        const isOld = (await blobs.ageMs(file)) >= graceMs;
        if (!isOld) continue;
        await blobs.remove(file);
        removed += 1;
      }
      return removed;
    });
  }
}

/** Not while a backup is made: rows of its snapshot may name what none needs any more. */
async function isRemovalAllowed(transaction: Pick<Sql, "execute">): Promise<boolean> {
  const [found] = await rows<{ is_free: boolean }>(
    transaction,
    sql`select pg_try_advisory_xact_lock(${BACKUP_LOCK}) as is_free`,
  );
  return found?.is_free === true;
}

/** Artefacts: files that workers left, listed in the database, kept under the project's folder. */
import { mkdir, open, stat } from "node:fs/promises";
import { dirname } from "node:path";
import type { Readable } from "node:stream";
import { sql } from "drizzle-orm";
import type { Artefact } from "../contract/artefacts.ts";
import type { Sql } from "../db/database.ts";
import { readTime, rows } from "../db/rows.ts";
import { Problem } from "../problem.ts";
import type { Layout } from "../projects/layout.ts";
import { rfc3339 } from "../runtime/clock.ts";
import type { AllocationId, TrialId } from "../runtime/ids.ts";
import type { TrialRow } from "./rows.ts";

export async function listArtefacts(db: Sql, trialId: TrialId): Promise<Artefact[]> {
  const found = await rows<{
    name: string;
    allocation_id: string;
    byte_count: string;
    updated_at: string;
  }>(db, sql`select * from artefact where trial_id = ${trialId} order by updated_at desc, name`);
  return found.map((row) => ({
    name: row.name,
    allocation_id: row.allocation_id,
    byte_count: Number(row.byte_count),
    updated_at: rfc3339(readTime(row.updated_at)),
  }));
}

/**
 * Names come from a worker, so they are looked up, never made into a path unchecked.
 *
 * @param from only what this allocation left.
 */
export async function newestArtefactPath(
  db: Sql,
  layout: Layout,
  trial: TrialRow,
  name: string,
  from: AllocationId | null = null,
): Promise<string> {
  const [found] = await rows<{ allocation_id: string; name: string }>(
    db,
    sql`select artefact.allocation_id, artefact.name from artefact
      join allocation on allocation.id = artefact.allocation_id
      where artefact.trial_id = ${trial.id} and artefact.name = ${name}
        and (${from}::text is null or allocation.id = ${from})
      order by allocation.created_at desc limit 1`,
  );
  if (found === undefined) throw new Problem("not_found", `The trial left no artefact "${name}"`);
  return layout.artefact(trial.project_id, trial.id, found.allocation_id, found.name);
}

/**
 * Appends a stream at `offset` and returns the size after it. What was already written is written
 * over: a repeat of the same bytes changes nothing.
 *
 * @throws Problem `conflict` for a gap, `too_large` past `bytesMax`.
 */
export async function writeAt(
  path: string,
  offset: number,
  bytes: Readable,
  bytesMax: number,
): Promise<number> {
  await mkdir(dirname(path), { recursive: true });
  const size = await stat(path).then(
    (found) => found.size,
    () => 0,
  );
  if (offset > size) throw new Problem("conflict", `offset: the file has ${size} bytes so far`);
  const file = await open(path, size === 0 ? "w" : "r+", 0o600);
  let at = offset;
  try {
    for await (const chunk of bytes as AsyncIterable<Buffer>) {
      if (at + chunk.length > bytesMax) {
        throw new Problem("too_large", `An artefact may have ${bytesMax} bytes`);
      }
      await file.write(chunk, 0, chunk.length, at);
      at += chunk.length;
    }
  } finally {
    await file.close();
  }
  return Math.max(at, size);
}

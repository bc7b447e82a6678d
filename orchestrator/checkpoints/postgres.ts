/**
 * Checkpoints in Postgres, their contents in files.
 *
 * Invariant: a checkpoint that is in the table can be put back. Its contents are looked for in the
 * transaction that makes it, under the lock that their collection takes too (collect.ts).
 */
import type { Readable } from "node:stream";
import { sql } from "drizzle-orm";
import {
  BLOB_BYTES_PER_REQUEST,
  type Checkpoint,
  type Manifest,
  type NewCheckpoint,
} from "../contract/checkpoints.ts";
import type { Database, Sql } from "../db/database.ts";
import { jsonText, rows } from "../db/rows.ts";
import { Problem } from "../problem.ts";
import { type Clock, rfc3339 } from "../runtime/clock.ts";
import { type AllocationId, type CheckpointId, derivedId, type TrialId } from "../runtime/ids.ts";
import type { Session } from "../trials/worker-sessions.ts";
import { readArchive, writeArchive } from "./archive.ts";
import type { Checkpoints } from "./checkpoints.ts";
import type { Blobs } from "./files.ts";
import {
  canonicalText,
  contentsOf,
  distinct,
  faultOf,
  manifestHash,
  totalBytes,
} from "./manifest.ts";
import { prune } from "./prune.ts";
import { type CheckpointRow, readTree, toCheckpoint } from "./tree.ts";

export interface CheckpointsOptions {
  /** Of one checkpoint's contents together. */
  bytesMax: number;
  /** How many a trial keeps where its project's file does not say. */
  kept: number;
}

/** First key of the advisory lock; the second is the project's. Held for a commit, a collection. */
export const CHECKPOINTS_LOCK = 52_173;
/** What an allocation may have stored beyond what its checkpoints name, in checkpoints. */
const UNNAMED_FACTOR = 2;
const LOOKS_AT_ONCE = 32;

export function createCheckpoints(
  { db, blobs, clock }: { db: Database; blobs: Blobs; clock: Clock },
  { bytesMax, kept }: CheckpointsOptions,
): Checkpoints {
  /** Bytes that each allocation stored since its last checkpoint. */
  const unnamed = new Map<AllocationId, number>();
  return { missing, store, commit, restore, tree: (trialId) => readTree(db.sql, trialId) };

  async function missing(session: Session, sha256s: readonly string[]): Promise<string[]> {
    const { projectId } = await agentsTrial(db.sql, session);
    const has = await inTurns(sha256s, (sha256) => blobs.keep(projectId, sha256));
    return sha256s.filter((_, index) => !has[index]);
  }

  async function store(session: Session, archive: Readable): Promise<number> {
    const { projectId } = await agentsTrial(db.sql, session);
    let stored = 0;
    await readArchive(archive, async ({ sha256, byteCount, content }) => {
      const sum = (unnamed.get(session.allocationId) ?? 0) + byteCount;
      if (byteCount > BLOB_BYTES_PER_REQUEST || sum > UNNAMED_FACTOR * bytesMax) {
        throw new Problem("too_large", `A checkpoint may have ${bytesMax} bytes`);
      }
      unnamed.set(session.allocationId, sum);
      if (await blobs.put(projectId, sha256, content)) stored += 1;
    });
    return stored;
  }

  async function commit(session: Session, wanted: NewCheckpoint): Promise<Checkpoint> {
    const { projectId, kept: keptHere } = await agentsTrial(db.sql, session);
    const fault = faultOf(wanted.manifest);
    if (fault !== null) throw new Problem("invalid_request", `manifest.${fault}`);
    const contents = contentsOf(wanted.manifest);
    const byteCount = totalBytes(contents);
    if (byteCount > bytesMax) {
      throw new Problem(
        "too_large",
        `It has ${byteCount} bytes; a checkpoint may have ${bytesMax}`,
      );
    }
    const text = canonicalText(wanted.manifest);
    const manifest = manifestHash(text);
    const made = await db.sql.transaction(async (transaction) => {
      await lockProject(transaction, projectId);
      await needContents(projectId, contents);
      await blobs.put(projectId, manifest, asStream(text));
      // The trial before its allocation, as the engine takes them.
      await needCurrent(transaction, session);
      const facts = { manifest, contents, byteCount, at: rfc3339(clock.now()) };
      const row = await insertOnce(transaction, session, { projectId, wanted, facts });
      await prune(transaction, session.trialId, keptHere ?? kept);
      return row;
    });
    unnamed.delete(session.allocationId);
    return toCheckpoint(made);
  }

  async function needContents(projectId: string, contents: ReturnType<typeof contentsOf>) {
    const wanted = distinct(contents);
    const sizes = await inTurns(wanted, ({ sha256 }) => blobs.size(projectId, sha256));
    const sizeOf = new Map(wanted.map(({ sha256 }, index) => [sha256, sizes[index]]));
    const lacking = sizes.filter((size) => size === null).length;
    if (lacking > 0) {
      const facts = { missing: lacking };
      throw new Problem("conflict", `${lacking} of its contents are not stored`, { facts });
    }
    const other = contents.find(({ sha256, byteCount }) => sizeOf.get(sha256) !== byteCount);
    if (other !== undefined) {
      const detail = `manifest: ${other.sha256} does not have ${other.byteCount} bytes`;
      throw new Problem("invalid_request", detail);
    }
  }

  async function restore(session: Session): Promise<Readable | null> {
    const { projectId, resumes } = await agentsTrial(db.sql, session);
    if (resumes === null) return null;
    const [found] = await rows<{ manifest_sha256: string }>(
      db.sql,
      sql`select manifest_sha256 from checkpoint where id = ${resumes}`,
    );
    if (found === undefined) throw gone(resumes, "it is no longer kept");
    const sha256 = found.manifest_sha256;
    if ((await blobs.size(projectId, sha256)) === null) throw gone(resumes, "its manifest is gone");
    const text = Buffer.concat(await blobs.read(projectId, sha256).toArray()).toString("utf8");
    if (manifestHash(text) !== sha256) throw gone(resumes, "its manifest is damaged");
    const contents = distinct(contentsOf(parseManifest(text)));
    const sizes = await inTurns(contents, (content) => blobs.size(projectId, content.sha256));
    const lacking = contents.filter(({ byteCount }, index) => sizes[index] !== byteCount).length;
    if (lacking > 0) throw gone(resumes, `${lacking} of its contents are gone or cut off`);
    return writeArchive(text, contents, (content) => blobs.read(projectId, content));
  }
}

/** Until the transaction ends. */
export async function lockProject(transaction: Sql, projectId: string): Promise<void> {
  await transaction.execute(sql`
    select pg_advisory_xact_lock(${CHECKPOINTS_LOCK}, hashtext(${projectId}))`);
}

interface AgentsTrial {
  projectId: string;
  /** The checkpoint that it goes on from. */
  resumes: CheckpointId | null;
  kept: number | null;
}

/** @throws Problem `forbidden` for a verifier: what it has is not to be gone on from. */
async function agentsTrial(db: Sql, { trialId, purpose }: Session): Promise<AgentsTrial> {
  if (purpose !== "agent") throw new Problem("forbidden", "Only an agent's worker has checkpoints");
  const [found] = await rows<{
    project_id: string;
    resumes: CheckpointId | null;
    kept: number | null;
  }>(
    db,
    sql`select trial.project_id, trial.resume ->> 'checkpoint_id' as resumes,
        (project.config -> 'limits' ->> 'checkpoints')::int as kept
      from trial join project on project.id = trial.project_id where trial.id = ${trialId}`,
  );
  if (found === undefined) throw new Error(`an allocation of a trial that is gone: ${trialId}`);
  return { projectId: found.project_id, resumes: found.resumes, kept: found.kept };
}

/** From here to the end of the transaction no other allocation takes the trial over. */
async function needCurrent(transaction: Sql, session: Session): Promise<void> {
  const [trial] = await rows<{ is_current: boolean }>(
    transaction,
    sql`select trial.allocation_id = ${session.allocationId}
          and exists (select from allocation
            where id = ${session.allocationId} and ended_at is null) as is_current
      from trial where id = ${session.trialId} for no key update`,
  );
  if (trial?.is_current === true) return;
  throw new Problem("fenced", "A newer allocation has taken this trial over; stop");
}

interface Draft {
  projectId: string;
  wanted: NewCheckpoint;
  facts: {
    manifest: string;
    contents: ReturnType<typeof contentsOf>;
    byteCount: number;
    at: string;
  };
}

/** The row of this allocation and this number, made unless it is there. */
async function insertOnce(
  db: Sql,
  { allocationId, trialId }: Session,
  { projectId, wanted, facts }: Draft,
): Promise<CheckpointRow> {
  const id = derivedId("checkpoint", allocationId, String(wanted.sequence));
  const [known] = await rows<CheckpointRow>(db, sql`select * from checkpoint where id = ${id}`);
  if (known !== undefined) return known;
  const contents = distinct(facts.contents);
  const isNew = await newOnes(
    db,
    projectId,
    contents.map(({ sha256 }) => sha256),
  );
  const newBytes = totalBytes(contents.filter(({ sha256 }) => isNew.has(sha256)));
  const [made] = await rows<CheckpointRow>(
    db,
    sql`insert into checkpoint (id, trial_id, allocation_id, parent_id, cause, phase, resume,
        manifest_sha256, file_count, byte_count, new_byte_count, created_at)
      select ${id}, ${trialId}, ${allocationId}, ${parentOf(allocationId, trialId)},
        ${wanted.cause}, ${wanted.phase}, ${jsonText(wanted.resume)}::jsonb, ${facts.manifest},
        ${wanted.manifest.work.length}, ${facts.byteCount}, ${newBytes},
        -- After those before it, also when the clock was set back.
        greatest(${facts.at}::timestamptz, (select max(created_at) + interval '1 millisecond'
          from checkpoint where trial_id = ${trialId}))
      returning *`,
  );
  if (made === undefined) throw new Error("a checkpoint was not inserted");
  const needed = [facts.manifest, ...contents.map(({ sha256 }) => sha256)];
  await db.execute(sql`
    insert into checkpoint_blob (checkpoint_id, project_id, sha256)
    select ${id}, ${projectId}, sha256
    from unnest(${sql.param([...new Set(needed)])}::text[]) as sha256`);
  return made;
}

/** The allocation's last one; of its first, the one that the trial goes on from. */
function parentOf(allocationId: AllocationId, trialId: TrialId) {
  return sql`coalesce(
    (select id from checkpoint where allocation_id = ${allocationId}
      order by created_at desc limit 1),
    (select parent.id from checkpoint as parent join trial
      on parent.id = trial.resume ->> 'checkpoint_id' where trial.id = ${trialId}))`;
}

async function newOnes(db: Sql, projectId: string, sha256s: string[]): Promise<Set<string>> {
  const found = await rows<{ sha256: string }>(
    db,
    sql`select sha256 from unnest(${sql.param(sha256s)}::text[]) as sha256
      where not exists (
        select from checkpoint_blob
        where project_id = ${projectId} and checkpoint_blob.sha256 = sha256.sha256)`,
  );
  return new Set(found.map(({ sha256 }) => sha256));
}

function parseManifest(text: string): Manifest {
  return JSON.parse(text) as Manifest;
}

function gone(id: string, why: string): Problem {
  const advice = "fork the trial from another one, or run it anew";
  return new Problem("conflict", `${id} cannot be restored: ${why}; ${advice}`);
}

/** Some at once, not all: there may be twenty thousand. */
async function inTurns<Value, Result>(
  values: readonly Value[],
  look: (value: Value) => Promise<Result>,
): Promise<Result[]> {
  const results: Result[] = [];
  for (let at = 0; at < values.length; at += LOOKS_AT_ONCE) {
    results.push(...(await Promise.all(values.slice(at, at + LOOKS_AT_ONCE).map(look))));
  }
  return results;
}

async function* asStream(text: string): AsyncGenerator<Buffer> {
  yield Buffer.from(text);
}

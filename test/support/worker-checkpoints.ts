/** The orchestrator's side of a worker's checkpoints, in memory. */
import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import { Readable } from "node:stream";
import { readArchive, writeArchive } from "../../orchestrator/checkpoints/archive.ts";
import {
  canonicalText,
  contentsOf,
  distinct,
  faultOf,
  manifestHash,
  totalBytes,
} from "../../orchestrator/checkpoints/manifest.ts";
import type { Checkpoint, NewCheckpoint } from "../../orchestrator/contract/checkpoints.ts";
import type { AgentSpec } from "../../orchestrator/contract/worker.ts";

export interface CheckpointStore {
  /** Every one that was made, oldest first. */
  readonly made: readonly NewCheckpoint[];
  readonly blobs: Map<string, Buffer>;
  /** How often contents were sent, and how many of them. */
  readonly puts: { requests: number; contents: number };
  missing(sha256s: readonly string[]): string[];
  put(archive: Buffer): Promise<void>;
  /** Null while contents are lacking. */
  commit(wanted: NewCheckpoint): Checkpoint | null;
}

export function createCheckpointStore(): CheckpointStore {
  const made: NewCheckpoint[] = [];
  const blobs = new Map<string, Buffer>();
  const puts = { requests: 0, contents: 0 };
  return { made, blobs, puts, missing, put, commit };

  function missing(sha256s: readonly string[]): string[] {
    return sha256s.filter((sha256) => !blobs.has(sha256));
  }

  async function put(archive: Buffer): Promise<void> {
    puts.requests += 1;
    await readArchive(Readable.from([archive]), async ({ sha256, content }) => {
      const bytes = Buffer.concat(await Array.fromAsync(content));
      assert.equal(createHash("sha256").update(bytes).digest("hex"), sha256);
      assert.ok(!blobs.has(sha256), "only what is missing is sent");
      blobs.set(sha256, bytes);
      puts.contents += 1;
    });
  }

  function commit(wanted: NewCheckpoint): Checkpoint | null {
    assert.equal(faultOf(wanted.manifest), null);
    const contents = contentsOf(wanted.manifest);
    if (contents.some(({ sha256 }) => !blobs.has(sha256))) return null;
    for (const { sha256, byteCount } of contents) {
      assert.equal(blobs.get(sha256)?.byteLength, byteCount);
    }
    made.push(wanted);
    return {
      id: `checkpoint_${made.length}`,
      trial_id: "trial_1",
      allocation_id: "allocation_1",
      parent_id: null,
      cause: wanted.cause,
      phase: wanted.phase,
      completed_phases: wanted.resume.completed_phases,
      has_session: wanted.resume.session !== undefined,
      file_count: wanted.manifest.work.length,
      byte_count: totalBytes(contents),
      new_byte_count: 0,
      manifest_sha256: manifestHash(canonicalText(wanted.manifest)),
      created_at: "2026-11-21T12:00:00.000Z",
    };
  }
}

/** What the next allocation is told, and what it is given at `GET checkpoint`. */
export async function goOnFrom(
  { blobs }: Pick<CheckpointStore, "blobs">,
  { manifest, resume }: Pick<NewCheckpoint, "manifest" | "resume">,
): Promise<{ resume: NonNullable<AgentSpec["resume"]>; checkpoint: Buffer }> {
  const text = canonicalText(manifest);
  const contents = distinct(contentsOf(manifest));
  const open = (sha256: string) => Readable.from([blobs.get(sha256) ?? Buffer.alloc(0)]);
  const archive = writeArchive(text, contents, open);
  return {
    resume: { ...resume, checkpoint: { id: "checkpoint_1", manifest_sha256: manifestHash(text) } },
    checkpoint: Buffer.concat(await Array.fromAsync(archive as AsyncIterable<Buffer>)),
  };
}

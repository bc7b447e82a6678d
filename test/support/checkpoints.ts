/** What a worker sends of its trial, made by hand: for tests of the orchestrator's side. */
import { createHash } from "node:crypto";
import { Readable } from "node:stream";
import { gzipSync } from "node:zlib";
import { pack } from "tar-stream";
import type { Checkpoints } from "../../orchestrator/checkpoints/checkpoints.ts";
import type {
  Checkpoint,
  NewCheckpoint,
  WorkEntry,
} from "../../orchestrator/contract/checkpoints.ts";
import type { Session } from "../../orchestrator/trials/worker-sessions.ts";

export const BASE_COMMIT = "b".repeat(40);

export function sha256(content: string | Buffer): string {
  return createHash("sha256").update(content).digest("hex");
}

/** A gzipped tar, its entries called by what the contents hash to, or as given. */
export function archiveOf(
  contents: readonly (string | Buffer)[],
  nameOf: (content: string | Buffer) => string = sha256,
): Readable {
  const entries = pack();
  for (const content of contents) entries.entry({ name: nameOf(content) }, content);
  entries.finalize();
  return Readable.from(gzipped(entries as AsyncIterable<Buffer>));
}

async function* gzipped(entries: AsyncIterable<Buffer>): AsyncGenerator<Buffer> {
  yield gzipSync(Buffer.concat(await Array.fromAsync(entries)));
}

/** The work tree of these files, as a manifest has it. */
export function workOf(files: Readonly<Record<string, string>>): WorkEntry[] {
  return Object.entries(files).map(([path, content]) => ({
    path,
    type: "file",
    is_executable: false,
    sha256: sha256(content),
    byte_count: Buffer.byteLength(content),
  }));
}

export function newCheckpoint(
  sequence: number,
  files: Readonly<Record<string, string>>,
  more: Partial<Omit<NewCheckpoint, "sequence">> = {},
): NewCheckpoint {
  return {
    sequence,
    cause: "periodic",
    phase: "execute",
    resume: { completed_phases: ["plan"], plan_text: "the plan" },
    manifest: { version: 1, base_commit: BASE_COMMIT, work: workOf(files), session: null },
    ...more,
  };
}

/** Stores the files' contents and makes the checkpoint, as a worker does. */
export async function keepCheckpoint(
  checkpoints: Checkpoints,
  session: Session,
  sequence: number,
  files: Readonly<Record<string, string>>,
  more: Partial<Omit<NewCheckpoint, "sequence">> = {},
): Promise<Checkpoint> {
  const missing = new Set(
    await checkpoints.missing(
      session,
      Object.values(files).map((content) => sha256(content)),
    ),
  );
  const wanted = [...new Set(Object.values(files))].filter((file) => missing.has(sha256(file)));
  if (wanted.length > 0) await checkpoints.store(session, archiveOf(wanted));
  return checkpoints.commit(session, newCheckpoint(sequence, files, more));
}

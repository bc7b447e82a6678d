/**
 * Keeps what the agent has done so far, so that another allocation can go on from it: the work
 * tree and the CLI's session, now and then while it runs, after a phase, and at the end.
 *
 * Invariant: a checkpoint that fails is a note; it never ends the trial nor the agent.
 */
import { createHash } from "node:crypto";
import { join } from "node:path";
import {
  type CheckpointCause,
  MANIFEST_FILES_MAX,
  type Manifest,
  type NewCheckpoint,
  type ResumePoint,
  type SessionPoint,
} from "../orchestrator/contract/checkpoints.ts";
import type { AgentSpec } from "../orchestrator/contract/worker.ts";
import type { PhaseProgress } from "./agent-phases.ts";
import type { Agent } from "./agents/agent.ts";
import { createTree, keep, type TakeContent } from "./checkpoint-tree.ts";
import { createUpload } from "./checkpoint-upload.ts";
import { pause } from "./clock.ts";
import { Fenced, messageOf, OrchestratorAway, RequestRefused } from "./faults.ts";
import type { Git } from "./git.ts";
import type { Job } from "./job.ts";
import { readSession } from "./session-files.ts";
import type { Source } from "./workspace.ts";

/** A snapshot that takes longer is given up: a hostile tree must not hold the worker. */
const SNAPSHOT_MS = 120_000;
const PLAN_MAX = 100_000;
const NOTES_MAX = 20;

export interface Checkpoints {
  /** Takes one now and then, when something changed, until `stop`. */
  start(): void;
  stop(): Promise<void>;
  /** Takes one now, after the one that is being taken. Never throws. */
  take(cause: CheckpointCause): Promise<void>;
}

export interface CheckpointDeps {
  readonly agent: Agent | null;
  readonly git: Git;
  readonly source: Source;
  readonly litter: readonly string[];
  readonly fileBytesMax: number;
  readonly progress: PhaseProgress;
}

interface Snapshot {
  readonly manifest: Manifest;
  readonly resume: ResumePoint;
}

interface KeptSession {
  readonly files: NonNullable<Manifest["session"]>;
  readonly point: SessionPoint;
}

export function createCheckpoints(job: Job<AgentSpec>, deps: CheckpointDeps): Checkpoints {
  const { spec, rooms, client, outbox, clock, runAs } = job;
  const { agent, progress } = deps;
  const uid = runAs?.uid ?? null;
  const scratchDir = join(rooms.private, "compare");
  const { workspace } = rooms;
  const tree = createTree(deps.git, clock, { ...deps, workspace, scratchDir, uid });
  const upload = createUpload(client);
  const ending = new AbortController();
  const said = new Set<string>();
  let last: Promise<void> = Promise.resolve();
  let periods: Promise<void> = Promise.resolve();
  let sequence = 0;
  /** What the last checkpoint had. */
  let fingerprint = "";
  let session: KeptSession | null = null;
  return { start, stop, take };

  function start(): void {
    periods = everyPeriod();
  }

  async function everyPeriod(): Promise<void> {
    while (!ending.signal.aborted) {
      await pause(spec.checkpoints.every_ms, ending.signal);
      if (!ending.signal.aborted) await take("periodic");
    }
  }

  async function stop(): Promise<void> {
    ending.abort();
    await periods;
  }

  function take(cause: CheckpointCause): Promise<void> {
    last = last.then(() => tolerantly(cause));
    return last;
  }

  async function tolerantly(cause: CheckpointCause): Promise<void> {
    try {
      await makeOne(cause);
    } catch (error) {
      // What follows from these two is the heartbeat's to see.
      if (error instanceof Fenced || error instanceof OrchestratorAway) return;
      note(`No checkpoint was made: ${messageOf(error)}`);
    }
  }

  async function makeOne(cause: CheckpointCause): Promise<void> {
    const phase = progress.phase;
    const first = await snapshot();
    const print = createHash("sha256").update(JSON.stringify(first)).digest("hex");
    if (cause === "periodic" && print === fingerprint) return;
    sequence += 1;
    try {
      await commit({ sequence, cause, phase, ...first });
      fingerprint = print;
    } catch (error) {
      // Contents that it had may have been collected since we asked.
      if (!(error instanceof RequestRefused) || error.status !== 409) throw error;
      upload.forget();
      tree.forget();
      await commit({ sequence, cause, phase, ...(await snapshot()) });
      fingerprint = "";
    }
  }

  async function commit(wanted: NewCheckpoint): Promise<void> {
    const made = await client.commitCheckpoint(wanted);
    const { file_count: files, byte_count: bytes, new_byte_count: fresh } = made;
    const detail = `${made.cause}: ${files} files, ${bytes} bytes, ${fresh} of them new`;
    outbox.emit("worker.step", { step: "checkpoint", detail, checkpoint_id: made.id });
  }

  /** Everything that there is now, its contents with the orchestrator. */
  async function snapshot(): Promise<Snapshot> {
    const signal = AbortSignal.timeout(SNAPSHOT_MS);
    const take = bounded(spec.checkpoints.bytes_max);
    const entries = await tree.read(take, signal);
    const work = entries.filter(({ path }) => path.length <= 4096);
    if (work.length > MANIFEST_FILES_MAX) {
      const more = `more than the ${MANIFEST_FILES_MAX} that a checkpoint may have`;
      throw new Error(`${work.length} files differ from the base commit, ${more}`);
    }
    const kept = await readOwnSession(take);
    await upload.flush();
    const resume: ResumePoint = {
      completed_phases: [...new Set(progress.completedPhases)],
      plan_text: progress.planText?.slice(0, PLAN_MAX) ?? null,
      ...(kept === null ? {} : { session: kept.point }),
    };
    const { base_commit } = spec;
    return { manifest: { version: 1, base_commit, work, session: kept?.files ?? null }, resume };
  }

  async function readOwnSession(take: TakeContent): Promise<KeptSession | null> {
    const { phase } = progress;
    if (agent?.session === undefined || phase === null) return null;
    const { paths, secret } = { paths: agent.session.files, secret: spec.virtual_key };
    const bytesMax = spec.checkpoints.bytes_max;
    const read = await readSession(rooms, { paths, secret, bytesMax, uid });
    if (read.outcome === "empty") return null;
    if (read.outcome === "too_large") {
      note(`${spec.agent}'s session is too large to be kept`);
      return null;
    }
    // One that is a little older than the files is better than none.
    if (read.outcome === "unsettled") return session?.point.phase === phase ? session : null;
    const files: KeptSession["files"]["files"] = [];
    for (const { path, content } of read.files)
      files.push({ path, ...(await keep(content, take)) });
    const id = progress.parser?.summary().sessionId ?? progress.sessionId;
    session = { files: { folders: read.folders, files }, point: { id, phase } };
    return session;
  }

  function bounded(bytesMax: number): TakeContent {
    let byteCount = 0;
    return async (sha256, content) => {
      byteCount += content.byteLength;
      if (byteCount > bytesMax) {
        throw new Error(`it would have more than the ${bytesMax} bytes that it may have`);
      }
      await upload.add(sha256, content);
    };
  }

  /** Once: the next checkpoint would say the same. */
  function note(message: string): void {
    if (said.has(message) || said.size > NOTES_MAX) return;
    said.add(message);
    outbox.emit("trial.note", { level: "warn", message });
  }
}

/**
 * A CLI's session across allocations: kept when a trial is paused, put back when it goes on.
 * Neither is worth a trial: where one fails, a note says so and the work begins a new session.
 */
import { copyFile, readFile } from "node:fs/promises";
import { dirname, join } from "node:path";
import type { AgentSpec, SessionPoint } from "../orchestrator/contract/worker.ts";
import type { PhaseProgress } from "./agent-phases.ts";
import type { Agent } from "./agents/agent.ts";
import { createArtefact } from "./artefacts.ts";
import { childEnvironment } from "./child-env.ts";
import { messageOf } from "./faults.ts";
import type { Job } from "./job.ts";
import { runProcess } from "./process.ts";
import { handOver } from "./rooms.ts";
import { packSession, unpackSession } from "./session-archive.ts";

const ARTEFACT = "session.json.gz";
const BYTES_MAX = 32 * 1_048_576;
const REWRITE_MS = 60_000;

/** Archives the session of the phase that was stopped; null: there is none to go on with. */
export async function keepSession(
  job: Job<AgentSpec>,
  agent: Agent,
  { phase, sessionId }: PhaseProgress,
): Promise<SessionPoint | null> {
  if (agent.session === undefined || phase === null) return null;
  const { spec, rooms, runAs, client, outbox } = job;
  try {
    const packed = await packSession(rooms, {
      paths: agent.session.files,
      secret: spec.virtual_key,
      bytesMax: BYTES_MAX,
      uid: runAs?.uid ?? null,
    });
    if (packed.outcome !== "packed") {
      if (packed.outcome === "too_large") note(job, "is too large to be kept");
      return null;
    }
    const { archive, fileCount } = packed;
    const maxBytes = spec.limits.artefact_bytes;
    if (archive.byteLength > maxBytes) {
      note(job, "is too large to be kept");
      return null;
    }
    const artefact = createArtefact(client.putArtefact, { name: ARTEFACT, maxBytes });
    artefact.append(archive);
    await artefact.flush();
    const detail = `${phase}: ${fileCount} files, ${archive.byteLength} bytes`;
    outbox.emit("worker.step", { step: "session_kept", detail });
    return { id: sessionId, phase };
  } catch (error) {
    note(job, `was not kept: ${messageOf(error)}`);
    return null;
  }
}

/** Whether the session that the specification names is in the agent's HOME now. */
export async function restoreSession(job: Job<AgentSpec>, agent: Agent): Promise<boolean> {
  const { spec, rooms, runAs, client, outbox } = job;
  if (spec.resume?.session === undefined || agent.session === undefined) return false;
  const archive = join(rooms.private, ARTEFACT);
  if (!(await client.session(archive))) return false;
  try {
    const { databases, moves } = await unpackSession(rooms, await readFile(archive), {
      paths: agent.session.files,
      bytesMax: BYTES_MAX,
    });
    await handOver(rooms.home, runAs);
    for (const [from, to] of moves) await rewriteDatabases(job, databases, from, to);
    outbox.emit("worker.step", { step: "session_restored", detail: spec.resume.session.phase });
    return true;
  } catch (error) {
    note(job, `could not be restored: ${messageOf(error)}`);
    return false;
  }
}

/** As the agent's user: a database that it wrote is read by nobody with more rights. */
async function rewriteDatabases(
  { clock, rooms, runAs, exclusiveUid, path, graceMs, spec, stop }: Job<AgentSpec>,
  databases: readonly string[],
  from: string,
  to: string,
): Promise<void> {
  if (databases.length === 0) return;
  const program = join(rooms.side, "session-databases.mts");
  await copyFile(join(import.meta.dirname, "session-databases.ts"), program);
  let said = "";
  const end = await runProcess(
    clock,
    {
      file: process.execPath,
      args: [program, from, to, ...databases],
      env: childEnvironment(path, rooms),
      cwd: dirname(rooms.workspace),
      terminal: false,
      ...{ runAs, exclusiveUid, graceMs },
      marker: spec.allocation_id,
      wallMs: REWRITE_MS,
      idleMs: null,
      onOutput: (bytes) => {
        said = `${said}${bytes}`.slice(-500);
      },
    },
    stop.signal,
  );
  if (end.exitCode !== 0) throw new Error(`its database could not be moved: ${said.trim()}`);
}

function note({ outbox, spec }: Job<AgentSpec>, what: string): void {
  const message = `${spec.agent}'s session ${what}; it begins a new one when it goes on`;
  outbox.emit("trial.note", { level: "warn", message });
}

/**
 * A CLI's session of an earlier allocation, put back for this one. It is not worth a trial: where
 * it fails, a note says so and the work begins a new session.
 */
import { copyFile } from "node:fs/promises";
import { dirname, join } from "node:path";
import type { AgentSpec } from "../orchestrator/contract/worker.ts";
import type { Agent } from "./agents/agent.ts";
import type { Fetched } from "./checkpoint-restore.ts";
import { childEnvironment } from "./child-env.ts";
import { messageOf } from "./faults.ts";
import type { Job } from "./job.ts";
import { runProcess } from "./process.ts";
import { handOver } from "./rooms.ts";
import { type SessionFile, writeSession } from "./session-files.ts";

const REWRITE_MS = 60_000;

/** Whether the session that the specification names is in the agent's HOME now. */
export async function restoreSession(
  job: Job<AgentSpec>,
  agent: Agent,
  fetched: Fetched | null,
): Promise<boolean> {
  const { spec, rooms, runAs, outbox } = job;
  const kept = fetched?.manifest.session ?? null;
  if (spec.resume?.session === undefined || agent.session === undefined) return false;
  if (fetched === null || kept === null) return false;
  try {
    const files: SessionFile[] = [];
    for (const { path, sha256 } of kept.files) {
      files.push({ path, content: await fetched.contentOf(sha256) });
    }
    const { folders } = kept;
    const { databases, moves } = await writeSession(rooms, { files, folders }, agent.session.files);
    await handOver(rooms.home, runAs);
    for (const [from, to] of moves) await rewriteDatabases(job, databases, from, to);
    outbox.emit("worker.step", { step: "session_restored", detail: spec.resume.session.phase });
    return true;
  } catch (error) {
    const message = `${spec.agent}'s session could not be restored: ${messageOf(error)}`;
    outbox.emit("trial.note", { level: "warn", message: `${message}; it begins a new one` });
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

/**
 * An agent allocation: the agent's CLI in its own checkout, then what it changed.
 *
 * Whatever happens to the CLI, the diff is collected and a report is made: a trial that was
 * stopped by its budget goes on from there.
 */
import { join } from "node:path";
import type { AgentReport, AgentSpec } from "../orchestrator/contract/worker.ts";
import { type Ending, type PhaseProgress, runPhases } from "./agent-phases.ts";
import type { Agent } from "./agents/agent.ts";
import { createArtefact } from "./artefacts.ts";
import { type Changes, collectChanges } from "./changes.ts";
import { type Checkpoints, createCheckpoints } from "./checkpoint.ts";
import { type Fetched, fetchCheckpoint, restoreTree } from "./checkpoint-restore.ts";
import { pause } from "./clock.ts";
import { messageOf, WorkspaceFault } from "./faults.ts";
import { createGit, type Git } from "./git.ts";
import type { Job } from "./job.ts";
import { handOver } from "./rooms.ts";
import { restoreSession } from "./session.ts";
import type { Stop } from "./stop.ts";
import { createTerminal } from "./terminal.ts";
import { checkOut, type Source } from "./workspace.ts";

const DETAIL_MAX = 2_000;
const PLAN_MAX = 100_000;
const FILE_BYTES_MAX = 50 * 1_048_576;
/** How long a failed CLI's end waits for a directive that explains it. */
const EXPLANATION_MS = 500;

/** The checkout and how to make and read it. */
interface Checkout {
  readonly git: Git;
  readonly source: Source;
  readonly litter: readonly string[];
}

interface Collected {
  readonly changes: Changes | null;
  readonly fault: string | null;
}

/** Runs the allocation to its report. Throws only what ends the worker: `Fenced` and the like. */
export async function runAgent(job: Job<AgentSpec>, agent: Agent | null): Promise<AgentReport> {
  const { spec, rooms, client, outbox, clock, stop } = job;
  const source = { bundle: join(rooms.private, "source.bundle"), baseCommit: spec.base_commit };
  const litter = [...new Set([".aider*", ...(agent?.litter ?? [])])];
  const checkout: Checkout = { git: createGit(job.path, rooms.private), source, litter };
  const maxBytes = spec.limits.artefact_bytes;
  const fullNote = "[log cut here: it met its limit]\n";
  const log = createArtefact(client.putArtefact, { name: "agent.log", maxBytes, fullNote });
  const cast = createArtefact(client.putArtefact, { name: "terminal.cast", maxBytes });
  const terminal = createTerminal(clock, cast, `${spec.agent} ${spec.trial_id}`);
  const progress: PhaseProgress = {
    planText: spec.resume?.plan_text ?? null,
    completedPhases: [...(spec.resume?.completed_phases ?? [])],
    survivorsKilled: 0,
    phase: null,
    parser: null,
    sessionId: null,
  };
  const fileBytesMax = Math.min(FILE_BYTES_MAX, maxBytes);
  const checkpoints = createCheckpoints(job, { ...checkout, agent, progress, fileBytesMax });
  let agentVersion: string | null = null;
  let hasWorkspace = false;

  let ending: Ending;
  try {
    const fetched = await prepareWorkspace(job, checkout);
    hasWorkspace = true;
    if (agent === null) throw new InstallFault(`there is no agent called ${spec.agent}`);
    const installDir = await install(job, agent);
    agentVersion = agent.facts.version;
    const allowance = await job.allowanceKeeper.openIn(rooms.side, spec.allowance);
    const hasSession = await restoreSession(job, agent, fetched);
    if (hasSession) progress.sessionId = spec.resume?.session?.id ?? null;
    const onPhaseEnd = () => checkpoints.take("phase");
    checkpoints.start();
    ending = await runPhases(job, {
      ...{ agent, installDir, terminal, log, progress, allowance, hasSession, onPhaseEnd },
    });
  } catch (error) {
    ending = endingOf(error, stop);
  }
  await checkpoints.stop();
  ending = await explained(ending, stop);
  if (hasWorkspace) await takeLast(checkpoints, ending, stop);
  const nothing: Collected = { changes: null, fault: null };
  const { changes, fault } = hasWorkspace ? await collect(job, checkout) : nothing;
  if (fault !== null) ending = { outcome: "workspace_failed", detail: fault };
  await job.tolerant(() => cast.flush());
  await job.tolerant(() => log.flush());
  await outbox.flush();
  return {
    purpose: "agent",
    outcome: ending.outcome,
    detail: ending.detail.slice(0, DETAIL_MAX),
    agent_version: agentVersion,
    completed_phases: [...new Set(progress.completedPhases)],
    plan_text: progress.planText?.slice(0, PLAN_MAX) ?? null,
    diff: {
      files_changed: changes?.filesChanged ?? 0,
      lines_added: changes?.linesAdded ?? 0,
      lines_removed: changes?.linesRemoved ?? 0,
      touched_test_files: [...(changes?.touchedTestFiles ?? [])],
    },
    survivors_killed: progress.survivorsKilled,
  };
}

/** What was done so far; where nobody would hear of it, none. */
async function takeLast(checkpoints: Checkpoints, { outcome }: Ending, stop: Stop): Promise<void> {
  const reason = stop.reason();
  if (reason === "fenced" || reason === "orphaned") return;
  const isToGoOn = outcome === "budget" || outcome === "quota" || outcome === "killed";
  await checkpoints.take(isToGoOn && reason !== "cancelled" ? "pause" : "end");
}

/** A clean clone, with what the checkpoint has when it goes on from one. */
async function prepareWorkspace(job: Job<AgentSpec>, checkout: Checkout): Promise<Fetched | null> {
  const { spec, rooms, client, outbox, stop, runAs } = job;
  const { git, source, litter } = checkout;
  const { signal } = stop;
  if (!(await client.source(source.bundle))) throw new WorkspaceFault("there is no source");
  await checkOut(git, source, rooms.workspace, { signal, litter });
  const fetched = await fetchCheckpoint(job);
  if (fetched !== null) {
    await restoreTree(rooms.workspace, fetched);
    const detail = `${fetched.manifest.work.length} files from ${spec.resume?.checkpoint?.id}`;
    outbox.emit("worker.step", { step: "resumed", detail });
  }
  await handOver(rooms.workspace, runAs);
  outbox.emit("worker.step", { step: "workspace_ready", detail: spec.base_commit });
  return fetched;
}

/** The folder of the agent's installed package. @throws InstallFault, or the stop's reason. */
async function install({ spec, outbox, stop, ...job }: Job<AgentSpec>, agent: Agent) {
  try {
    return await job.install(agent, stop.signal, ({ step, detail }) => {
      outbox.emit("worker.step", { step, detail: `${spec.agent}: ${detail}` });
    });
  } catch (error) {
    stop.signal.throwIfAborted();
    throw new InstallFault(messageOf(error), { cause: error });
  }
}

/** A stop that was asked for outranks what the CLI made of it. */
async function explained(said: Ending, stop: Stop): Promise<Ending> {
  // A refused call may end the CLI before the directive that says why has come.
  if (said.outcome !== "finished") await pause(EXPLANATION_MS, stop.signal);
  const reason = stop.reason();
  if (reason === null) return said;
  const detail = reason === "signal" ? "the worker was told to end" : (stop.detail() ?? reason);
  return { outcome: reason === "budget" || reason === "quota" ? reason : "killed", detail };
}

/** Collects and uploads the diff; a diff that cannot be taken is a fault to report. */
async function collect(job: Job<AgentSpec>, checkout: Checkout): Promise<Collected> {
  const { spec, rooms, client, outbox } = job;
  const { git, source, litter } = checkout;
  const maxBytes = spec.limits.artefact_bytes;
  try {
    const changes = await collectChanges(git, {
      source,
      workspace: rooms.workspace,
      scratchDir: join(rooms.private, "collect"),
      litter,
      fileBytesMax: Math.min(FILE_BYTES_MAX, maxBytes),
      patchBytesMax: maxBytes,
    });
    for (const message of changes.notes) outbox.emit("trial.note", { level: "warn", message });
    const patch = createArtefact(client.putArtefact, { name: "changes.patch", maxBytes });
    patch.append(changes.patch);
    await patch.flush();
    outbox.emit("worker.step", { step: "collected", detail: `${changes.filesChanged} files` });
    return { changes, fault: null };
  } catch (error) {
    if (!(error instanceof WorkspaceFault)) throw error;
    return { changes: null, fault: error.message };
  }
}

/** The CLI could not be installed. */
class InstallFault extends Error {
  override readonly name = "InstallFault";
}

function endingOf(error: unknown, stop: Stop): Ending {
  const detail = messageOf(error);
  if (error === stop.signal.reason) return { outcome: "killed", detail };
  if (error instanceof InstallFault) return { outcome: "install_failed", detail };
  if (error instanceof WorkspaceFault) return { outcome: "workspace_failed", detail };
  throw error;
}

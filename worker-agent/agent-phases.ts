/** Runs the phases of an agent one after the other, and streams what they say. */
import { mkdir, realpath, rm, writeFile } from "node:fs/promises";
import { dirname, isAbsolute, join, relative } from "node:path";
import type { AgentReport, AgentSpec } from "../orchestrator/contract/worker.ts";
import {
  type Agent,
  type OutputParser,
  type Phase,
  type PhaseName,
  type PlanInput,
  withPlanText,
} from "./agents/agent.ts";
import {
  ALLOWANCE_VARIABLE,
  type AllowancePlaces,
  allowanceLines,
  withAllowance,
} from "./allowance.ts";
import type { Artefact } from "./artefacts.ts";
import { childEnvironment } from "./child-env.ts";
import { type Egress, openEgress } from "./egress.ts";
import { WorkspaceFault } from "./faults.ts";
import type { Job } from "./job.ts";
import { type ProcessEnd, runProcess } from "./process.ts";
import { handOver, type Rooms } from "./rooms.ts";
import type { Terminal } from "./terminal.ts";
import { createTranscript } from "./transcript.ts";

const ARGUMENT_SHOWN_MAX = 2_000;
const SIGNS_OF_LIFE = new Set(["agent.message", "agent.reasoning", "agent.tool_call"]);

export interface Ending {
  readonly outcome: AgentReport["outcome"];
  readonly detail: string;
}

/** What the phases leave behind, filled while they run: a stop may come at any time. */
export interface PhaseProgress {
  planText: string | null;
  readonly completedPhases: PhaseName[];
  survivorsKilled: number;
  /** The phase that began last, and what reads it, which knows its session sooner than we do. */
  phase: PhaseName | null;
  parser: OutputParser | null;
  /** The session that it was in, where the CLI said so. */
  sessionId: string | null;
}

export interface PhaseDeps {
  readonly agent: Agent;
  readonly installDir: string;
  readonly terminal: Terminal;
  readonly log: Artefact;
  readonly progress: PhaseProgress;
  readonly allowance: AllowancePlaces;
  /** Whether the CLI's session of the specification is in HOME. */
  readonly hasSession: boolean;
  /** Called between two phases. */
  readonly onPhaseEnd: () => Promise<void>;
}

/** Runs the agent's plan up to its end or to the first phase that did not finish. */
export async function runPhases(job: Job<AgentSpec>, deps: PhaseDeps): Promise<Ending> {
  const { spec, clock, outbox } = job;
  const { agent, progress } = deps;
  await using egress = await openEgress(job, spec.gateway_url);
  const startedMs = clock.now();
  const input = planInput(job, deps, egress);
  const { resume } = input;
  const ended = await runAll(input);
  if (resume?.session === undefined || !isLost(ended)) return ended.ending;
  const message = `${spec.agent} could not go on in its session (${ended.ending.detail}); it begins a new one`;
  outbox.emit("trial.note", { level: "warn", message });
  const { session: _lost, ...kept } = resume;
  return (await runAll({ ...input, resume: kept })).ending;

  async function runAll(given: PlanInput): Promise<PhaseEnding> {
    let last: PhaseEnding = { ending: { outcome: "finished", detail: "" }, isSilent: true };
    const phases = agent.plan(given);
    for (const [index, planned] of phases.entries()) {
      const phase = withPlanText(planned, progress.planText ?? "");
      const leftMs = startedMs + spec.limits.wall_ms - clock.now();
      const { ending, isSilent } = await runPhase(job, deps, phase, { egress, wallMs: leftMs });
      last = { ending, isSilent: last.isSilent && isSilent };
      if (ending.outcome !== "finished") break;
      progress.completedPhases.push(phase.name);
      if (index + 1 < phases.length) await deps.onPhaseEnd();
    }
    return last;
  }
}

interface PhaseEnding {
  readonly ending: Ending;
  /** Whether the model was never heard of. */
  readonly isSilent: boolean;
}

/** A session that the CLI did not find, or could not read: it failed before it did anything. */
function isLost({ ending, isSilent }: PhaseEnding): boolean {
  return isSilent && (ending.outcome === "crash" || ending.outcome === "model_error");
}

function planInput(
  job: Job<AgentSpec>,
  { agent, installDir, allowance, hasSession }: PhaseDeps,
  egress: Egress,
): PlanInput {
  const { spec, rooms, clock, runAs } = job;
  const { resume, test_command: testCommand } = spec;
  const where = { file: allowance.file, hasTool: agent.hasMcp };
  const session = hasSession ? resume?.session : undefined;
  return {
    instruction: withAllowance(spec.instruction, spec.allowance, clock.now(), where),
    allowance,
    allowanceText: allowanceLines(spec.allowance, clock.now(), where).join("\n"),
    gatewayUrl: egress.gatewayUrl.replace(/\/+$/, ""),
    virtualKey: spec.virtual_key,
    models: spec.models,
    contextTokens: spec.context_tokens,
    maxOutputTokens: spec.max_output_tokens,
    home: rooms.home,
    tmp: rooms.tmp,
    workdir: rooms.workspace,
    installDir,
    sessionId: job.newSessionId(),
    isRoot: runAs === null && process.getuid?.() === 0,
    deadlineMs: spec.limits.wall_ms,
    ...(testCommand !== undefined && { testCommand }),
    ...(resume !== undefined && {
      resume: {
        completedPhases: resume.completed_phases,
        ...(resume.plan_text !== null && { planText: resume.plan_text }),
        ...(session !== undefined && { session }),
      },
    }),
  };
}

async function runPhase(
  job: Job<AgentSpec>,
  { agent, terminal, log, progress, allowance }: PhaseDeps,
  phase: Phase,
  { egress, wallMs }: { egress: Egress; wallMs: number },
): Promise<PhaseEnding> {
  const { spec, rooms, outbox } = job;
  await writePhaseFiles(phase, job);
  const parser = agent.parser(phase);
  let isSilent = true;
  const emit: typeof outbox.emit = (type, data) => {
    if (SIGNS_OF_LIFE.has(type)) isSilent = false;
    outbox.emit(type, data);
  };
  const transcript = createTranscript({ parser, emit, terminal, log, secret: spec.virtual_key });
  const argv = [phase.file, ...phase.args].map((arg) => arg.slice(0, ARGUMENT_SHOWN_MAX));
  const { name } = phase;
  progress.phase = name;
  progress.parser = parser;
  emit("phase.started", { phase: name, side: phase.sides.join("+"), agent: spec.agent, argv });
  const end = await runProcess(
    job.clock,
    {
      file: phase.file,
      args: phase.args,
      env: {
        ...childEnvironment(job.path, rooms),
        ...phase.env,
        ...egress.env,
        [ALLOWANCE_VARIABLE]: allowance.file,
      },
      cwd: rooms.workspace,
      wrap: egress.wrap,
      terminal: phase.terminal,
      runAs: job.runAs,
      exclusiveUid: job.exclusiveUid,
      marker: spec.allocation_id,
      wallMs,
      idleMs: spec.limits.idle_ms,
      graceMs: job.graceMs,
      watch: job.watch,
      onOutput: transcript.onOutput,
    },
    job.stop.signal,
  );
  transcript.end();
  progress.survivorsKilled += end.survivorsKilled;
  const output = parser.summary();
  progress.sessionId = output.sessionId ?? progress.sessionId;
  const { exitCode, signal } = end;
  const ended = endingOf(end, agent.outcome({ phase: name, exitCode, signal, output }));
  if (name === "plan" && output.finalText !== "") progress.planText = output.finalText;
  emit("phase.ended", {
    phase: name,
    exit_code: exitCode,
    signal,
    duration_ms: end.durationMs,
    outcome: ended.outcome,
  });
  return { ending: ended, isSilent };
}

function endingOf(end: ProcessEnd, said: Ending): Ending {
  switch (end.cause) {
    case "exited":
      return said;
    case "wall_clock":
      return { outcome: "wall_clock", detail: "the trial's time is over" };
    case "idle":
      return { outcome: "idle", detail: "the agent gave no output for too long" };
    case "exceeded":
      return { outcome: "limit", detail: `it was ended, since ${end.exceeded}` };
    case "stopped":
      return { outcome: "killed", detail: "stopped" };
    case "failed_to_start":
      return { outcome: "crash", detail: `it did not start: ${end.startError}` };
  }
}

/**
 * Writes a phase's files for the agent's user. An earlier phase may have left a symbolic link on
 * their way: one that leaves the allocation's own folders is refused, and a file is made anew.
 */
async function writePhaseFiles({ files }: Phase, { rooms, runAs }: Job<AgentSpec>): Promise<void> {
  for (const { path, content, mode } of files) {
    const file = isAbsolute(path) ? path : join(rooms.home, path);
    const folder = dirname(file);
    if (!(await isIn(rooms, await nearestReal(folder)))) {
      throw new WorkspaceFault(`${path} would be written outside of the allocation's folders`);
    }
    const firstMade = await mkdir(folder, { recursive: true });
    await rm(file, { force: true });
    await writeFile(file, content, { mode, flag: "wx" });
    await handOver(firstMade ?? file, runAs);
  }
}

/** Where a folder really is, or will be: the nearest of its parents that exists, resolved. */
async function nearestReal(folder: string): Promise<string> {
  for (let at = folder; ; at = dirname(at)) {
    const real = await realpath(at).catch(() => null);
    if (real !== null) return real;
    if (at === dirname(at)) return at;
  }
}

async function isIn({ home, tmp, workspace }: Rooms, folder: string): Promise<boolean> {
  for (const room of [home, tmp, workspace]) {
    const way = relative(await realpath(room), folder);
    if (way === "" || (way.split("/")[0] !== ".." && !isAbsolute(way))) return true;
  }
  return false;
}

/**
 * What a worker-agent test needs around the worker: a repository, a fake agent, folders, and the
 * worker itself in this process or in one of its own.
 */
import { type ChildProcess, execFileSync, spawn } from "node:child_process";
import { randomUUID } from "node:crypto";
import {
  chmodSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import type { AgentSpec, VerifySpec } from "../../orchestrator/contract/worker.ts";
import type { Agent, OutputParser, Phase } from "../../worker-agent/agents/agent.ts";
import { phaseOutcome } from "../../worker-agent/agents/outcomes.ts";
import type { Config } from "../../worker-agent/config.ts";
import { readLimits } from "../../worker-agent/limits.ts";
import { createStop } from "../../worker-agent/stop.ts";
import { runWorker, type WorkerEnd } from "../../worker-agent/worker.ts";
import type { FakeStep } from "./fake-cli.ts";
import { ENROLMENT_TOKEN, type WorkerOrchestrator } from "./worker-orchestrator.ts";

const FAKE_CLI = join(import.meta.dirname, "fake-cli.ts");
export const VIRTUAL_KEY = "sk-autocode-the-trials-own-key";
export const allocationId = (): string => `allocation_${randomUUID()}`;

/** A folder that is gone when the test is over. */
export function openFolder(): { path: string } & Disposable {
  const path = mkdtempSync(join(tmpdir(), "autocode-worker-"));
  // Another user must be able to pass through it.
  chmodSync(path, 0o755);
  return { path, [Symbol.dispose]: () => rmSync(path, { recursive: true, force: true }) };
}

export interface Repository {
  readonly bundle: string;
  readonly baseCommit: string;
}

/** A repository of these files, as the orchestrator hands it out. */
export function makeRepository(folder: string, files: Record<string, string>): Repository {
  const dir = join(folder, "repository");
  writeFiles(dir, files);
  const git = (...args: string[]) =>
    execFileSync("git", ["-C", dir, "-c", "user.name=t", "-c", "user.email=t@localhost", ...args], {
      encoding: "utf8",
      stdio: ["ignore", "pipe", "ignore"],
    }).trim();
  git("init", "--quiet", "--initial-branch=base");
  git("add", "--all", "--force");
  git("commit", "--quiet", "--no-verify", "-m", "base");
  const bundle = join(folder, "source.bundle");
  git("bundle", "create", bundle, "refs/heads/base");
  return { bundle, baseCommit: git("rev-parse", "HEAD") };
}

export function writeFiles(dir: string, files: Record<string, string>): void {
  for (const [name, content] of Object.entries(files)) {
    const path = join(dir, name);
    mkdirSync(dirname(path), { recursive: true });
    writeFileSync(path, content);
  }
}

/** The diff from the base commit that `change` makes in a clone of it. */
export function makePatch(
  folder: string,
  source: Repository,
  change: (dir: string) => void,
): Buffer {
  const dir = join(folder, `clone-${randomUUID()}`);
  const git = (...args: string[]) =>
    execFileSync("git", args, { stdio: ["ignore", "pipe", "ignore"] });
  git("clone", "--quiet", "--branch", "base", source.bundle, dir);
  change(dir);
  git("-C", dir, "add", "--all", "--force");
  return git("-C", dir, "diff", "--cached", "--binary", "--full-index", "--no-renames");
}

const LIMITS = { wall_ms: 60_000, idle_ms: 60_000, artefact_bytes: 4_000_000 };

export function agentSpec(baseCommit: string, overrides: Partial<AgentSpec> = {}): AgentSpec {
  return {
    purpose: "agent",
    trial_id: "trial_1",
    allocation_id: allocationId(),
    agent: "fake",
    models: { normal: "normal", thinking: "thinking" },
    context_tokens: 32_768,
    max_output_tokens: 4_096,
    gateway_url: "http://127.0.0.1:1",
    virtual_key: VIRTUAL_KEY,
    instruction: "Make the test pass.",
    base_commit: baseCommit,
    allowance: {
      currency: "CAD",
      limit_nanos: "1000000000",
      available_nanos: "500000000",
      percent_used: 50,
      deadline_at: "2030-01-01T00:00:00.000Z",
    },
    limits: LIMITS,
    checkpoints: { every_ms: 60_000, bytes_max: 4_000_000 },
    egress: { kind: "open" },
    ...overrides,
  };
}

export function verifySpec(baseCommit: string, overrides: Partial<VerifySpec> = {}): VerifySpec {
  return {
    purpose: "verify",
    trial_id: "trial_1",
    allocation_id: allocationId(),
    base_commit: baseCommit,
    test: { kind: "command", command: "true" },
    has_hidden_tests: false,
    limits: LIMITS,
    egress: { kind: "open" },
    ...overrides,
  };
}

export interface FakeScript {
  readonly plan?: readonly FakeStep[];
  readonly execute: readonly FakeStep[];
  /** What it does instead of either where its session was put back. */
  readonly resumed?: readonly FakeStep[];
  readonly terminal?: boolean;
}

/** An agent that runs the fake CLI; `script` may be JSON text, for a worker in another process. */
export function fakeAgent(script: FakeScript): Agent {
  return {
    facts: {
      name: "fake",
      title: "Fake",
      package_source: "builtin",
      package_name: "fake",
      version: "1.2.3",
      license: "Apache-2.0",
      is_redistributable: true,
      wire: "openai.chat",
      pair_mode: "phases",
      is_exit_code_trusted: true,
      budget_stop_status: 403,
      prompt_floor_tokens: 0,
      needs_tool_calls: true,
    },
    binary: { path: "fake", args: [] },
    executableGlobs: [],
    litter: ["*.litter"],
    hasMcp: false,
    session: { files: [".fake/session"], resumeArgs: (id) => ["--resume", String(id)] },
    plan: ({ resume, home, instruction, virtualKey, allowance }) => {
      const phase = (name: Phase["name"], steps: readonly FakeStep[]): Phase => ({
        name,
        sides: [name === "plan" ? "thinking" : "normal"],
        file: process.execPath,
        args: [
          FAKE_CLI,
          JSON.stringify(resume?.session === undefined ? steps : (script.resumed ?? steps)),
          "{plan}",
          ...(resume?.session === undefined ? [] : ["--resume", String(resume.session.id)]),
        ],
        env: { FAKE_KEY: virtualKey, FAKE_ALLOWANCE: allowance.file },
        files: [{ path: `${home}/.fake/instruction.txt`, content: instruction, mode: 0o600 }],
        terminal: script.terminal ?? false,
        planPlaceholder: "{plan}",
      });
      const isPlanned = resume?.completedPhases.includes("plan") ?? false;
      const { plan, execute } = script;
      const planning = plan === undefined || isPlanned ? [] : [phase("plan", plan)];
      return [...planning, phase("execute", execute)];
    },
    parser: fakeParser,
    outcome: phaseOutcome,
  };
}

function fakeParser(): OutputParser {
  let finalText = "";
  return {
    push(line) {
      if (!line.startsWith("{")) return [];
      const { text } = JSON.parse(line) as { text: string };
      finalText = text;
      return [{ type: "agent.message", data: { text } }];
    },
    summary: () => ({
      sessionId: null,
      finalText,
      lastError: null,
      isComplete: true,
      isLimitReached: false,
    }),
  };
}

export interface RunOptions {
  readonly folder: string;
  readonly agent?: Agent;
  readonly config?: Partial<Config>;
}

export function workerConfig(url: string, folder: string, overrides: Partial<Config> = {}): Config {
  return {
    apiUrl: url,
    enrolmentToken: ENROLMENT_TOKEN,
    allocationDir: join(folder, "allocation"),
    removesAllocationDir: false,
    agentsDir: join(folder, "agents"),
    hiddenDirs: [folder],
    runAs: null,
    limits: readLimits({}, []),
    orphanMs: 20_000,
    path: `${dirname(process.execPath)}:/usr/local/bin:/usr/bin:/bin`,
    installEnv: {},
    ...overrides,
  };
}

/** Runs a worker in this process to its end. */
export function runInProcess(
  orchestrator: WorkerOrchestrator,
  { folder, agent, config }: RunOptions,
): Promise<WorkerEnd> {
  const deps = {
    clock: { now: () => Date.now() },
    findAgent: (name: string) => (name === agent?.facts.name ? agent : null),
    install: async () => "/nowhere",
    newSessionId: randomUUID,
    log: () => {},
    graceMs: 1_000,
  };
  return runWorker(deps, workerConfig(orchestrator.url, folder, config), createStop());
}

/** Starts a worker in a process of its own: `main.ts`, or with a fake agent when given one. */
export function startWorker(
  orchestrator: WorkerOrchestrator,
  {
    folder,
    script,
    env = {},
  }: { folder: string; script?: FakeScript; env?: Readonly<Record<string, string>> },
): { child: ChildProcess; exited: Promise<number | null>; errors: () => string } {
  const root = join(import.meta.dirname, "../..");
  const entry = script === undefined ? "worker-agent/main.ts" : "test/support/worker-entry.ts";
  const child = spawn(process.execPath, [join(root, entry), JSON.stringify(script ?? null)], {
    stdio: ["ignore", "ignore", "pipe"],
    env: {
      PATH: "/usr/local/bin:/usr/bin:/bin",
      AUTOCODE_API_URL: orchestrator.url,
      AUTOCODE_ENROLMENT_TOKEN: ENROLMENT_TOKEN,
      AUTOCODE_ALLOCATION_DIR: join(folder, "allocation"),
      AUTOCODE_AGENTS_DIR: join(folder, "agents"),
      AUTOCODE_ORPHAN_MS: "20000",
      ...env,
    },
  });
  let errors = "";
  child.stderr.on("data", (bytes: Buffer) => {
    errors += bytes;
    process.stderr.write(bytes);
  });
  const exited = new Promise<number | null>((resolve) => child.once("close", resolve));
  return { child, exited, errors: () => errors };
}

/** The processes whose environment holds the allocation's marker. */
export function markedProcesses(allocation: string): number[] {
  return readdirSync("/proc").flatMap((name) => {
    try {
      const environ = readFileSync(`/proc/${Number(name)}/environ`, "latin1");
      return environ.includes(`AUTOCODE_TRIAL=${allocation}`) ? [Number(name)] : [];
    } catch {
      return [];
    }
  });
}

/** Whether the process runs; one that has ended and was not collected does not. */
export function isRunning(pid: number): boolean {
  try {
    return !/^State:\s+[ZX]/m.test(readFileSync(`/proc/${pid}/status`, "utf8"));
  } catch {
    return false;
  }
}

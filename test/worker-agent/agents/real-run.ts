/** Runs the real CLIs on a small repository of their own, against the scripted model. */
import { execFileSync } from "node:child_process";
import {
  chmod,
  chown,
  copyFile,
  cp,
  mkdir,
  mkdtemp,
  readdir,
  rm,
  writeFile,
} from "node:fs/promises";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { parseScript } from "../../../models/scripted/script.ts";
import { createScriptedModel } from "../../../models/scripted/server.ts";
import type { Agent, AgentEvent, Phase, PlanInput } from "../../../worker-agent/agents/agent.ts";
import { runProcess } from "../../../worker-agent/process.ts";
import { openRefusingProxy, proxyVariables } from "../../support/refusing-proxy.ts";

const ROOT = join(import.meta.dirname, "../../..");
const TASK = join(ROOT, "examples/tasks/fix-median");
const NOBODY = { uid: 65_534, gid: 65_534 };
const WALL_MS = 120_000;

/** What the allowance's tool says. */
export const ALLOWANCE_SAID = "0.1234 CAD are left";

export const INSTRUCTION = "The median of an even number of values is wrong in this repository.";

export interface RealRunOptions {
  readonly installDir: string;
  readonly instruction?: string;
  readonly isRoot?: boolean;
  readonly resume?: PlanInput["resume"];
  /** YAML of a script to play instead of the examples' own. */
  readonly script?: string;
  /** More files of the repository, by path. */
  readonly repositoryFiles?: Readonly<Record<string, string>>;
}

export interface RealPhase {
  readonly name: string;
  readonly outcome: string;
  readonly detail: string;
  readonly sides: readonly string[];
  readonly events: readonly AgentEvent[];
  readonly lines: readonly string[];
  readonly finalText: string;
  readonly changes: readonly string[];
}

export interface RealRun {
  readonly phases: readonly RealPhase[];
  readonly refusedHosts: readonly string[];
  readonly doTestsPass: boolean;
  readonly calls: number;
}

/** Runs the phases of `agent` until one does not finish. */
export async function runForReal(agent: Agent, options: RealRunOptions): Promise<RealRun> {
  const { script } = options;
  const model = createScriptedModel(
    script === undefined
      ? { scriptsDir: join(ROOT, "examples/scripts") }
      : { scripts: [parseScript("test", "test.yaml", script)] },
  );
  const refusedHosts: string[] = [];
  const folder = await mkdtemp(join(tmpdir(), "autocode-real-"));
  const program = join(folder, "side/allowance-tool.mts");
  const allowanceFile = join(folder, "side/allowance.json");
  const serverArgs = [program, allowanceFile];
  try {
    await using proxy = await openRefusingProxy(({ host }) => refusedHosts.push(host));
    const { url } = await model.listen();
    const canDrop = process.getuid?.() === 0 && options.isRoot !== true;
    const room = await makeRoom(folder, canDrop, options.repositoryFiles ?? {});
    const phases: RealPhase[] = [];
    await mkdir(join(folder, "side"));
    await copyFile(join(ROOT, "worker-agent/allowance-tool.ts"), program);
    await writeFile(allowanceFile, `{ "summary": "${ALLOWANCE_SAID}" }\n`);
    for (const phase of agent.plan(planInput(url))) {
      const firstCall = model.requests().length;
      const ran = await runPhase(phase, room, canDrop, proxyVariables(proxy.url, url));
      const sides = model
        .requests()
        .slice(firstCall)
        .flatMap(({ side }) => side ?? []);
      phases.push({ ...ran, sides: [...new Set(sides)] });
      if (ran.outcome !== "finished") break;
    }
    const calls = model.requests().length;
    return { phases, refusedHosts, doTestsPass: doTestsPass(room.workdir), calls };
  } finally {
    await model.close();
    await rm(folder, { recursive: true, force: true });
  }

  function planInput(gatewayUrl: string): PlanInput {
    return {
      instruction: options.instruction ?? INSTRUCTION,
      gatewayUrl,
      virtualKey: "vk-for-this-run-alone",
      models: { normal: "scripted-normal", thinking: "scripted-thinking" },
      contextTokens: 131_072,
      maxOutputTokens: 8_192,
      home: join(folder, "home"),
      tmp: join(folder, "tmp"),
      workdir: join(folder, "work"),
      installDir: options.installDir,
      sessionId: "5b0f4d50-9a1c-4f3a-8a1d-2b110a7c9a9e",
      isRoot: options.isRoot === true,
      deadlineMs: WALL_MS,
      allowance: { file: allowanceFile, server: { command: process.execPath, args: serverArgs } },
      allowanceText: "Your allowance: enough.",
      ...(options.resume && { resume: options.resume }),
    };
  }

  async function runPhase(
    phase: Phase,
    { workdir, tmp }: Room,
    canDrop: boolean,
    proxyEnv: Readonly<Record<string, string>>,
  ): Promise<Omit<RealPhase, "sides">> {
    for (const { path, content, mode } of phase.files) {
      await mkdir(dirname(path), { recursive: true });
      await writeFile(path, content, { mode });
    }
    if (canDrop) await giveToNobody(folder);
    const output = { stdout: "", stderr: "", terminal: "" };
    const end = await runProcess(
      { now: () => performance.timeOrigin + performance.now() },
      {
        file: phase.file,
        args: phase.args,
        env: { PATH: `${dirname(process.execPath)}:/usr/bin:/bin`, ...phase.env, ...proxyEnv },
        cwd: workdir,
        terminal: phase.terminal,
        runAs: canDrop ? NOBODY : null,
        exclusiveUid: null,
        marker: tmp,
        wallMs: WALL_MS,
        idleMs: null,
        graceMs: 1_000,
        onOutput: (bytes, stream) => {
          output[stream] += bytes.toString("utf8");
        },
      },
      new AbortController().signal,
    );
    const parser = agent.parser(phase);
    const lines = [...output.stdout.split("\n"), ...output.stderr.split("\n")];
    const events = lines.flatMap((line) => parser.push(line));
    const { exitCode, signal } = end;
    const summary = parser.summary();
    const said = agent.outcome({ phase: phase.name, exitCode, signal, output: summary });
    const changes = changedFiles(workdir, agent.litter);
    return { name: phase.name, ...said, events, lines, finalText: summary.finalText, changes };
  }
}

interface Room {
  readonly workdir: string;
  readonly tmp: string;
}

async function makeRoom(
  folder: string,
  canDrop: boolean,
  repositoryFiles: Readonly<Record<string, string>>,
): Promise<Room> {
  const workdir = join(folder, "work");
  const tmp = join(folder, "tmp");
  await chmod(folder, 0o755);
  await mkdir(join(folder, "home"));
  await mkdir(tmp);
  await cp(join(TASK, "environment"), workdir, { recursive: true });
  for (const [path, content] of Object.entries(repositoryFiles)) {
    await mkdir(dirname(join(workdir, path)), { recursive: true });
    await writeFile(join(workdir, path), content);
  }
  const identity = ["-c", "user.name=test", "-c", "user.email=test@localhost"];
  git(workdir, ["init", "-q"]);
  git(workdir, ["add", "."]);
  git(workdir, [...identity, "commit", "-qm", "base"]);
  if (canDrop) await giveToNobody(folder);
  return { workdir, tmp };
}

async function giveToNobody(folder: string): Promise<void> {
  for (const entry of await readdir(folder, { recursive: true, withFileTypes: true })) {
    if (!entry.isSymbolicLink()) {
      await chown(join(entry.parentPath, entry.name), NOBODY.uid, NOBODY.gid);
    }
  }
}

function changedFiles(workdir: string, litter: readonly string[]): string[] {
  const excludes = litter.flatMap((pattern) => ["--exclude", pattern]);
  const tracked = git(workdir, ["diff", "--name-only"]);
  const others = git(workdir, ["ls-files", "--others", ...excludes]);
  return `${tracked}${others}`.split("\n").filter((line) => line !== "");
}

function git(cwd: string, args: readonly string[]): string {
  return execFileSync("git", ["-c", "safe.directory=*", ...args], { cwd, encoding: "utf8" });
}

function doTestsPass(cwd: string): boolean {
  try {
    // Without the variables by which this test's own runner is known to its children.
    execFileSync(process.execPath, ["--test"], { cwd, env: {}, stdio: "ignore" });
    return true;
  } catch {
    return false;
  }
}

/**
 * A whole installation under test: `node orchestrator/main.ts` as a process of its own, in a home
 * of its own, driven by the real command line and API.
 *
 * Invariant: when it is disposed of, no process runs that was started for its home.
 */
import assert from "node:assert/strict";
import { type ChildProcess, spawn } from "node:child_process";
import { chmod, mkdir, mkdtemp, readdir, readFile, rm, symlink, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import { env } from "node:process";
import { setTimeout as pause } from "node:timers/promises";
import type { Call, CallList } from "../../orchestrator/contract/calls.ts";
import type { EventPage, TrialEvent } from "../../orchestrator/contract/events.ts";
import type { Trial, TrialState } from "../../orchestrator/contract/trials.ts";
import { eventually } from "./eventually.ts";

export const ROOT = resolve(import.meta.dirname, "../..");
export const TERMINAL: readonly TrialState[] = ["succeeded", "failed", "errored", "cancelled"];
const READY = /API and UI at (http\S+), gateway at (http\S+)/;
const START_MS = 60_000;
const STOP_MS = 30_000;

/** What an engine's own settings on this machine would change. */
const FOREIGN =
  /^(AUTOCODE_|OPENAI_|ANTHROPIC_|VLLM_|NOMAD_|VAULT_|DATABASE_URL|NODE_TEST_CONTEXT|NODE_OPTIONS)/;

export interface Ended {
  exit: number | null;
  out: string;
  err: string;
}

export interface RunningProcess {
  pid: number;
  command: string;
}

export interface InstallationOptions {
  example?: "on" | "off";
  /** On top of what every installation under test gets. */
  env?: Record<string, string>;
  /** False: the agents are not linked into the home. */
  agents?: boolean;
}

export type Installation = Awaited<ReturnType<typeof openInstallation>>;

/** Why tests with these agents cannot run here, false when they can: for `test`'s `skip`. */
export async function whyNoAgents(...names: string[]): Promise<string | false> {
  const isRequired = env["AUTOCODE_REQUIRE_ENGINES"] === "all";
  const dir = env["AUTOCODE_TEST_AGENTS_DIR"] ?? "";
  const there = dir === "" ? [] : await readdir(dir);
  const missing = names.filter((name) => !there.includes(name));
  if (missing.length === 0) return false;
  const reason = `${missing.join(", ")} not in AUTOCODE_TEST_AGENTS_DIR`;
  if (isRequired) assert.fail(`required, but ${reason}`);
  return reason;
}

/** A temporary folder that other users may pass through; removed in the end. */
export async function openFolder(prefix = "autocode-e2e-") {
  const path = await mkdtemp(join(tmpdir(), prefix));
  await chmod(path, 0o755);
  // What a tool left running (Go's telemetry) may write while its folder is removed.
  const remove = () => rm(path, { recursive: true, force: true, maxRetries: 10 });
  return { path, [Symbol.asyncDispose]: remove };
}

/** The environment of this run without what would point it at another installation. */
export function cleanEnvironment(): Record<string, string> {
  const kept = Object.entries(env).filter(([name]) => !FOREIGN.test(name));
  return Object.fromEntries(kept.map(([name, value]) => [name, value ?? ""]));
}

/** Runs a program to its end. */
export function runToEnd(
  file: string,
  args: readonly string[],
  options: { cwd?: string; env?: Record<string, string> } = {},
): Promise<Ended> {
  const child = spawn(file, args, { ...options, stdio: ["ignore", "pipe", "pipe"] });
  const ended: Ended = { exit: null, out: "", err: "" };
  child.stdout.on("data", (bytes: Buffer) => {
    ended.out += bytes;
  });
  child.stderr.on("data", (bytes: Buffer) => {
    ended.err += bytes;
  });
  return new Promise((done, fail) => {
    child.once("error", fail);
    child.once("close", (exit) => done({ ...ended, exit }));
  });
}

/** Makes a home and starts an orchestrator in it. */
export async function openInstallation(options: InstallationOptions = {}) {
  const folder = await openFolder();
  const home = join(folder.path, "home");
  const environment = {
    ...cleanEnvironment(),
    AUTOCODE_HOME: home,
    AUTOCODE_PORT: "0",
    AUTOCODE_EXAMPLE: options.example ?? "off",
    ...options.env,
  };
  let child: ChildProcess | null = null;
  let output = "";
  let url = "";
  let token = "";
  if (options.agents !== false) await linkAgents(home);
  const installation = {
    home,
    folder: folder.path,
    environment,
    url: () => url,
    token: () => token,
    pid: () => child?.pid ?? 0,
    /** What the orchestrator printed since its last start. */
    output: () => output,
    begin,
    ready,
    start,
    stop,
    kill9,
    cli,
    json,
    get,
    trial: (id: string) => get<Trial>(`trials/${id}`),
    calls,
    events,
    untilState,
    processes: () => processesOf(home),
    [Symbol.asyncDispose]: dispose,
  };
  return installation;

  /** Spawns it without waiting for it to listen. */
  function begin(more: Record<string, string> = {}): ChildProcess {
    output = "";
    const started = spawn(process.execPath, [join(ROOT, "orchestrator/main.ts")], {
      cwd: ROOT,
      env: { ...environment, ...more },
      stdio: ["ignore", "pipe", "pipe"],
    });
    for (const stream of [started.stdout, started.stderr]) {
      stream.on("data", (bytes: Buffer) => {
        output += bytes;
      });
    }
    child = started;
    return started;
  }

  async function ready(): Promise<void> {
    const isUpOrOver = () => READY.test(output) || hasEnded(child);
    await eventually(isUpOrOver, Boolean, START_MS);
    assert.match(output, READY, `the orchestrator ended: ${output}`);
    const text = await readFile(join(home, "shared/configs/endpoint.json"), "utf8");
    ({ url, token } = JSON.parse(text) as { url: string; token: string });
  }

  async function start(more: Record<string, string> = {}): Promise<void> {
    begin(more);
    await ready();
  }

  /** Ctrl-C, as a person does it; asserts that it ended in order and left nothing running. */
  async function stop(): Promise<void> {
    assert.ok(child !== null && !hasEnded(child), "nothing runs that could be stopped");
    child.kill("SIGINT");
    await eventually(() => hasEnded(child), Boolean, STOP_MS);
    assert.equal(child.exitCode, 0, output);
    const left = await processesOf(home);
    assert.deepEqual(left, [], "processes outlived the orchestrator");
  }

  /** The orchestrator's process alone; what it started runs on. */
  async function kill9(): Promise<void> {
    assert.ok(child !== null);
    child.kill("SIGKILL");
    await eventually(() => hasEnded(child), Boolean, STOP_MS);
  }

  function cli(...args: string[]): Promise<Ended> {
    const bin = join(ROOT, "bin/autocode.mjs");
    const cliEnv = { ...environment, NO_COLOR: "1" };
    return runToEnd(process.execPath, [bin, ...args], { cwd: folder.path, env: cliEnv });
  }

  /** What a command prints with --json; asserts that it ended with 0. */
  async function json<Value>(...args: string[]): Promise<Value> {
    const ended = await cli(...args, "--json");
    assert.equal(ended.exit, 0, `autocode ${args.join(" ")}: ${ended.err}`);
    return JSON.parse(ended.out) as Value;
  }

  async function get<Value>(path: string): Promise<Value> {
    const response = await fetch(`${url}/api/v1/${path}`, {
      headers: { authorization: `Bearer ${token}` },
    });
    const text = await response.text();
    assert.equal(response.status, 200, `${path}: ${text}`);
    return JSON.parse(text) as Value;
  }

  async function calls(id: string): Promise<Call[]> {
    return (await get<CallList>(`trials/${id}/calls`)).calls;
  }

  async function events(id: string): Promise<TrialEvent[]> {
    const all: TrialEvent[] = [];
    for (let after = 0; ; ) {
      const page = await get<EventPage>(`trials/${id}/events?after_seq=${after}`);
      if (page.events.length === 0) return all;
      all.push(...page.events);
      after = page.next_after_seq;
    }
  }

  function untilState(id: string, states: readonly TrialState[], withinMs = 60_000) {
    const look = () => get<Trial>(`trials/${id}`);
    return eventually(look, ({ state }) => states.includes(state), withinMs);
  }

  async function dispose(): Promise<void> {
    const isRunning = child !== null && !hasEnded(child);
    try {
      if (isRunning) await stop();
    } finally {
      await endAll(home);
      await folder[Symbol.asyncDispose]();
    }
  }
}

/** An installation that listens. */
export async function startInstallation(options: InstallationOptions = {}) {
  const installation = await openInstallation(options);
  try {
    await installation.start();
  } catch (error) {
    await installation[Symbol.asyncDispose]();
    throw error;
  }
  return installation;
}

/** Every process that was started for this home, by its command line or its environment. */
export async function processesOf(home: string): Promise<RunningProcess[]> {
  const found: RunningProcess[] = [];
  for (const name of await readdir("/proc")) {
    if (!/^\d+$/.test(name) || Number(name) === process.pid) continue;
    const [command = "", environment = ""] = await Promise.all(
      ["cmdline", "environ"].map((file) =>
        readFile(`/proc/${name}/${file}`, "latin1").catch(() => ""),
      ),
    );
    if (!command.includes(home) && !environment.includes(home)) continue;
    found.push({ pid: Number(name), command: command.replaceAll("\0", " ").trim() });
  }
  return found;
}

async function endAll(home: string): Promise<void> {
  for (const { pid } of await processesOf(home)) {
    try {
      process.kill(pid, "SIGKILL");
    } catch {
      // It ended by itself in between.
    }
  }
  const endMs = performance.now() + STOP_MS;
  while ((await processesOf(home)).length > 0 && performance.now() < endMs) await pause(20);
  assert.deepEqual(await processesOf(home), [], "processes that cannot be ended");
}

async function linkAgents(home: string): Promise<void> {
  const dir = env["AUTOCODE_TEST_AGENTS_DIR"];
  if (dir === undefined) return;
  await mkdir(join(home, "shared"), { recursive: true, mode: 0o755 });
  await symlink(resolve(dir), join(home, "shared/agents"));
}

function hasEnded(child: ChildProcess | null): boolean {
  return child === null || child.exitCode !== null || child.signalCode !== null;
}

const TASKS = ["fix-median", "csv-quotes", "parse-duration"];

/** Makes a project with the examples' tasks; `lines` are added to its file as they are. */
export async function makeProject(
  installation: Installation,
  name: string,
  lines: readonly string[] = [],
): Promise<void> {
  const has = (key: string) => lines.some((line) => line.startsWith(`${key}:`));
  const text = [
    `project: ${name}`,
    "currency: CAD",
    ...(has("budget") ? [] : ["budget: { total: 25, per_trial: 0.50 }"]),
    ...(has("agents") ? [] : ["agents: [qwen-code, claude-code, aider, codex, opencode]"]),
    ...(has("pairs") ? [] : ["pairs: [scripted]"]),
    ...(has("tasks")
      ? []
      : [`tasks: [${TASKS.map((task) => join(ROOT, "examples/tasks", task))}]`]),
    ...lines,
    "",
  ].join("\n");
  const path = join(installation.folder, `${name}.yaml`);
  await writeFile(path, text);
  const { exit, err } = await installation.cli("project", "apply", "-p", path);
  assert.equal(exit, 0, err);
}

/** Filebeat for tests as a process, with our own configuration: started, asked, killed. */
import assert from "node:assert/strict";
import { type ChildProcess, execFile, spawn } from "node:child_process";
import { once } from "node:events";
import { existsSync } from "node:fs";
import { mkdir, mkdtemp, open, readFile, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { env } from "node:process";
import { promisify } from "node:util";
import { eventually } from "./eventually.ts";
import { freePort } from "./free-port.ts";

const BINARY = join(import.meta.dirname, "../../.engines/filebeat/filebeat");
const CONFIG = join(import.meta.dirname, "../../proxy/filebeat");
const START_WITHIN_MS = 60_000;

/** For a test's `skip`: why, or false. */
export const filebeatSkip: string | false =
  existsSync(BINARY) || env["AUTOCODE_REQUIRE_ENGINES"] === "all"
    ? false
    : "Filebeat is not installed: npm run engines filebeat";

/** Of its log: a line is JSON. */
export interface FilebeatLine {
  readonly "log.level": string;
  readonly "log.logger"?: string;
  readonly message?: string;
  readonly error?: { readonly message?: string };
}

export interface Filebeat extends AsyncDisposable {
  /** What one of its commands says. @throws Error with its words when it fails. */
  command(...args: string[]): Promise<string>;
  /** With the registry that it left; resolves once it answers. */
  start(): Promise<void>;
  /** At once, as when its machine loses power. */
  kill(): Promise<void>;
  /** Of events that it has read and nobody has acknowledged. */
  unacknowledged(): Promise<number>;
  log(): Promise<FilebeatLine[]>;
}

/** Not started yet. `spoolDir`: what the orchestrator's spool is. */
export async function openFilebeat(spoolDir: string, url: string): Promise<Filebeat> {
  const home = await mkdtemp(join(tmpdir(), "autocode-test-filebeat-"));
  for (const folder of ["data", "module"]) await mkdir(join(home, folder));
  const port = await freePort();
  const environment = { HOME: home, AUTOCODE_SPOOL: spoolDir, ELASTICSEARCH_URL: url };
  const paths = ["--path.home", home, "--path.config", CONFIG, "--path.data", join(home, "data")];
  // Of whoever checked us out, not of the user that runs Filebeat.
  const common = [...paths, "--strict.perms=false", "-c", "filebeat.yml"];
  let child: ChildProcess | null = null;
  return {
    command,
    start,
    kill,
    unacknowledged,
    log,
    [Symbol.asyncDispose]: async () => {
      await kill();
      await rm(home, { recursive: true, force: true });
    },
  };

  async function command(...args: string[]): Promise<string> {
    const run = promisify(execFile);
    const { stdout, stderr } = await run(BINARY, [...args, ...common], { env: environment });
    return stdout + stderr;
  }

  async function start(): Promise<void> {
    assert.equal(child, null, "one is running");
    const file = await open(join(home, "log"), "a");
    const told = ["-E", "http.enabled=true", "-E", `http.port=${port}`];
    child = spawn(BINARY, ["-e", ...common, ...told], {
      env: environment,
      stdio: ["ignore", file.fd, file.fd],
    });
    const started = child;
    const hasEnded = () => started.exitCode !== null || started.signalCode !== null;
    await once(started, "spawn");
    await file.close();
    await eventually(() => stats().then(Boolean, hasEnded), Boolean, START_WITHIN_MS);
    assert.ok(!hasEnded(), JSON.stringify((await log()).slice(-3)));
  }

  async function kill(): Promise<void> {
    if (child === null) return;
    const killed = child;
    child = null;
    if (killed.exitCode !== null || killed.signalCode !== null) return;
    const ended = new Promise((resolve) => killed.once("exit", resolve));
    killed.kill("SIGKILL");
    await ended;
  }

  async function unacknowledged(): Promise<number> {
    return (await stats()).libbeat.pipeline.events.active;
  }

  async function stats(): Promise<{ libbeat: { pipeline: { events: { active: number } } } }> {
    const answer = await fetch(`http://127.0.0.1:${port}/stats`);
    return (await answer.json()) as Awaited<ReturnType<typeof stats>>;
  }

  async function log(): Promise<FilebeatLine[]> {
    const text = await readFile(join(home, "log"), "utf8").catch(() => "");
    return text
      .split("\n")
      .filter((line) => line.startsWith("{") && line.endsWith("}"))
      .map((line) => JSON.parse(line) as FilebeatLine);
  }
}

/**
 * Engines as processes of this machine, each in a process group of its own. One outlives whoever
 * started it: the next one to open the same folder finds it by its pid and start time, or, where
 * its starter was killed before it wrote those down, by its environment.
 *
 * Invariant: of one id at most one process runs, and when `stop` is done nothing of its group does.
 */
import { type ChildProcess, spawn } from "node:child_process";
import { mkdir, open, readdir, readFile, rename, rm, writeFile } from "node:fs/promises";
import { createServer } from "node:net";
import { basename, join } from "node:path";
import { setTimeout as pause } from "node:timers/promises";
import type { PairPlan } from "../contract/models.ts";
import { tryLock } from "../db/folder-lock.ts";
import { Problem } from "../problem.ts";
import type { Clock } from "../runtime/clock.ts";
import type { Log } from "../runtime/log.ts";
import { listenAddress } from "./engine-client.ts";
import type { EngineCondition, EngineLauncher, EngineSpec } from "./serving.ts";

export interface ProcessesOptions {
  /** What is known of this machine's engines: a file each. */
  dir: string;
  /** A log each, of its last start; the one before has `.previous`. */
  logsDir: string;
  /** Where engines listen. */
  host: string;
  /** What every engine gets of our environment; no secret is among it. */
  env: Readonly<Record<string, string>>;
  /** Between asking an engine to end and ending it. */
  graceMs: number;
  /** How often an engine that an earlier process started is looked after, and a log is read on. */
  pollMs: number;
}

interface ProcessFile {
  pid: number;
  /** Since boot, in clock ticks: tells a process from a later one with its number. */
  start_ticks: string;
  started_at_ms: number;
}

const MARK = "AUTOCODE_ENGINE";
const LAST_LINES = 20;
const LAST_BYTES = 16_384;
const CHUNK_BYTES = 65_536;
const STOP_LOOK_MS = 50;
/** What was killed may take so long: what waits for a GPU's driver may never be gone. */
const KILL_MAX_MS = 30_000;
const ENGINE_ID = /^[A-Za-z0-9][A-Za-z0-9._-]{0,200}$/;

export async function openProcesses(
  { clock, log }: { clock: Clock; log: Log },
  options: ProcessesOptions,
): Promise<EngineLauncher> {
  const listeners = new Set<(id: string) => void>();
  /** How those of our own ended, null while they have not; of others' nobody knows. */
  const exits = new Map<string, string | null>();
  const starting = new Map<string, Promise<void>>();
  const watched = new Map<string, NodeJS.Timeout>();
  await mkdir(options.dir, { recursive: true, mode: 0o700 });
  await mkdir(options.logsDir, { recursive: true, mode: 0o700 });
  await adoptAll();
  return {
    ...{ name: "processes", addresses, start, condition, stop, logs, onEnd },
    [Symbol.asyncDispose]: close,
  };

  async function addresses({ models }: Pick<PairPlan, "models">): Promise<string[]> {
    const { host } = options;
    const shownHost = host.includes(":") ? `[${host}]` : host;
    return (await freePorts(host, models.length)).map((port) => `http://${shownHost}:${port}`);
  }

  function start(spec: EngineSpec): Promise<void> {
    const begun = starting.get(spec.id);
    if (begun !== undefined) return begun;
    const started = startOnce(spec).finally(() => starting.delete(spec.id));
    starting.set(spec.id, started);
    return started;
  }

  /** Another process that leads, or thinks it does, may start it at the same moment. */
  async function startOnce(spec: EngineSpec): Promise<void> {
    const held = tryLock(join(options.dir, `${spec.id}.lock`));
    if (held === null) return;
    using _ = held;
    await startAlone(spec);
  }

  async function startAlone(spec: EngineSpec): Promise<void> {
    const { program } = spec;
    if (program.kind !== "command") {
      const detail = `${spec.id} is no command: it was rendered for another launcher`;
      throw new Problem("conflict", `${detail}; bring its pair down, and up again`);
    }
    await adoptLost(spec.id);
    if ((await condition(spec.id)).state === "running") return;
    await refuseTakenPort(spec);
    const log = logPath(spec.id);
    await rename(log, `${log}.previous`).catch(() => {
      // There is none yet.
    });
    const child = await spawnEngine(program, log, {
      ...options.env,
      ...program.env,
      [MARK]: processPath(spec.id),
    });
    const { pid } = child;
    if (pid === undefined) {
      const [file = ""] = program.argv;
      const detail = `${file} could not be started for ${spec.model}`;
      throw new Problem("conflict", `${detail}; set AUTOCODE_VLLM_PYTHON to a Python with vLLM`);
    }
    exits.set(spec.id, null);
    child.once("exit", (code, signal) => {
      exits.set(spec.id, signal === null ? `exit status ${code}` : `signal ${signal}`);
      tell(spec.id);
    });
    const startTicks = (await readStartTicks(pid)) ?? "";
    await writeProcess(spec.id, {
      pid,
      start_ticks: startTicks,
      started_at_ms: clock.now(),
    });
    child.unref();
  }

  async function condition(id: string): Promise<EngineCondition> {
    const known = await readProcess(id);
    if (known === null) return { state: "absent" };
    // One of ours has ended when we know how.
    const isOurs = exits.get(id) === null;
    if (isOurs || (await isRunning(known))) {
      return { state: "running", startedAtMs: known.started_at_ms };
    }
    const exit = exits.get(id) ?? "its exit status is not known";
    return { state: "ended", exit, lastLines: await lastLines(logPath(id)) };
  }

  async function stop(id: string): Promise<void> {
    await starting.get(id)?.catch(() => {});
    await adoptLost(id);
    const known = await readProcess(id);
    if (known === null) return;
    if (await isRunning(known)) {
      signal(known.pid, "SIGTERM");
      const endMs = performance.now() + options.graceMs;
      while ((await isRunning(known)) && performance.now() < endMs) await pause(STOP_LOOK_MS);
      if (await isRunning(known)) log.warn({ engine: id }, "engine did not end in time; killed");
    }
    // Its workers hold the GPU's memory, and may outlive it.
    const killedMs = performance.now() + KILL_MAX_MS;
    for (;;) {
      const left = (await findMarked()).filter(({ mark }) => mark === processPath(id));
      if (left.length === 0) break;
      if (performance.now() > killedMs) throw unkillable(left.map(({ pid }) => pid));
      for (const { pid } of left) signal(pid, "SIGKILL");
      await pause(STOP_LOOK_MS);
    }
    await rm(processPath(id), { force: true });
    clearTimeout(watched.get(id));
    watched.delete(id);
    exits.delete(id);
  }

  async function logs(
    id: string,
    { isFollowed, signal: ended }: { isFollowed: boolean; signal: AbortSignal },
  ): Promise<AsyncIterable<Uint8Array> | null> {
    if (!ENGINE_ID.test(id)) return null;
    const file = await open(logPath(id), "r").catch(() => null);
    if (file === null) return null;
    return (async function* read() {
      await using _ = file;
      for (let at = 0; !ended.aborted; ) {
        const { bytesRead, buffer } = await file.read(Buffer.alloc(CHUNK_BYTES), 0, null, at);
        at += bytesRead;
        if (bytesRead > 0) yield buffer.subarray(0, bytesRead);
        else if (!isFollowed || (await condition(id)).state !== "running") return;
        else await pause(options.pollMs, undefined, { signal: ended }).catch(() => {});
      }
    })();
  }

  function onEnd(listener: (id: string) => void): Disposable {
    listeners.add(listener);
    return { [Symbol.dispose]: () => void listeners.delete(listener) };
  }

  /** Engines run on: whoever opens the folder next finds them. */
  async function close(): Promise<void> {
    for (const timer of watched.values()) clearTimeout(timer);
    listeners.clear();
  }

  async function adoptAll(): Promise<void> {
    const known = new Set(await readdir(options.dir));
    for (const { mark } of await findMarked()) {
      const name = mark.startsWith(`${options.dir}/`) ? basename(mark) : "";
      const id = name.replace(/[.]json$/, "");
      if (known.has(name) || !ENGINE_ID.test(id)) continue;
      known.add(name);
      await adoptLost(id);
    }
    for (const name of known) {
      if (name.endsWith(".json")) await watchAdopted(name.slice(0, -".json".length));
    }
  }

  /** Its starter may have been killed before it wrote it down. */
  async function adoptLost(id: string): Promise<void> {
    if ((await readProcess(id)) !== null) return;
    const [found] = (await findMarked()).filter(({ mark }) => mark === processPath(id));
    if (found === undefined) return;
    const { pid, start_ticks } = found;
    await writeProcess(id, { pid, start_ticks, started_at_ms: clock.now() });
  }

  async function watchAdopted(id: string): Promise<void> {
    const known = await readProcess(id);
    if (known === null || !(await isRunning(known))) return;
    log.info({ engine: id, pid: known.pid }, "engine adopted");
    const look = () => {
      const timer = setTimeout(async () => {
        if (!watched.has(id)) return;
        if (await isRunning(known)) return look();
        watched.delete(id);
        tell(id);
      }, options.pollMs);
      watched.set(id, timer.unref());
    };
    look();
  }

  function tell(id: string): void {
    for (const listener of [...listeners]) listener(id);
  }

  async function readProcess(id: string): Promise<ProcessFile | null> {
    if (!ENGINE_ID.test(id)) throw new RangeError(`an engine cannot be called "${id}"`);
    return readJson(processPath(id));
  }

  async function writeProcess(id: string, written: ProcessFile): Promise<void> {
    const path = processPath(id);
    await writeFile(`${path}.new`, JSON.stringify(written), { mode: 0o600 });
    await rename(`${path}.new`, path);
  }

  function processPath(id: string): string {
    return join(options.dir, `${id}.json`);
  }

  function logPath(id: string): string {
    return join(options.logsDir, `engine-${id}.log`);
  }
}

function unkillable(pids: readonly number[]): Problem {
  const detail =
    `does not end: ${pids.length === 1 ? "process" : "processes"} ${pids.join(", ")} ` +
    "stayed after SIGKILL, as what waits for a GPU's driver does; restart the machine if so";
  return new Problem("conflict", detail);
}

async function readJson(path: string): Promise<ProcessFile | null> {
  try {
    return JSON.parse(await readFile(path, "utf8")) as ProcessFile;
  } catch {
    return null;
  }
}

async function spawnEngine(
  { argv }: { argv: readonly string[] },
  logPath: string,
  env: Record<string, string>,
): Promise<ChildProcess> {
  const [file = "", ...args] = argv;
  const output = await open(logPath, "w", 0o600);
  const child = spawn(file, args, { detached: true, stdio: ["ignore", output.fd, output.fd], env });
  child.once("error", () => {
    // Told by the missing pid.
  });
  await output.close();
  return child;
}

/** An engine that cannot listen says so minutes later, when its weights are loaded. */
async function refuseTakenPort({ baseUrl, model }: EngineSpec): Promise<void> {
  const { host, port } = listenAddress(baseUrl);
  const fault = await new Promise<Error | null>((resolve) => {
    const probe = createServer();
    probe.once("error", resolve);
    probe.listen(port, host, () => probe.close(() => resolve(null)));
  });
  if (fault === null) return;
  const where = `${host}:${port}`;
  const { code } = fault as NodeJS.ErrnoException;
  const detail =
    code === "EADDRINUSE"
      ? `${where} is taken by another program, so ${model} cannot listen there: end that program, ` +
        "or bring the pair down and up again for another port"
      : `nothing can listen at ${where} (${code}): check AUTOCODE_ENGINES_HOST`;
  throw new Problem("conflict", detail, { cause: fault });
}

/** Free a moment ago, and each another. */
async function freePorts(host: string, count: number): Promise<number[]> {
  const probes = Array.from({ length: count }, () => createServer());
  const ports: number[] = [];
  // All at once, so that they differ.
  for (const probe of probes) {
    await new Promise<void>((resolve, reject) => {
      probe.once("error", (cause) => {
        const detail = `AUTOCODE_ENGINES_HOST: nothing can listen at ${host}`;
        reject(new Problem("conflict", detail, { cause }));
      });
      probe.listen(0, host, resolve);
    });
    const address = probe.address();
    ports.push(typeof address === "object" && address !== null ? address.port : 0);
  }
  await Promise.all(probes.map((probe) => new Promise((done) => probe.close(done))));
  return ports;
}

/** What runs as an engine or a worker of one; what began first is first. */
async function findMarked(): Promise<
  (Pick<ProcessFile, "pid" | "start_ticks"> & { mark: string })[]
> {
  const found: (Pick<ProcessFile, "pid" | "start_ticks"> & { mark: string })[] = [];
  for (const name of await readdir("/proc").catch((): string[] => [])) {
    if (!/^[0-9]+$/.test(name)) continue;
    const text = await readFile(`/proc/${name}/environ`, "latin1").catch(() => "");
    const entry = text.split("\0").find((each) => each.startsWith(`${MARK}=`));
    const ticks = entry === undefined ? null : await readStartTicks(Number(name));
    if (entry === undefined || ticks === null) continue;
    found.push({ pid: Number(name), start_ticks: ticks, mark: entry.slice(MARK.length + 1) });
  }
  return found.toSorted((a, b) => Number(a.start_ticks) - Number(b.start_ticks));
}

async function lastLines(path: string): Promise<string[]> {
  try {
    await using file = await open(path, "r");
    const { size } = await file.stat();
    const from = Math.max(0, size - LAST_BYTES);
    const { buffer, bytesRead } = await file.read(Buffer.alloc(LAST_BYTES), 0, LAST_BYTES, from);
    const lines = buffer.toString("utf8", 0, bytesRead).trimEnd().split("\n");
    return lines.slice(-LAST_LINES);
  } catch {
    return [];
  }
}

async function isRunning({ pid, start_ticks: startTicks }: ProcessFile): Promise<boolean> {
  const now = await readStartTicks(pid);
  if (now !== null) return now === startTicks;
  return startTicks === "" && signal(pid, 0);
}

/** Field 22 of /proc/<pid>/stat (proc_pid_stat(5)); null when it runs no more, or without /proc. */
async function readStartTicks(pid: number): Promise<string | null> {
  try {
    const stat = await readFile(`/proc/${pid}/stat`, "latin1");
    const [state, ...fields] = stat.slice(stat.lastIndexOf(")") + 2).split(" ");
    return state === "Z" ? null : (fields[18] ?? null);
  } catch {
    return null;
  }
}

/** Whether the signal could be sent. */
function signal(pid: number, name: NodeJS.Signals | 0): boolean {
  try {
    process.kill(pid, name);
    return true;
  } catch {
    return false;
  }
}

/** The processes under measurement: started, told of by their port, weighed from /proc, ended. */
import { type ChildProcess, spawn } from "node:child_process";
import { readdir, readFile, writeFile } from "node:fs/promises";
import { createConnection } from "node:net";
import { setTimeout as sleep } from "node:timers/promises";

export interface Measured extends AsyncDisposable {
  port: number;
  pid: number;
  /** Microseconds of CPU time of the process and of those it started, since they began. */
  cpuUs(): Promise<number>;
  /** Proportional set size, in bytes. */
  memoryBytes(): Promise<number>;
  /** What it printed. */
  output(): string;
}

export interface StartOptions {
  args: readonly string[];
  env?: Record<string, string | undefined>;
  cwd?: string;
  /** The CPU that it is pinned to, where `taskset` is there. */
  cpu: number;
  /** The port it was told; null: it prints "port N" or an address. */
  port: number | null;
  startMs?: number;
}

/** Clock ticks a second: what /proc counts in on Linux. */
const TICKS = 100;

/** @throws Error with its last words when it does not listen in time. */
export async function startMeasured(file: string, options: StartOptions): Promise<Measured> {
  const { args, env, cwd, cpu } = options;
  const child: ChildProcess = spawn("taskset", ["-c", String(cpu), file, ...args], {
    cwd,
    env: { ...process.env, NODE_OPTIONS: "", ...env },
    stdio: ["ignore", "pipe", "pipe"],
    detached: true,
  });
  let output = "";
  for (const stream of [child.stdout, child.stderr]) {
    stream?.on("data", (bytes: Buffer) => {
      output = (output + bytes.toString()).slice(-20_000);
    });
  }
  child.on("error", (error) => {
    output += error.message;
  });
  const pid = child.pid ?? 0;
  await prioritise(pid);
  const endMs = performance.now() + (options.startMs ?? 20_000);
  for (;;) {
    const port = options.port ?? Number(/(?:port |:)(\d{4,5})\b/.exec(output)?.[1] ?? 0);
    if (port > 0 && (await isListening(port))) {
      const rest = { cpuUs: () => cpuOf(pid), memoryBytes: () => memoryOf(pid) };
      return { port, pid, output: () => output, ...rest, [Symbol.asyncDispose]: end };
    }
    if (child.exitCode !== null || performance.now() > endMs || pid === 0) {
      await end();
      throw new Error(`${file} does not listen: ${output.slice(-600)}`);
    }
    await sleep(50);
  }

  async function end(): Promise<void> {
    if (child.exitCode !== null || child.signalCode !== null || pid === 0) return;
    const ended = new Promise((resolve) => child.once("exit", resolve));
    child.kill("SIGTERM");
    const timer = setTimeout(() => process.kill(-pid, "SIGKILL"), 5_000);
    await ended;
    clearTimeout(timer);
  }
}

function isListening(port: number): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = createConnection({ port, host: "127.0.0.1" });
    socket.once("connect", () => {
      socket.destroy();
      resolve(true);
    });
    socket.once("error", () => resolve(false));
  });
}

/**
 * Lets a process and its session go before what else the machine does, where that is allowed: on a
 * busy machine a round trip to the database is otherwise a wait for a turn. Plain `nice` counts
 * within a session only.
 */
export async function prioritise(pid: number): Promise<void> {
  // A server may give each of its processes a session of its own.
  for (const one of await treeOf(pid)) {
    await writeFile(`/proc/${one}/autogroup`, "-15").catch(() => undefined);
  }
}

/** The process and everything below it. */
async function treeOf(pid: number): Promise<number[]> {
  const parents = new Map<number, number>();
  for (const name of await readdir("/proc")) {
    if (!/^\d+$/.test(name)) continue;
    const stat = await readFile(`/proc/${name}/stat`, "latin1").catch(() => "");
    const parent = Number(stat.slice(stat.lastIndexOf(")") + 2).split(" ")[1]);
    parents.set(Number(name), parent);
  }
  const found = [pid];
  for (const at of found) {
    for (const [child, parent] of parents) if (parent === at) found.push(child);
  }
  return found;
}

export async function cpuOf(pid: number): Promise<number> {
  let ticks = 0;
  for (const one of await treeOf(pid)) {
    const stat = await readFile(`/proc/${one}/stat`, "latin1").catch(() => "");
    const fields = stat.slice(stat.lastIndexOf(")") + 2).split(" ");
    ticks += Number(fields[11] ?? 0) + Number(fields[12] ?? 0);
  }
  return (ticks * 1e6) / TICKS;
}

async function memoryOf(pid: number): Promise<number> {
  let kib = 0;
  for (const one of await treeOf(pid)) {
    const text = await readFile(`/proc/${one}/smaps_rollup`, "latin1").catch(() => "");
    kib += Number(/^Pss: +(\d+)/m.exec(text)?.[1] ?? 0);
  }
  return kib * 1_024;
}

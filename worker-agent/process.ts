/**
 * Runs one process of the allocation, headless or in a pseudo-terminal, and ends everything that
 * it started.
 *
 * Invariant: when the promise resolves, no process that carries the allocation's marker runs.
 * The order is: TERM to the group, a grace period, KILL to the group, KILL to survivors elsewhere.
 */
import { spawn } from "node:child_process";
import { constants, setPriority } from "node:os";
import { type Clock, pause } from "./clock.ts";
import type { RunAs } from "./config.ts";
import { messageOf } from "./faults.ts";
import type { Command } from "./isolate/isolate.ts";
import type { Watch } from "./limits.ts";
import { createFamily, type Family, MARKER_VARIABLE, signalQuietly } from "./survivors.ts";
import { TERMINAL_HEIGHT, TERMINAL_WIDTH } from "./terminal.ts";

const LOOK_EVERY_MS = 1_000;
const SETTLE_MS = 200;
const SWEEP_TIMES = 20;
const SWEEP_PAUSE_MS = 50;
const STOPPED_FIRST = 32;
const PIPES_CLOSE_MS = 1_000;
/** What we are busy with goes before what an agent is. */
const NICENESS = 5;

export interface ProcessSpec {
  readonly file: string;
  readonly args: readonly string[];
  /** Complete but for the marker, which is added here. */
  readonly env: Readonly<Record<string, string>>;
  readonly cwd: string;
  /** Puts it behind the allocation's isolation; null or absent: it is started as it is. */
  readonly wrap?: ((command: Command) => Command) | null;
  readonly terminal: boolean;
  readonly runAs: RunAs | null;
  /** The user of `runAs`, when nobody else's processes run as it. */
  readonly exclusiveUid?: number | null;
  /** The allocation's id: what survivors are found by. */
  readonly marker: string;
  readonly wallMs: number;
  /** No output for this long ends the process; null: never. */
  readonly idleMs: number | null;
  /** What a process gets between TERM and KILL. */
  readonly graceMs: number;
  /** Looks at all of its processes now and then; what it tells of ends them. */
  readonly watch?: Watch;
  readonly onOutput: (bytes: Buffer, stream: "stdout" | "stderr" | "terminal") => void;
}

/**
 * Why it ended; `failed_to_start`: there was no process, `startError` says why; `exceeded`: it took
 * more of the host than it may, `exceeded` says what.
 */
export type EndCause =
  | "exited"
  | "wall_clock"
  | "idle"
  | "stopped"
  | "exceeded"
  | "failed_to_start";

export interface ProcessEnd {
  readonly cause: EndCause;
  readonly exitCode: number | null;
  readonly signal: string | null;
  readonly durationMs: number;
  /** Processes outside of the group, or deaf to TERM, that had to be killed. */
  readonly survivorsKilled: number;
  readonly startError: string | null;
  readonly exceeded?: string;
}

interface Exit {
  readonly exitCode: number | null;
  readonly signal: string | null;
}

interface Started {
  readonly pid: number;
  readonly exited: Promise<Exit>;
  /** Closes what we still hold of its output. */
  readonly release: () => Promise<void>;
}

/** Runs it to its end, or ends it when `stop` is aborted or a limit is met. Never throws. */
export async function runProcess(
  clock: Clock,
  spec: ProcessSpec,
  stop: AbortSignal,
): Promise<ProcessEnd> {
  const startedMs = clock.now();
  const family = createFamily(spec.marker, spec.exclusiveUid ?? null);
  let lastOutputMs = startedMs;
  let exceeded: string | null = null;
  const onOutput: ProcessSpec["onOutput"] = (bytes, stream) => {
    lastOutputMs = clock.now();
    spec.onOutput(bytes, stream);
  };
  let started: Started;
  try {
    started = await (spec.terminal ? startInTerminal : startHeadless)({ ...spec, onOutput });
  } catch (error) {
    const startError = messageOf(error);
    return ended("failed_to_start", { exitCode: null, signal: null }, 0, startError);
  }

  const cause = await firstEnd();
  if (cause !== "exited") await endGroup(started, spec.graceMs);
  // Children that are about to end with their parent are no survivors.
  else if (family.alive().length > 0) await pause(SETTLE_MS);
  const survivorsKilled = await sweep(family);
  const exit = exitOf(await started.exited, spec);
  await started.release();
  return ended(cause, exit, survivorsKilled, null);

  /** Waits for whatever comes first, looking at the family now and then. */
  async function firstEnd(): Promise<EndCause> {
    const exited = started.exited.then(() => "exited" as const);
    for (;;) {
      const nowMs = clock.now();
      if (stop.aborted) return "stopped";
      if (nowMs - startedMs >= spec.wallMs) return "wall_clock";
      if (spec.idleMs !== null && nowMs - lastOutputMs >= spec.idleMs) return "idle";
      // Looked at also to know later those that cut their ties.
      const pids = family.alive();
      exceeded = spec.watch?.look(pids) ?? null;
      if (exceeded !== null) return "exceeded";
      const wallLeftMs = startedMs + spec.wallMs - nowMs;
      const idleLeftMs = spec.idleMs === null ? wallLeftMs : lastOutputMs + spec.idleMs - nowMs;
      const waitMs = Math.max(Math.min(wallLeftMs, idleLeftMs, LOOK_EVERY_MS), 1);
      const waiting = new AbortController();
      const wake = AbortSignal.any([stop, waiting.signal]);
      const first = await Promise.race([exited, pause(waitMs, wake)]);
      waiting.abort();
      if (first === "exited") return first;
    }
  }

  function ended(
    endCause: EndCause,
    { exitCode, signal }: Exit,
    survivors: number,
    startError: string | null,
  ): ProcessEnd {
    const durationMs = Math.max(clock.now() - startedMs, 0);
    return {
      cause: endCause,
      exitCode,
      signal,
      durationMs,
      survivorsKilled: survivors,
      startError,
      ...(exceeded === null ? {} : { exceeded }),
    };
  }
}

/** Ends every process that carries the marker; how many there were. */
export async function sweepMarker(marker: string): Promise<number> {
  return sweep(createFamily(marker, null));
}

/** What is really started. */
function commandOf(spec: ProcessSpec, more: Readonly<Record<string, string>>): Command {
  const { file, args, cwd, runAs, wrap } = spec;
  const env = { ...spec.env, ...more, [MARKER_VARIABLE]: spec.marker };
  return (wrap ?? ((command) => command))({ file, args, cwd, runAs, env });
}

/** Behind an isolation the end by a signal is a status, as a shell tells it: 128 and the signal. */
function exitOf(exit: Exit, { wrap = null }: ProcessSpec): Exit {
  const number = (exit.exitCode ?? 0) - 128;
  const [name] = Object.entries(constants.signals).find(([, value]) => value === number) ?? [];
  return wrap === null || name === undefined ? exit : { exitCode: null, signal: name };
}

async function startHeadless(spec: ProcessSpec): Promise<Started> {
  const { file, args, cwd, env, runAs } = commandOf(spec, {});
  const child = spawn(file, [...args], {
    cwd,
    env,
    // An open, silent input makes some CLIs wait for its end before they start.
    stdio: ["ignore", "pipe", "pipe"],
    detached: true,
    ...(runAs ?? {}),
  });
  child.stdout.on("data", (bytes: Buffer) => spec.onOutput(bytes, "stdout"));
  child.stderr.on("data", (bytes: Buffer) => spec.onOutput(bytes, "stderr"));
  const closed = new Promise<void>((resolve) => child.once("close", () => resolve()));
  const exited = new Promise<Exit>((resolve) => {
    child.once("exit", (exitCode, signal) => resolve({ exitCode, signal }));
  });
  await new Promise<void>((resolve, reject) => {
    child.once("spawn", resolve);
    child.once("error", reject);
  });
  child.on("error", () => child.kill("SIGKILL"));
  const { pid } = child;
  if (pid === undefined) throw new Error("the process has no number");
  yieldToUs(pid);
  return { pid, exited, release };

  async function release(): Promise<void> {
    const waiting = new AbortController();
    await Promise.race([closed, pause(PIPES_CLOSE_MS, waiting.signal)]);
    waiting.abort();
    child.stdout.destroy();
    child.stderr.destroy();
  }
}

async function startInTerminal(spec: ProcessSpec): Promise<Started> {
  // Loaded here: most phases need no terminal, and this is a native module.
  const { spawn: spawnInTerminal } = await import("@lydell/node-pty");
  // Unlike Node's own spawn it leaves our supplementary groups (docker, disk) to the child.
  if (spec.runAs !== null) process.setgroups?.([]);
  const { file, args, cwd, env, runAs } = commandOf(spec, { TERM: "xterm-256color" });
  const terminal = spawnInTerminal(file, [...args], {
    cwd,
    env: { ...env },
    cols: TERMINAL_WIDTH,
    rows: TERMINAL_HEIGHT,
    name: "xterm-256color",
    encoding: null,
    ...(runAs ?? {}),
  });
  // Typed as text; with no encoding it is bytes.
  terminal.onData((data: unknown) => spec.onOutput(data as Buffer, "terminal"));
  const exited = new Promise<Exit>((resolve) => {
    terminal.onExit(({ exitCode, signal = 0 }) => {
      const name = Object.entries(constants.signals).find(([, number]) => number === signal)?.[0];
      resolve(signal === 0 ? { exitCode, signal: null } : { exitCode: null, signal: name ?? "?" });
    });
  });
  yieldToUs(terminal.pid);
  // It closes by itself when the last process that holds its other side is gone.
  return { pid: terminal.pid, exited, release: async () => {} };
}

/** Its children have it from it. */
function yieldToUs(pid: number): void {
  try {
    setPriority(pid, NICENESS);
  } catch {
    // It has ended already, or runs as somebody whom we may not tell.
  }
}

async function endGroup({ pid, exited }: Started, graceMs: number): Promise<void> {
  signalQuietly(-pid, "SIGTERM");
  const waiting = new AbortController();
  await Promise.race([exited, pause(graceMs, waiting.signal)]);
  waiting.abort();
  signalQuietly(-pid, "SIGKILL");
  await exited;
}

/** Kills until nobody is left: a process may fork while it is being looked for. */
async function sweep(family: Family): Promise<number> {
  const killed = new Set<number>();
  for (let round = 0; round < SWEEP_TIMES; round++) {
    const alive = family.alive();
    if (alive.length === 0) break;
    // Stopped first: of many that fork, each one killed makes room for another.
    if (alive.length > STOPPED_FIRST) for (const pid of alive) signalQuietly(pid, "SIGSTOP");
    for (const pid of alive) {
      killed.add(pid);
      signalQuietly(pid, "SIGKILL");
    }
    await pause(SWEEP_PAUSE_MS);
  }
  return killed.size;
}

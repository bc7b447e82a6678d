/**
 * What an allocation may take of its host: the kernel's limits for each process, and a watch over
 * all of them together, for what no limit of a process bounds.
 *
 * Invariant: our own process takes the limits before it starts another, so that every child has
 * them from its first instruction, and cannot raise them again unless it is root.
 */
import { spawnSync } from "node:child_process";
import { lstatSync, readdirSync, readFileSync, statfsSync } from "node:fs";
import { totalmem } from "node:os";
import { join } from "node:path";

export interface Limits {
  /** Processes and threads of the agent's own user. */
  readonly processes: number;
  /** Of all together; a process by itself can reserve somewhat more, and not use it. */
  readonly memoryBytes: number;
  /** Of one file, and of the allocation's folder where the volume has lost as much. */
  readonly diskBytes: number;
  /** What is to stay free on the volume, unless others fill it. */
  readonly diskFreeBytes: number;
  readonly openFiles: number;
}

/** Looks at an allocation that runs. */
export interface Watch {
  /** What is taken that may not be, in a sentence; null: all is well. */
  look(pids: readonly number[]): string | null;
}

const MIB = 1_048_576;
const PREFIX = "AUTOCODE_LIMIT_";
const VARIABLES = ["PROCESSES", "MEMORY_MIB", "DISK_MIB", "DISK_FREE_MIB", "OPEN_FILES"] as const;
const PROCESSES = 4_096;
const MEMORY_MIB_MAX = 16_384;
const DISK_MIB = 32_768;
const DISK_FREE_MIB = 1_024;
const OPEN_FILES = 65_536;
const NUMBER_MAX = 2 ** 31;
/** Below these not even the agents' own programs run. */
const PROCESSES_MIN = 64;
const MEMORY_MIB_MIN = 512;
/** Node reserves half a GiB for code that it never touches, and the kernel counts it. */
const RESERVED_BYTES = 1_024 * MIB;
/** A folder of many files takes a while to walk. */
const WALK_EVERY_LOOKS = 10;

/** The limits that `env` says; a fault for each that is no whole number in its range. */
export function readLimits(
  env: Readonly<Record<string, string | undefined>>,
  faults: string[],
): Limits {
  // A quarter is left to the system, the orchestrator and other allocations.
  const memoryMib = Math.min(MEMORY_MIB_MAX, Math.floor((totalmem() / MIB) * 0.75));
  return {
    processes: whole("PROCESSES", PROCESSES, PROCESSES_MIN),
    memoryBytes: whole("MEMORY_MIB", Math.max(memoryMib, MEMORY_MIB_MIN), MEMORY_MIB_MIN) * MIB,
    diskBytes: whole("DISK_MIB", DISK_MIB, 1) * MIB,
    diskFreeBytes: whole("DISK_FREE_MIB", DISK_FREE_MIB, 0) * MIB,
    openFiles: whole("OPEN_FILES", OPEN_FILES, 256),
  };

  function whole(name: (typeof VARIABLES)[number], otherwise: number, least: number): number {
    const text = env[PREFIX + name] ?? String(otherwise);
    const value = /^[0-9]{1,10}$/.test(text) ? Number(text) : Number.NaN;
    if (value >= least && value <= NUMBER_MAX) return value;
    faults.push(`${PREFIX}${name} must be a whole number from ${least} to ${NUMBER_MAX}`);
    return otherwise;
  }
}

/** What of `env` sets limits: for whoever starts a worker-agent and hands its own on. */
export function limitVariables(
  env: Readonly<Record<string, string | undefined>>,
): Record<string, string> {
  return Object.fromEntries(
    VARIABLES.flatMap((name): [string, string][] => {
      const value = env[PREFIX + name];
      return value === undefined ? [] : [[PREFIX + name, value]];
    }),
  );
}

/**
 * Takes the limits upon this process, and so upon all that it will start, with prlimit(1) of
 * util-linux: Node cannot set them by itself. Returns what could not be limited, and why.
 *
 * @param hasOwnUser whether children run as a user of their own: of ours all processes would count.
 */
export function limitOurselves(limits: Limits, hasOwnUser: boolean): string[] {
  const wanted: [name: string, label: string, value: number][] = [
    ["core", "core file size", 0],
    ["nofile", "open files", limits.openFiles],
    ["fsize", "file size", limits.diskBytes],
    ["data", "data size", limits.memoryBytes + RESERVED_BYTES],
  ];
  if (hasOwnUser) wanted.push(["nproc", "processes", limits.processes]);
  return wanted.flatMap(([name, label, value]) => {
    const most = Math.min(value, hardLimit(label));
    const args = ["--pid", String(process.pid), `--${name}=${most}:${most}`];
    const { error, status, stderr } = spawnSync("prlimit", args, { encoding: "utf8" });
    if (status === 0) return [];
    return [`${name}: ${error?.message ?? stderr.trim()}`];
  });
}

/** What we have may be lower, and not even root may raise it in every container. */
function hardLimit(label: string): number {
  const text = readFileSync("/proc/self/limits", "latin1");
  const [, hard] = new RegExp(`^Max ${label} +\\S+ +(\\d+)`, "m").exec(text) ?? [];
  return hard === undefined ? Number.MAX_SAFE_INTEGER : Number(hard);
}

/** @param folder the allocation's own: what it holds is what the allocation is charged with. */
export function createWatch(limits: Limits, folder: string): Watch {
  const freeBefore = freeBytes(folder);
  let looks = 0;
  return { look };

  function look(pids: readonly number[]): string | null {
    const looked = looks++;
    // Threads count as well for the kernel, which refuses more: who stands there is a fork bomb.
    if (pids.length >= limits.processes * 0.9) return `it runs ${pids.length} processes`;
    const memoryBytes = pids.reduce((sum, pid) => sum + residentBytes(pid), 0);
    if (memoryBytes > limits.memoryBytes) return tell("memory", memoryBytes, limits.memoryBytes);
    return looked % WALK_EVERY_LOOKS === 0 || isLow() ? lookAtDisk() : null;
  }

  function isLow(): boolean {
    const free = freeBytes(folder);
    return free !== null && free < limits.diskFreeBytes;
  }

  /** The folder is walked only when the volume has lost so much that it may be why. */
  function lookAtDisk(): string | null {
    const free = freeBytes(folder);
    if (free === null || freeBefore === null) return null;
    const lost = freeBefore - free;
    if (lost <= limits.diskBytes && free >= limits.diskFreeBytes) return null;
    const held = treeBytes(folder);
    if (held > limits.diskBytes) return tell("disk", held, limits.diskBytes);
    // Near the end of the volume, whoever holds more than what should be free has to go.
    if (free >= limits.diskFreeBytes || held <= limits.diskFreeBytes) return null;
    return `the volume has ${mib(free)} left, of which it holds ${mib(held)}`;
  }
}

function tell(what: string, takenBytes: number, limitBytes: number): string {
  return `it takes ${mib(takenBytes)} of ${what}; its limit is ${mib(limitBytes)}`;
}

function mib(bytes: number): string {
  return `${Math.round(bytes / MIB)} MiB`;
}

/** What a process has of its own, in memory or swapped out; 0 for one that is gone. */
function residentBytes(pid: number): number {
  let text: string;
  try {
    text = readFileSync(`/proc/${pid}/status`, "latin1");
  } catch {
    return 0;
  }
  const fields = text.matchAll(/^(?:RssAnon|RssShmem|VmSwap):\s+(\d+) kB$/gm);
  return [...fields].reduce((sum, [, kib]) => sum + Number(kib) * 1_024, 0);
}

/** Null where it cannot be told. */
function freeBytes(folder: string): number | null {
  try {
    const { bavail, bsize } = statfsSync(folder);
    return bavail * bsize;
  } catch {
    return null;
  }
}

function treeBytes(folder: string): number {
  let sum = 0;
  try {
    for (const entry of readdirSync(folder, { withFileTypes: true })) {
      const path = join(folder, entry.name);
      sum += entry.isDirectory() ? treeBytes(path) : blocksOf(path);
    }
  } catch {
    // Gone meanwhile, or closed to us: what can be seen is what is counted.
  }
  return sum;
}

function blocksOf(path: string): number {
  const found = lstatSync(path, { throwIfNoEntry: false });
  return (found?.blocks ?? 0) * 512;
}

/**
 * Runs worker-agents as processes of this machine, each for one allocation, in a process group and
 * (as root) as a user of its slot. One outlives whoever started it: the next one to open the same
 * folder finds it by its pid and start time.
 *
 * Invariant: when an allocation's end is told, nothing of it runs and its folder is gone.
 */
import { type ChildProcess, spawn } from "node:child_process";
import { mkdir, open, readdir, readFile, rm, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { keepAllocationLog, LOG_FILES, type Output, readAllocationLog } from "./allocation-log.ts";
import { makePassage } from "./rooms.ts";

export interface AllocationsOptions {
  /** The worker-agent's command line. */
  command: readonly [string, ...string[]];
  /** Where workers reach the orchestrator; asked at each start, since the port may be any. */
  apiUrl: () => string;
  /** One folder an allocation, removed when it has ended. */
  allocationsDir: string;
  agentsDir: string;
  /** What a worker needs of the environment, and nothing more. */
  env: Readonly<Record<string, string>>;
  /** As root: the first of the user ids for agents, one a slot. Null: all run as we do. */
  firstUid: number | null;
  /** Between asking a worker to end and ending it. */
  graceMs: number;
  /** How often a worker that an earlier process started is looked after. */
  adoptedPollMs: number;
  /** Ends what an allocation left running, wherever it went; how many that were. */
  sweep: (allocationId: AllocationId) => Promise<number>;
}

export type AllocationId = `allocation_${string}`;
/** `lost`: nobody saw how it ended. */
export type AllocationEnd = "complete" | "failed" | "lost";
export type AllocationLog = (
  level: "warn" | "error",
  message: string,
  fields: Record<string, unknown>,
) => void;

export interface Allocations {
  /** Null when it neither starts nor runs. */
  status(id: AllocationId): "starting" | "running" | null;
  ids(): AllocationId[];
  /** Resolves once it runs. One that cannot be started has ended, as `failed`. */
  start(id: AllocationId, enrolmentToken: string): Promise<void>;
  /** Asks, waits, ends: resolves when nothing of it runs. No error when it has ended. */
  end(id: AllocationId): Promise<void>;
  /** Starts nothing more, and ends all. */
  endAll(): Promise<void>;
  /** What its worker printed, also for a while after its end. Null: nothing. */
  readLog(
    id: AllocationId,
    options: { output: Output | null; isFollowed: () => boolean },
  ): Promise<AsyncIterable<Uint8Array> | null>;
}

interface Running {
  /** Null for one that was found ended: its number may be another process's by now. */
  pid: number | null;
  /** Null for one whose slot is not known any more; it is over. */
  slot: number | null;
  ended: Promise<void>;
}

interface ProcessFile {
  pid: number;
  /** Since boot, in clock ticks: tells a process from a later one with its number. */
  start_ticks: string;
  slot: number | null;
}

const ALLOCATION = /^allocation_[0-7][0-9a-hjkmnp-tv-z]{25}$/;

/** Adopts what an earlier process left; `onEnd` is called once for each allocation. */
export async function openAllocations(
  options: AllocationsOptions,
  onEnd: (id: AllocationId, outcome: AllocationEnd) => void,
  log: AllocationLog,
): Promise<Allocations> {
  const starting = new Map<AllocationId, Promise<void>>();
  const running = new Map<AllocationId, Running>();
  const slotsTaken = new Set<number>();

  await makePassage(options.allocationsDir);
  await mkdir(compiledDir(options), { recursive: true, mode: 0o700 });
  await adoptAll();
  return {
    status: (id) => (running.has(id) ? "running" : starting.has(id) ? "starting" : null),
    ids: () => [...new Set([...running.keys(), ...starting.keys()])],
    start,
    end,
    endAll,
    readLog: (id, { output, isFollowed }) => {
      const isGrowing = () => isFollowed() && (running.has(id) || starting.has(id));
      return readAllocationLog(options.allocationsDir, id, { output, isGrowing });
    },
  };

  function start(id: AllocationId, enrolmentToken: string): Promise<void> {
    const started = tryStart(id, enrolmentToken)
      .catch((error: unknown) => {
        log("error", "worker did not start", { err: error, allocation_id: id });
        starting.delete(id);
        onEnd(id, "failed");
      })
      .finally(() => starting.delete(id));
    starting.set(id, started);
    return started;
  }

  async function tryStart(id: AllocationId, enrolmentToken: string): Promise<void> {
    const folder = join(options.allocationsDir, id);
    const slot = takeSlot();
    try {
      await makePassage(folder);
      const child = await spawnWorker(options, { enrolmentToken, folder, slot });
      const { pid } = child;
      if (pid === undefined) throw new Error(`${options.command[0]} could not be started`);
      const done = untilExit(child).then((code) => (code === 0 ? "complete" : "failed"));
      const startTicks = (await readStartTicks(pid)) ?? "";
      const written: ProcessFile = { pid, start_ticks: startTicks, slot };
      // Before it is watched: the folder of one that ends at once goes with its end.
      await writeFile(join(folder, "process.json"), JSON.stringify(written), {
        mode: 0o600,
      }).catch((error: unknown) => {
        // It runs all the same; whoever comes after us finds it by its environment.
        log("warn", "process file not written", { err: error, allocation_id: id });
      });
      watch(id, { pid, slot }, done);
    } catch (error) {
      slotsTaken.delete(slot);
      await rm(folder, { recursive: true, force: true });
      throw error;
    }
  }

  function watch(
    id: AllocationId,
    worker: Omit<Running, "ended">,
    done: Promise<AllocationEnd>,
  ): void {
    if (worker.slot !== null) slotsTaken.add(worker.slot);
    const finished = done.then(async (outcome) => {
      const survivors = await options.sweep(id);
      if (survivors > 0) log("warn", "survivors ended", { allocation_id: id, survivors });
      await keepAllocationLog(options.allocationsDir, id).catch((error: unknown) => {
        log("warn", "worker's log not kept", { err: error, allocation_id: id });
      });
      await rm(join(options.allocationsDir, id), { recursive: true, force: true });
      forget(outcome);
    });
    const ended = finished.catch((error: unknown) => {
      log("error", "allocation not cleaned up", { err: error, allocation_id: id });
      forget("failed");
    });
    running.set(id, { ...worker, ended });

    function forget(outcome: AllocationEnd): void {
      running.delete(id);
      starting.delete(id);
      if (worker.slot !== null) slotsTaken.delete(worker.slot);
      onEnd(id, outcome);
    }
  }

  async function end(id: AllocationId): Promise<void> {
    await starting.get(id);
    const worker = running.get(id);
    if (worker === undefined) return;
    if (worker.pid === null) return worker.ended;
    // The worker first, so that it can report and clean up after itself.
    signal(worker.pid, "SIGTERM");
    let timer: NodeJS.Timeout | undefined;
    const overdue = new Promise<"overdue">((resolve) => {
      timer = setTimeout(() => resolve("overdue"), options.graceMs);
    });
    const first = await Promise.race([worker.ended, overdue]);
    clearTimeout(timer);
    if (first !== "overdue") return;
    log("warn", "worker did not end in time; killed", { allocation_id: id });
    signal(-worker.pid, "SIGKILL");
    await worker.ended;
  }

  async function endAll(): Promise<void> {
    await Promise.all(starting.values());
    await Promise.all([...running.keys()].map(end));
  }

  function takeSlot(): number {
    let slot = 0;
    while (slotsTaken.has(slot)) slot += 1;
    slotsTaken.add(slot);
    return slot;
  }

  /** Workers of a process before this one: watched if they live, cleaned up if not. */
  async function adoptAll(): Promise<void> {
    for (const name of await readdir(options.allocationsDir)) {
      if (!isAllocationId(name)) continue;
      const folder = join(options.allocationsDir, name);
      const known = await readProcessFile(join(folder, "process.json"));
      // None: killed between starting the worker and writing its number down.
      const worker = known ?? (await findWorker(folder));
      const isAlive = worker !== null && (await isRunning(worker));
      const adopted = { pid: isAlive ? worker.pid : null, slot: isAlive ? worker.slot : null };
      const done = isAlive ? untilGone(worker) : Promise.resolve();
      watch(
        name,
        adopted,
        done.then(() => "lost" as const),
      );
    }
  }

  /** The worker whose folder this is, by its environment; its slot from the user it was given. */
  async function findWorker(folder: string): Promise<ProcessFile | null> {
    for (const name of await readdir("/proc").catch((): string[] => [])) {
      if (!/^[0-9]+$/.test(name)) continue;
      const text = await readFile(`/proc/${name}/environ`, "latin1").catch(() => "");
      const environment = text.split("\0");
      if (!environment.includes(`AUTOCODE_ALLOCATION_DIR=${folder}`)) continue;
      const pid = Number(name);
      const uid = Number(
        /^AUTOCODE_RUN_AS=([0-9]+)/m.exec(environment.join("\n"))?.[1] ?? Number.NaN,
      );
      const slot = options.firstUid === null || Number.isNaN(uid) ? null : uid - options.firstUid;
      return { pid, start_ticks: (await readStartTicks(pid)) ?? "", slot };
    }
    return null;
  }

  async function untilGone(worker: ProcessFile): Promise<void> {
    while (await isRunning(worker)) {
      await new Promise((resolve) => setTimeout(resolve, options.adoptedPollMs));
    }
  }
}

/** Beside the allocations, where no isolated agent looks, and no agent's user may write. */
function compiledDir({ allocationsDir }: Pick<AllocationsOptions, "allocationsDir">): string {
  return join(allocationsDir, "compiled");
}

export function isAllocationId(text: string): text is AllocationId {
  return ALLOCATION.test(text);
}

async function spawnWorker(
  options: AllocationsOptions,
  worker: { enrolmentToken: string; folder: string; slot: number },
): Promise<ChildProcess> {
  const { enrolmentToken, folder, slot } = worker;
  await using stdout = await open(join(folder, LOG_FILES.stdout), "a", 0o600);
  await using stderr = await open(join(folder, LOG_FILES.stderr), "a", 0o600);
  const [file, ...args] = options.command;
  const uid = options.firstUid === null ? null : options.firstUid + slot;
  const child = spawn(file, args, {
    cwd: folder,
    detached: true,
    stdio: ["ignore", stdout.fd, stderr.fd],
    env: {
      // What was compiled for the one before: a start costs a third to a half less of a processor.
      NODE_COMPILE_CACHE: compiledDir(options),
      ...options.env,
      AUTOCODE_API_URL: options.apiUrl(),
      AUTOCODE_ENROLMENT_TOKEN: enrolmentToken,
      AUTOCODE_ALLOCATION_DIR: folder,
      AUTOCODE_AGENTS_DIR: options.agentsDir,
      ...(uid === null ? {} : { AUTOCODE_RUN_AS: `${uid}:${uid}` }),
    },
  });
  child.once("error", () => {
    // Told by the missing pid.
  });
  return child;
}

/** Its exit code, also when it ended before anyone listened; null when a signal ended it. */
function untilExit(child: ChildProcess): Promise<number | null> {
  const { exitCode, signalCode } = child;
  if (exitCode !== null || signalCode !== null) return Promise.resolve(exitCode);
  return new Promise((resolve) => {
    child.once("exit", (code) => resolve(code));
  });
}

async function readProcessFile(path: string): Promise<ProcessFile | null> {
  try {
    return JSON.parse(await readFile(path, "utf8")) as ProcessFile;
  } catch {
    return null;
  }
}

async function isRunning(worker: ProcessFile): Promise<boolean> {
  const startTicks = await readStartTicks(worker.pid);
  if (startTicks !== null) return startTicks === worker.start_ticks;
  if (worker.start_ticks !== "") return false;
  return signal(worker.pid, 0);
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

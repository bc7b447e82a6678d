/**
 * Runs allocations as processes of this machine: no more than `slots` at once, the rest wait in
 * line. A worker outlives a killed orchestrator; the next one finds it by its pid and start time.
 */
import { type ChildProcess, spawn } from "node:child_process";
import { mkdir, open, readdir, readFile, rm, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { type AllocationId, isId } from "../runtime/ids.ts";
import type { Log } from "../runtime/log.ts";
import type { AllocationStatus, Placement, Scheduler } from "./scheduler.ts";

export interface LocalOptions {
  /** The worker-agent's command line. */
  command: readonly [string, ...string[]];
  /** Where workers reach the orchestrator; asked at each start, since the port may be any. */
  apiUrl: () => string;
  /** One folder an allocation, removed when it has ended. */
  allocationsDir: string;
  agentsDir: string;
  slots: number;
  /** What a worker needs of the environment, and nothing more. */
  env: Readonly<Record<string, string>>;
  /** As root: the first of `slots` user ids for agents, one a slot. Null: all run as we do. */
  firstUid: number | null;
  /** Between asking a worker to end and ending it. */
  graceMs: number;
  /** How often a worker that an earlier orchestrator started is looked after. */
  adoptedPollMs: number;
  /** Ends what an allocation left running, wherever it went; how many that were. */
  sweep: (allocationId: AllocationId) => Promise<number>;
}

interface Running {
  pid: number;
  /** Since boot, in clock ticks: tells a process from a later one with its number. */
  startTicks: string;
  slot: number;
  ended: Promise<void>;
}

interface ProcessFile {
  pid: number;
  start_ticks: string;
  slot: number;
}

/** Ended allocations are forgotten after this many more. */
const ENDED_KEPT = 1000;

export async function openLocalScheduler(options: LocalOptions, log: Log): Promise<Scheduler> {
  const pending: Placement[] = [];
  const starting = new Set<AllocationId>();
  const running = new Map<AllocationId, Running>();
  const slotsTaken = new Set<number>();
  const ended = new Map<AllocationId, AllocationStatus>();
  const listeners = new Set<(allocationId: AllocationId) => void>();
  let isClosing = false;

  await mkdir(options.allocationsDir, { recursive: true });
  await adoptAll();
  return {
    name: "local",
    place,
    status,
    stop,
    capacity: async () =>
      Math.max(0, options.slots - running.size - starting.size - pending.length),
    onEnd(listener) {
      listeners.add(listener);
      return { [Symbol.dispose]: () => void listeners.delete(listener) };
    },
    [Symbol.asyncDispose]: close,
  };

  async function place(placement: Placement): Promise<void> {
    if (isClosing) throw new Error("the scheduler is closing");
    if ((await status(placement.allocationId)) !== null) return;
    pending.push(placement);
    startNext();
  }

  function startNext(): void {
    if (isClosing || running.size + starting.size >= options.slots) return;
    const next = pending.shift();
    if (next === undefined) return;
    starting.add(next.allocationId);
    void start(next)
      .catch((error) => {
        log.error({ err: error, allocation_id: next.allocationId }, "worker did not start");
        remember(next.allocationId, "failed");
      })
      .finally(() => {
        starting.delete(next.allocationId);
        startNext();
      });
  }

  async function start({ allocationId, enrolmentToken }: Placement): Promise<void> {
    const folder = join(options.allocationsDir, allocationId);
    const slot = takeSlot();
    try {
      // The agent's user passes through; what is inside has its own rights.
      await mkdir(folder, { recursive: true, mode: 0o711 });
      const child = await spawnWorker(options, { allocationId, enrolmentToken, folder, slot });
      const { pid } = child;
      if (pid === undefined) throw new Error(`${options.command[0]} could not be started`);
      const done = new Promise<AllocationStatus>((resolve) => {
        child.once("exit", (code) => resolve(code === 0 ? "complete" : "failed"));
      });
      const startTicks = (await readStartTicks(pid)) ?? "";
      watch(allocationId, { pid, startTicks, slot }, done);
      const written: ProcessFile = { pid, start_ticks: startTicks, slot };
      await writeFile(join(folder, "process.json"), JSON.stringify(written), { mode: 0o600 });
    } catch (error) {
      if (!running.has(allocationId)) slotsTaken.delete(slot);
      throw error;
    }
  }

  function watch(
    allocationId: AllocationId,
    worker: Omit<Running, "ended">,
    done: Promise<AllocationStatus>,
  ): void {
    slotsTaken.add(worker.slot);
    const finished = done.then(async (outcome) => {
      const survivors = await options.sweep(allocationId);
      if (survivors > 0) log.warn({ allocation_id: allocationId, survivors }, "survivors ended");
      await rm(join(options.allocationsDir, allocationId), { recursive: true, force: true });
      forget(outcome);
    });
    const whenEnded = finished.catch((error) => {
      log.error({ err: error, allocation_id: allocationId }, "allocation not cleaned up");
      forget("failed");
    });
    running.set(allocationId, { ...worker, ended: whenEnded });

    function forget(outcome: AllocationStatus): void {
      running.delete(allocationId);
      slotsTaken.delete(worker.slot);
      remember(allocationId, outcome);
      startNext();
    }
  }

  function remember(allocationId: AllocationId, outcome: AllocationStatus): void {
    ended.set(allocationId, outcome);
    for (const oldest of ended.keys()) {
      if (ended.size <= ENDED_KEPT) break;
      ended.delete(oldest);
    }
    for (const listener of [...listeners]) listener(allocationId);
  }

  async function status(allocationId: AllocationId): Promise<AllocationStatus | null> {
    if (running.has(allocationId)) return "running";
    const isWaiting = pending.some((placement) => placement.allocationId === allocationId);
    if (isWaiting || starting.has(allocationId)) return "pending";
    return ended.get(allocationId) ?? null;
  }

  async function stop(allocationId: AllocationId): Promise<void> {
    const waiting = pending.findIndex((placement) => placement.allocationId === allocationId);
    if (waiting !== -1) {
      pending.splice(waiting, 1);
      remember(allocationId, "failed");
    }
    const worker = running.get(allocationId);
    if (worker !== undefined) await end(allocationId, worker);
  }

  /** Asks, waits, ends: the worker first, so that it can report and clean up after itself. */
  async function end(allocationId: AllocationId, worker: Running): Promise<void> {
    signal(worker.pid, "SIGTERM");
    let timer: NodeJS.Timeout | undefined;
    const overdue = new Promise<"overdue">((resolve) => {
      timer = setTimeout(() => resolve("overdue"), options.graceMs);
    });
    const first = await Promise.race([worker.ended, overdue]);
    clearTimeout(timer);
    if (first !== "overdue") return;
    log.warn({ allocation_id: allocationId }, "worker did not end in time; killed");
    signal(-worker.pid, "SIGKILL");
    await worker.ended;
  }

  async function close(): Promise<void> {
    isClosing = true;
    pending.length = 0;
    await Promise.all([...running].map(([allocationId, worker]) => end(allocationId, worker)));
  }

  function takeSlot(): number {
    let slot = 0;
    while (slotsTaken.has(slot)) slot += 1;
    slotsTaken.add(slot);
    return slot;
  }

  /** Workers of an orchestrator before this one: watched if they live, cleaned up if not. */
  async function adoptAll(): Promise<void> {
    for (const name of await readdir(options.allocationsDir)) {
      if (!isId("allocation", name)) continue;
      const worker = await readProcessFile(join(options.allocationsDir, name, "process.json"));
      const isAlive = worker !== null && (await isRunning(worker));
      const { pid = 0, start_ticks: startTicks = "", slot = 0 } = worker ?? {};
      const done = isAlive && worker !== null ? untilGone(worker) : Promise.resolve();
      watch(
        name,
        { pid, startTicks, slot },
        done.then(() => "lost" as const),
      );
    }
  }

  async function untilGone(worker: ProcessFile): Promise<void> {
    while (await isRunning(worker)) {
      await new Promise((resolve) => setTimeout(resolve, options.adoptedPollMs));
    }
  }
}

async function spawnWorker(
  options: LocalOptions,
  worker: { allocationId: AllocationId; enrolmentToken: string; folder: string; slot: number },
): Promise<ChildProcess> {
  const { enrolmentToken, folder, slot } = worker;
  const output = await open(join(folder, "worker.log"), "a", 0o600);
  const [file, ...args] = options.command;
  const uid = options.firstUid === null ? null : options.firstUid + slot;
  const child = spawn(file, args, {
    cwd: folder,
    detached: true,
    stdio: ["ignore", output.fd, output.fd],
    env: {
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
  await output.close();
  return child;
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

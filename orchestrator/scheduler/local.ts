/**
 * Runs allocations as processes of this machine: no more than `slots` at once, the rest wait in
 * line. A worker outlives a killed orchestrator; the next one finds it by its pid and start time.
 */
import { type ChildProcess, spawn } from "node:child_process";
import { mkdir, open, readdir, readFile, rm, writeFile } from "node:fs/promises";
import { join } from "node:path";
import type { Capabilities, Requirements } from "../contract/workers.ts";
import { Problem } from "../problem.ts";
import { type AllocationId, isId } from "../runtime/ids.ts";
import type { Log } from "../runtime/log.ts";
import { followFile } from "./follow-file.ts";
import { lacks } from "./placement.ts";
import type { AllocationStatus, Host, Placement, Scheduler } from "./scheduler.ts";

export interface LocalOptions {
  /** The worker-agent's command line. */
  command: readonly [string, ...string[]];
  /** Where workers reach the orchestrator; asked at each start, since the port may be any. */
  apiUrl: () => string;
  /** One folder an allocation, removed when it has ended. */
  allocationsDir: string;
  agentsDir: string;
  slots: number;
  machine: { name: string; capabilities: Capabilities };
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
  /** Null for one that was found ended: its number may be another process's by now. */
  pid: number | null;
  /** Since boot, in clock ticks: tells a process from a later one with its number. */
  startTicks: string;
  /** Null for one whose slot is not known any more; it is over. */
  slot: number | null;
  ended: Promise<void>;
}

interface ProcessFile {
  pid: number;
  start_ticks: string;
  slot: number | null;
}

/** There is one machine, and it is of no other pool. */
const POOL = "local";
/** Ended allocations are forgotten after this many more. */
const ENDED_KEPT = 1000;

export async function openLocalScheduler(options: LocalOptions, log: Log): Promise<Scheduler> {
  const pending: Placement[] = [];
  const starting = new Map<AllocationId, Promise<void>>();
  const running = new Map<AllocationId, Running>();
  const slotsTaken = new Set<number>();
  const ended = new Map<AllocationId, AllocationStatus>();
  const listeners = new Set<(allocationId: AllocationId) => void>();
  let isClosing = false;
  let isDraining = false;

  await mkdir(options.allocationsDir, { recursive: true });
  await adoptAll();
  return {
    name: "local",
    place,
    status: async (allocationId) => statusNow(allocationId),
    stop,
    capacity: async (requirements = {}) => capacity(requirements),
    hosts: async () => [host()],
    drain,
    logs,
    onEnd(listener) {
      listeners.add(listener);
      return { [Symbol.dispose]: () => void listeners.delete(listener) };
    },
    [Symbol.asyncDispose]: close,
  };

  async function place(placement: Placement): Promise<void> {
    if (isClosing) throw new Error("the scheduler is closing");
    // Without a wait in between: two calls at once must not both find nothing.
    if (statusNow(placement.allocationId) !== null) return;
    pending.push(placement);
    startNext();
  }

  function used(): number {
    return running.size + starting.size + pending.length;
  }

  function capacity(requirements: Requirements): number {
    const machine = { capabilities: options.machine.capabilities, pool: POOL };
    if (isDraining || lacks(machine, requirements) !== null) return 0;
    return Math.max(0, options.slots - used());
  }

  function host(): Host {
    const { name, capabilities } = options.machine;
    const status = isDraining ? "draining" : "ready";
    return { id: name, name, pool: POOL, status, slots: options.slots, used: used(), capabilities };
  }

  async function drain(hostId: string, wanted: boolean): Promise<void> {
    const { name } = options.machine;
    if (hostId !== name) throw new Problem("not_found", `There is no host ${hostId} but ${name}`);
    isDraining = wanted;
  }

  async function logs(
    allocationId: AllocationId,
    { isFollowed, signal }: { isFollowed: boolean; signal: AbortSignal },
  ): Promise<AsyncIterable<Uint8Array> | null> {
    const isGrowing = () => isFollowed && !signal.aborted && running.has(allocationId);
    return followFile(join(options.allocationsDir, allocationId, "worker.log"), isGrowing);
  }

  function startNext(): void {
    if (isClosing || running.size + starting.size >= options.slots) return;
    const next = pending.shift();
    if (next === undefined) return;
    const started = start(next)
      .catch((error) => {
        log.error({ err: error, allocation_id: next.allocationId }, "worker did not start");
        remember(next.allocationId, "failed");
      })
      .finally(() => {
        starting.delete(next.allocationId);
        startNext();
      });
    starting.set(next.allocationId, started);
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
      const done = untilExit(child).then((code) => (code === 0 ? "complete" : "failed"));
      const startTicks = (await readStartTicks(pid)) ?? "";
      const written: ProcessFile = { pid, start_ticks: startTicks, slot };
      // Before it is watched: the folder of one that ends at once goes with its end.
      await writeFile(join(folder, "process.json"), JSON.stringify(written), {
        mode: 0o600,
      }).catch((error) => {
        // It runs all the same; an orchestrator after this one finds it by its environment.
        log.warn({ err: error, allocation_id: allocationId }, "process file not written");
      });
      watch(allocationId, { pid, startTicks, slot }, done);
    } catch (error) {
      slotsTaken.delete(slot);
      await rm(folder, { recursive: true, force: true });
      throw error;
    }
  }

  function watch(
    allocationId: AllocationId,
    worker: Omit<Running, "ended">,
    done: Promise<AllocationStatus>,
  ): void {
    if (worker.slot !== null) slotsTaken.add(worker.slot);
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
      if (worker.slot !== null) slotsTaken.delete(worker.slot);
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

  function statusNow(allocationId: AllocationId): AllocationStatus | null {
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
    await starting.get(allocationId);
    const worker = running.get(allocationId);
    if (worker !== undefined) await end(allocationId, worker);
  }

  /** Asks, waits, ends: the worker first, so that it can report and clean up after itself. */
  async function end(allocationId: AllocationId, worker: Running): Promise<void> {
    if (worker.pid === null) return worker.ended;
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
    await Promise.all(starting.values());
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
      const folder = join(options.allocationsDir, name);
      const known = await readProcessFile(join(folder, "process.json"));
      // None: killed between starting the worker and writing its number down.
      const worker = known ?? (await findWorker(folder));
      const isAlive = worker !== null && (await isRunning(worker));
      const adopted = {
        pid: isAlive ? worker.pid : null,
        startTicks: worker?.start_ticks ?? "",
        slot: isAlive ? worker.slot : null,
      };
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

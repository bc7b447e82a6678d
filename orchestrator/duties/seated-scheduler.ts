/**
 * A scheduler of this process among those of other orchestrators that share its data folder. Each
 * one's allocations are its own; those of an orchestrator that was killed are taken over, watched
 * to their end and cleaned up.
 *
 * Invariant: an allocation that another living orchestrator was given is never called unknown,
 * and so never taken for lost: `<placed folder>/<allocation>` is there from before it is placed
 * until it has ended.
 */
import { mkdir, readdir, readFile, rm, writeFile } from "node:fs/promises";
import { join } from "node:path";
import type { WorkerOutput } from "../contract/workers.ts";
import type { AllocationId } from "../runtime/ids.ts";
import type { Log } from "../runtime/log.ts";
import type { AllocationStatus, LogOptions, Placement, Scheduler } from "../scheduler/scheduler.ts";
import type { Seat, Seats } from "./seats.ts";

export interface SeatedOptions {
  /** Where each seat's placements are noted: one folder a seat. */
  placedDir: string;
  /** How often seats of killed processes are looked for. */
  lookMs: number;
  /** A log of another seat's, by the folder that we share; null when it has none of it. */
  readLog: (
    seatNumber: number,
    allocationId: AllocationId,
    options: { output: WorkerOutput | null; isGrowing: () => Promise<boolean> },
  ) => Promise<AsyncIterable<Uint8Array> | null>;
}

/** In a note: another orchestrator wants it stopped. */
const STOP = "stop";

interface Own {
  seat: Seat;
  scheduler: Scheduler;
}

/**
 * @param openAt the scheduler of a seat; it adopts what its last one left running.
 * @param seat ours; it is given up by its owner, not here.
 */
export async function openSeatedScheduler(
  {
    seats,
    seat,
    openAt,
    log,
  }: {
    seats: Seats;
    seat: Seat;
    openAt: (seatNumber: number) => Promise<Scheduler>;
    log: Log;
  },
  { placedDir, lookMs, readLog }: SeatedOptions,
): Promise<Scheduler> {
  const listeners = new Set<(allocationId: AllocationId) => void>();
  await mkdir(placedDir, { recursive: true, mode: 0o700 });
  const own: Own = await open(seat);
  const adopted = new Map<number, Own>();
  let looking: Promise<void> = Promise.resolve();
  let isClosing = false;
  const timer = setInterval(() => {
    looking = looking.then(look).catch((error: unknown) => {
      log.warn({ err: error }, "workers of killed orchestrators not looked for");
    });
  }, lookMs);
  return {
    ...own.scheduler,
    place,
    status,
    stop,
    logs,
    onEnd(listener) {
      listeners.add(listener);
      return { [Symbol.dispose]: () => void listeners.delete(listener) };
    },
    [Symbol.asyncDispose]: close,
  };

  async function open(taken: Seat): Promise<Own> {
    const scheduler = await openAt(taken.number);
    await mkdir(notesOf(taken.number), { recursive: true, mode: 0o700 });
    scheduler.onEnd((allocationId) => {
      void rm(join(notesOf(taken.number), allocationId), { force: true });
      for (const listener of [...listeners]) listener(allocationId);
    });
    // What was noted and never started, or has ended, is nobody's.
    for (const id of await readdir(notesOf(taken.number))) {
      const known = await scheduler.status(id as AllocationId);
      if (known === null) await rm(join(notesOf(taken.number), id), { force: true });
    }
    return { seat: taken, scheduler };
  }

  async function place(placement: Placement): Promise<void> {
    const { allocationId } = placement;
    const note = join(notesOf(seat.number), allocationId);
    await writeFile(note, "", { mode: 0o600 });
    try {
      await own.scheduler.place(placement);
    } catch (error) {
      await rm(note, { force: true });
      throw error;
    }
    // It may have ended before the note was looked for.
    const now = await own.scheduler.status(allocationId);
    if (now !== "pending" && now !== "running") await rm(note, { force: true });
  }

  async function status(allocationId: AllocationId): Promise<AllocationStatus | null> {
    for (const { scheduler } of [own, ...adopted.values()]) {
      const known = await scheduler.status(allocationId);
      if (known !== null) return known;
    }
    return (await noteElsewhere(allocationId)) === null ? null : "running";
  }

  /** Of one placed at a seat that is not ours, be its orchestrator alive or not yet found dead. */
  async function noteElsewhere(allocationId: AllocationId): Promise<string | null> {
    for (const name of await readdir(placedDir)) {
      const number = Number(name);
      if (number === seat.number || adopted.has(number)) continue;
      const notes = await readdir(notesOf(number)).catch((): string[] => []);
      if (notes.includes(allocationId)) return join(notesOf(number), allocationId);
    }
    return null;
  }

  async function stop(allocationId: AllocationId): Promise<void> {
    const note = await noteElsewhere(allocationId);
    // Its owner reads it within `lookMs`; one that has just ended keeps its note gone.
    if (note !== null) await writeFile(note, STOP, { flag: "r+" }).catch(() => {});
    for (const { scheduler } of [own, ...adopted.values()]) await scheduler.stop(allocationId);
  }

  async function obeyNotes({ seat: { number }, scheduler }: Own): Promise<void> {
    for (const id of await readdir(notesOf(number))) {
      const text = await readFile(join(notesOf(number), id), "utf8").catch(() => "");
      if (text === STOP) await scheduler.stop(id as AllocationId);
    }
  }

  async function logs(
    allocationId: AllocationId,
    options: LogOptions,
  ): Promise<AsyncIterable<Uint8Array> | null> {
    for (const { scheduler } of [own, ...adopted.values()]) {
      const found = await scheduler.logs(allocationId, options);
      if (found !== null) return found;
    }
    const { isFollowed, signal, output = null } = options;
    for (const name of await readdir(placedDir)) {
      const number = Number(name);
      if (number === seat.number || adopted.has(number)) continue;
      const isGrowing = async () => {
        return isFollowed && !signal.aborted && (await noteElsewhere(allocationId)) !== null;
      };
      const found = await readLog(number, allocationId, { output, isGrowing });
      if (found !== null) return found;
    }
    return null;
  }

  /** Takes over what killed orchestrators left, and gives their seats up when that has ended. */
  async function look(): Promise<void> {
    if (isClosing) return;
    for (const taken of await seats.takeAbandoned()) {
      log.warn(
        { seat: taken.number, ...taken.last },
        "taking over a killed orchestrator's workers",
      );
      adopted.set(taken.number, await open(taken));
    }
    for (const each of [own, ...adopted.values()]) await obeyNotes(each);
    for (const [number, { seat: taken, scheduler }] of adopted) {
      const hosts = await scheduler.hosts();
      if (hosts.some(({ used }) => used > 0)) continue;
      await scheduler[Symbol.asyncDispose]();
      await taken[Symbol.asyncDispose]();
      adopted.delete(number);
    }
  }

  async function close(): Promise<void> {
    isClosing = true;
    clearInterval(timer);
    await looking;
    for (const { seat: taken, scheduler } of adopted.values()) {
      await scheduler[Symbol.asyncDispose]();
      await taken[Symbol.asyncDispose]();
    }
    await own.scheduler[Symbol.asyncDispose]();
  }

  function notesOf(number: number): string {
    return join(placedDir, String(number));
  }
}

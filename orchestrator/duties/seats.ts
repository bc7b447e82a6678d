/**
 * Seats: the orchestrators that share one data folder, each with a number of its own, so that what
 * belongs to a process (its workers' folder and users, its address for the command line) is not
 * another's. A seat is held by a lock that the kernel drops when the process ends, however it ends.
 *
 *     <dir>/<n>.lock    held while seat n is taken
 *     <dir>/<n>.json    who sits there, or sat there and was killed; gone after an orderly end
 *
 * The folder may be on a file system of several machines, if that has locks (NFS 4 has).
 */
import { mkdir, readdir, readFile, rename, rm, writeFile } from "node:fs/promises";
import { dirname, join } from "node:path";
import { type Static, Type } from "typebox";
import { Value } from "typebox/value";
import { tryLock } from "../db/folder-lock.ts";
import { Problem } from "../problem.ts";

/** Who sits there. */
export type Sitter = Static<typeof Sitter>;
const Sitter = Type.Object({
  id: Type.String(),
  host: Type.String(),
  pid: Type.Integer(),
  /** The key that its secrets sign with: all must have one. */
  key: Type.String(),
  /** What it places trials with: the others would take its allocations for lost. */
  scheduler: Type.String(),
});

export interface Seat extends AsyncDisposable {
  readonly number: number;
  /** Who was killed in it. */
  readonly last: Sitter | null;
  sit(sitter: Sitter): Promise<void>;
}

export interface Seats {
  /** The first free one. @throws Problem `conflict` when all are taken. */
  take(): Promise<Seat>;
  /** Those of processes that were killed, taken by us now. */
  takeAbandoned(): Promise<Seat[]>;
  sitters(): Promise<Sitter[]>;
  /** One process at a time, for what all do at their start. */
  alone<Result>(run: () => Promise<Result>): Promise<Result>;
}

const SEATS_MAX = 32;
const ALONE_POLL_MS = 20;

/**
 * The seats in `dir`, which is made when it is not there. Those that were left on another machine
 * are left alone: their workers are there, and may run.
 */
export async function openSeats(dir: string, host: string): Promise<Seats> {
  // Others must be able to pass through what is above it: the database's user, the agents'.
  await mkdir(dirname(dir), { recursive: true });
  await mkdir(dir, { recursive: true, mode: 0o700 });
  const ours = new Set<number>();
  return { take, takeAbandoned, sitters, alone };

  async function take(): Promise<Seat> {
    for (let number = 0; number < SEATS_MAX; number++) {
      const seat = await tryTake(number);
      if (seat !== null) return seat;
    }
    throw new Problem("conflict", `${SEATS_MAX} orchestrators use this data folder: no more can`);
  }

  async function takeAbandoned(): Promise<Seat[]> {
    const taken: Seat[] = [];
    for (const number of await numbers()) {
      const seat = ours.has(number) ? null : await tryTake(number);
      if (seat !== null) taken.push(seat);
    }
    return taken;
  }

  async function tryTake(number: number): Promise<Seat | null> {
    const lock = tryLock(join(dir, `${number}.lock`));
    if (lock === null) return null;
    const path = join(dir, `${number}.json`);
    const last = await readSitter(path);
    if (last !== null && last.host !== host) {
      lock[Symbol.dispose]();
      return null;
    }
    ours.add(number);
    return {
      number,
      last,
      sit: (sitter) => writeWhole(path, `${JSON.stringify(sitter)}\n`),
      [Symbol.asyncDispose]: async () => {
        await rm(path, { force: true });
        ours.delete(number);
        lock[Symbol.dispose]();
      },
    };
  }

  async function sitters(): Promise<Sitter[]> {
    const found: Sitter[] = [];
    for (const number of await numbers()) {
      const sitter = await readSitter(join(dir, `${number}.json`));
      if (sitter !== null) found.push(sitter);
    }
    return found;
  }

  async function numbers(): Promise<number[]> {
    return (await readdir(dir)).flatMap((name) => {
      const [, digits] = /^(\d+)[.]json$/.exec(name) ?? [];
      return digits === undefined ? [] : [Number(digits)];
    });
  }

  async function alone<Result>(run: () => Promise<Result>): Promise<Result> {
    let lock = tryLock(join(dir, "starting.lock"));
    while (lock === null) {
      await new Promise((resolve) => setTimeout(resolve, ALONE_POLL_MS));
      lock = tryLock(join(dir, "starting.lock"));
    }
    try {
      return await run();
    } finally {
      lock[Symbol.dispose]();
    }
  }
}

async function readSitter(path: string): Promise<Sitter | null> {
  const text = await readFile(path, "utf8").catch(() => "");
  try {
    const sitter: unknown = JSON.parse(text);
    return Value.Check(Sitter, sitter) ? sitter : null;
  } catch {
    return null;
  }
}

async function writeWhole(path: string, text: string): Promise<void> {
  const draft = `${path}.new`;
  await writeFile(draft, text, { mode: 0o600 });
  await rename(draft, path);
}

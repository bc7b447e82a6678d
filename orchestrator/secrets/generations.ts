/**
 * A small file that several processes replace, each on what it has read: every state is a file of
 * its own, `<name>.<generation>`, and the next one is made by linking a whole, synced file under a
 * name that must not exist yet. Who comes second finds the name taken and reads again.
 *
 * Invariant: the highest generation is the state; it is whole, and no older one comes back.
 */
import { link, mkdir, open, readdir, readFile, rm } from "node:fs/promises";
import { join } from "node:path";
import type { Random } from "../runtime/random.ts";

export interface Generation {
  number: number;
  text: string;
}

export interface Generations {
  /** Null before the first. */
  latest(): Promise<Generation | null>;
  /** Whether `text` became generation `number`; false: somebody else's did. */
  add(generation: Generation): Promise<boolean>;
}

/** More than another process can write between a listing and a look. */
const READS_MAX = 100;

export function createGenerations(
  { dir, name }: { dir: string; name: string },
  random: Random,
): Generations {
  return { latest, add };

  async function latest(): Promise<Generation | null> {
    for (let attempt = 0; attempt < READS_MAX; attempt++) {
      const number = Math.max(0, ...(await numbers()));
      if (number === 0) return null;
      try {
        return { number, text: await readFile(pathOf(number), "utf8") };
      } catch (error) {
        // Replaced, and taken away, since we listed it.
        if ((error as NodeJS.ErrnoException).code !== "ENOENT") throw error;
      }
    }
    throw new Error(`${dir}: ${name} is replaced faster than it can be read`);
  }

  async function add({ number, text }: Generation): Promise<boolean> {
    await mkdir(dir, { recursive: true, mode: 0o700 });
    const draft = join(dir, `.${name}.${Buffer.from(random.bytes(8)).toString("hex")}`);
    let found: number[];
    try {
      await writeSynced(draft, text);
      if (!(await linkNew(draft, pathOf(number)))) return false;
      // At once: once another built on ours, it passes for history, and its writer writes it again.
      found = await numbers();
    } finally {
      await rm(draft, { force: true });
    }
    if (Math.max(...found) > number) {
      // Ours had been written before, and taken away with its successor there: it is history.
      await rm(pathOf(number), { force: true });
      return false;
    }
    await syncFolder();
    for (const older of found) if (older < number) await rm(pathOf(older), { force: true });
    return true;
  }

  async function numbers(): Promise<number[]> {
    const names = await readdir(dir).catch((error: NodeJS.ErrnoException) => {
      if (error.code === "ENOENT") return [];
      throw error;
    });
    const pattern = /^(.+)\.(\d{10})$/;
    return names.flatMap((file) => {
      const [, base, digits] = pattern.exec(file) ?? [];
      return base === name ? [Number(digits)] : [];
    });
  }

  function pathOf(number: number): string {
    return join(dir, `${name}.${String(number).padStart(10, "0")}`);
  }

  async function syncFolder(): Promise<void> {
    const folder = await open(dir, "r");
    try {
      await folder.sync();
    } finally {
      await folder.close();
    }
  }
}

/** Readable by its owner alone, and on the disk when this returns. */
export async function writeSynced(path: string, text: string): Promise<void> {
  const file = await open(path, "wx", 0o600);
  try {
    await file.writeFile(text);
    await file.sync();
  } finally {
    await file.close();
  }
}

/** Whether `path` now is `from`; false when there was a file of that name. */
export async function linkNew(from: string, path: string): Promise<boolean> {
  try {
    await link(from, path);
    return true;
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === "EEXIST") return false;
    throw error;
  }
}

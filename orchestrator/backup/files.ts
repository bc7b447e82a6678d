/** The part of the data folder that a backup has: found, read as it was found, and put back. */
import { createWriteStream } from "node:fs";
import { lstat, mkdir, open, readdir, rename, rm } from "node:fs/promises";
import { dirname, join } from "node:path";
import { pipeline } from "node:stream/promises";
import { Problem } from "../problem.ts";
import { BACKUP_ROOTS, NOT_IN_BACKUP } from "./backup.ts";

/** Paths below the data folder, with slashes, of each file that belongs to a backup. */
export async function* listFiles(home: string): AsyncGenerator<string> {
  for (const root of BACKUP_ROOTS) yield* below(home, root);
}

async function* below(home: string, path: string): AsyncGenerator<string> {
  const entries = await readdir(join(home, path), { withFileTypes: true }).catch(unlessGone);
  for (const entry of entries.toSorted((a, b) => (a.name < b.name ? -1 : 1))) {
    const inside = `${path}/${entry.name}`;
    if (NOT_IN_BACKUP.test(inside)) continue;
    if (entry.isDirectory()) yield* below(home, inside);
    else if (entry.isFile()) yield inside;
  }
}

/** As long as it is now: a file that grows meanwhile is cut there. Null when it is gone. */
export async function openFile(
  home: string,
  path: string,
): Promise<{ byteCount: number; bytes: AsyncIterable<Buffer> } | null> {
  const file = await open(join(home, path), "r").catch(unlessGone);
  if (!("stat" in file)) return null;
  const { size } = await file.stat();
  if (size > 0) return { byteCount: size, bytes: file.createReadStream({ end: size - 1 }) };
  await file.close();
  return { byteCount: 0, bytes: none() };
}

async function* none(): AsyncGenerator<Buffer> {}

/**
 * Writes a file of a backup below `folder`.
 *
 * @throws Problem `invalid_request` for a path that a backup has not.
 */
export async function putFile(
  folder: string,
  path: string,
  bytes: AsyncIterable<Uint8Array>,
): Promise<void> {
  const isOurs = BACKUP_ROOTS.some((root) => path.startsWith(`${root}/`));
  if (!isOurs || path.split("/").some((part) => part === ".." || part === "." || part === "")) {
    throw new Problem("invalid_request", `The backup cannot be used: ${path} is no file of ours`);
  }
  const full = join(folder, path);
  await mkdir(dirname(full), { recursive: true, mode: 0o700 });
  await pipeline(bytes, createWriteStream(full, { mode: 0o600, flags: "wx" }));
}

/**
 * Moves the roots below `from` into the data folder, and what is in their place below `aside`.
 * Returns what undoes it.
 */
export async function moveRoots(
  from: string,
  home: string,
  aside: string,
): Promise<{ undo(): Promise<void>; movedAside: string[] }> {
  const undoing: (() => Promise<void>)[] = [];
  const movedAside: string[] = [];
  for (const root of BACKUP_ROOTS) {
    const place = join(home, root);
    if (await isThere(place)) {
      await move(place, join(aside, root));
      movedAside.push(root);
      undoing.unshift(() => move(join(aside, root), place));
    }
    if (await isThere(join(from, root))) {
      await move(join(from, root), place);
      undoing.unshift(() => rm(place, { recursive: true, force: true }));
    }
  }
  return {
    movedAside,
    undo: async () => {
      for (const step of undoing) await step();
    },
  };
}

async function move(from: string, to: string): Promise<void> {
  await mkdir(dirname(to), { recursive: true });
  await rename(from, to);
}

async function isThere(path: string): Promise<boolean> {
  return lstat(path).then(
    () => true,
    () => false,
  );
}

function unlessGone(error: NodeJS.ErrnoException) {
  if (error.code === "ENOENT") return [];
  throw error;
}

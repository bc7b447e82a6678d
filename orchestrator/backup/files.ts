/** The part of the data folder that a backup has: found, read as it was found, and put back. */
import { createWriteStream } from "node:fs";
import { lstat, mkdir, open, readdir, readFile, rename, rm } from "node:fs/promises";
import { dirname, join } from "node:path";
import { pipeline } from "node:stream/promises";
import { Problem } from "../problem.ts";
import { BACKUP_ROOTS, NOT_IN_BACKUP, SECRETS_ROOT } from "./backup.ts";

const SETTLE_TRIES = 50;

/** Paths below the data folder, with slashes, of each file that belongs to a backup by itself. */
export async function* listFiles(home: string): AsyncGenerator<string> {
  for (const root of BACKUP_ROOTS) if (root !== SECRETS_ROOT) yield* below(home, root);
}

/**
 * The sealed secrets and their key as they were at one moment: a store that is sealed anew while it
 * is read would else be copied with a key that does not open it.
 *
 * @throws Problem `unavailable` while they change faster than they are read.
 */
export async function readSecretFiles(home: string): Promise<Map<string, Buffer>> {
  let before = await readBelow(home, SECRETS_ROOT);
  for (let tried = 0; tried < SETTLE_TRIES; tried++) {
    const now = await readBelow(home, SECRETS_ROOT);
    // No text and no key comes twice, so that nothing was changed and changed back in between.
    if (isSame(before, now)) return now;
    before = now;
  }
  const detail = "The secrets are written all the time, so that no backup can have them: try again";
  throw new Problem("unavailable", detail);
}

async function readBelow(home: string, root: string): Promise<Map<string, Buffer>> {
  const found = new Map<string, Buffer>();
  for await (const path of below(home, root)) {
    const bytes = await readFile(join(home, path)).catch(unlessGone);
    if (Buffer.isBuffer(bytes)) found.set(path, bytes);
  }
  return found;
}

function isSame(one: ReadonlyMap<string, Buffer>, other: ReadonlyMap<string, Buffer>): boolean {
  if (one.size !== other.size) return false;
  return [...one].every(([path, bytes]) => other.get(path)?.equals(bytes) === true);
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

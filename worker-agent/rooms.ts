/**
 * The folders of one allocation, and who owns them: `workspace`, `home` and `tmp` belong to the
 * user that runs the agent, `private` to us alone, `side` to us for the agent to read.
 */
import { chmod, lchown, lstat, mkdir, readdir, realpath, rm, stat } from "node:fs/promises";
import { dirname, join } from "node:path";
import type { RunAs } from "./config.ts";

export interface Rooms {
  readonly workspace: string;
  readonly home: string;
  readonly tmp: string;
  /** Bundles, hidden tests in transit, the comparing repository: never the agent's. */
  readonly private: string;
  /** Beside the work tree, and never part of its diff: the allowance and small programs of ours. */
  readonly side: string;
  /** Verifier only: the hidden tests and what they write. */
  readonly tests: string;
  readonly logs: string;
}

/** Makes the folders, empty; `workspace` and `tests` are left to whoever fills them. */
export async function makeRooms(dir: string, runAs: RunAs | null): Promise<Rooms> {
  await mkdir(dir, { recursive: true });
  // Another user must pass through it to its own folders, but need not list it.
  await chmod(dir, runAs === null ? 0o700 : 0o711);
  const rooms: Rooms = {
    workspace: join(dir, "workspace"),
    home: join(dir, "home"),
    tmp: join(dir, "tmp"),
    private: join(dir, "private"),
    side: join(dir, "side"),
    tests: join(dir, "tests"),
    logs: join(dir, "logs"),
  };
  for (const room of Object.values(rooms)) await rm(room, { recursive: true, force: true });
  for (const room of [rooms.home, rooms.tmp, rooms.private, rooms.logs]) {
    await mkdir(room);
    await chmod(room, 0o700);
  }
  await mkdir(rooms.side);
  await chmod(rooms.side, 0o755);
  for (const room of [rooms.home, rooms.tmp, rooms.logs]) await handOver(room, runAs);
  return rooms;
}

/**
 * Makes a folder, and those on the way to it, for agents' users to pass through, not to list; what
 * is inside has its own rights. A service's umask (0077 in our own units) does not close it; one
 * that is there already stays as it is.
 */
export async function makePassage(dir: string): Promise<void> {
  const first = await mkdir(dir, { recursive: true });
  if (first === undefined) return;
  for (let folder = dir; ; folder = dirname(folder)) {
    await chmod(folder, 0o711);
    if (folder === first || folder === dirname(folder)) return;
  }
}

/** Gives a folder or file with all it holds to the user; symbolic links are not followed. */
export async function handOver(path: string, runAs: RunAs | null): Promise<void> {
  if (runAs === null) return;
  await lchown(path, runAs.uid, runAs.gid);
  const entries = await readdir(path, { withFileTypes: true }).catch(() => []);
  for (const entry of entries) {
    const below = join(path, entry.name);
    if (entry.isDirectory()) await handOver(below, runAs);
    else await lchown(below, runAs.uid, runAs.gid);
  }
}

/** Removes it with all it holds, also where its owner, who may be us, took away the rights to. */
export async function removeTree(path: string): Promise<void> {
  try {
    await rm(path, { recursive: true, force: true });
  } catch {
    await openFolders(path);
    await rm(path, { recursive: true, force: true });
  }
}

async function openFolders(folder: string): Promise<void> {
  if (!(await lstat(folder).catch(() => null))?.isDirectory()) return;
  await chmod(folder, 0o700);
  for (const entry of await readdir(folder, { withFileTypes: true })) {
    if (entry.isDirectory()) await openFolders(join(folder, entry.name));
  }
}

/**
 * The first folder on the way to one of `paths` that the user cannot pass through, or null. A path
 * that does not exist yet is judged by its nearest existing folder.
 */
export async function closedFolder(runAs: RunAs, paths: readonly string[]): Promise<string | null> {
  for (const path of paths) {
    let folder = await nearestExisting(path);
    for (;;) {
      if (!(await canPass(runAs, folder))) return folder;
      if (folder === dirname(folder)) break;
      folder = dirname(folder);
    }
  }
  return null;
}

async function nearestExisting(path: string): Promise<string> {
  for (let folder = path; ; folder = dirname(folder)) {
    const real = await realpath(folder).catch(() => null);
    if (real !== null) return real;
    if (folder === dirname(folder)) return folder;
  }
}

async function canPass({ uid, gid }: RunAs, folder: string): Promise<boolean> {
  const found = await stat(folder);
  if (found.uid === uid) return (found.mode & 0o100) !== 0;
  if (found.gid === gid) return (found.mode & 0o010) !== 0;
  return (found.mode & 0o001) !== 0;
}

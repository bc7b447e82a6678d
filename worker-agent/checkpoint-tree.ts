/**
 * The work tree as a manifest has it: what differs from the base commit, read while the agent may
 * be writing. What is hashed is what was read.
 *
 * Invariant: nothing is read that is not the agent's own, whatever it puts in a file's place
 * between our looks; its own git folder and index are neither read nor locked.
 */
import { createHash } from "node:crypto";
import { constants, type Stats } from "node:fs";
import { lstat, open, readlink } from "node:fs/promises";
import { dirname, join } from "node:path";
import type { WorkEntry } from "../orchestrator/contract/checkpoints.ts";
import { type Comparison, changedPaths, openComparison, staysInside } from "./changes.ts";
import type { Clock } from "./clock.ts";
import type { Git } from "./git.ts";
import type { Source } from "./workspace.ts";

export interface TreeOptions {
  readonly source: Source;
  readonly workspace: string;
  /** A folder of our own for the comparing repository; made anew. */
  readonly scratchDir: string;
  readonly litter: readonly string[];
  readonly fileBytesMax: number;
  /** Whose files they must be; null: anyone's. */
  readonly uid: number | null;
}

/** Takes a content that a manifest names; it may be known already. */
export type TakeContent = (sha256: string, content: Buffer) => Promise<void>;

export interface Tree {
  /**
   * Every path that differs, its content handed to `take` unless it is as it was the last time.
   *
   * @throws whatever git says, or `take`.
   */
  read(take: TakeContent, signal: AbortSignal): Promise<WorkEntry[]>;
  /** Hands every content to `take` the next time. */
  forget(): void;
}

/** File systems stamp no finer than this: a file that is younger may change without a trace. */
const SETTLED_MS = 2_000;

interface Known {
  readonly signature: string;
  readonly entry: WorkEntry;
}

export function createTree(git: Git, clock: Clock, options: TreeOptions): Tree {
  let comparison: Comparison | null = null;
  let known = new Map<string, Known>();
  return { read, forget: () => known.clear() };

  async function read(take: TakeContent, signal: AbortSignal): Promise<WorkEntry[]> {
    comparison ??= await openComparison(git, options);
    const { place } = comparison;
    // Times and sizes go into our index, so that the next look need not read what is unchanged.
    await git(["update-index", "-q", "--refresh"], { ...place, signal, statuses: [0, 1] });
    // What is left out is told of once, when the diff is taken.
    const notes: string[] = [];
    const { tracked, others } = await changedPaths(git, place, options, notes, signal);
    const isTracked = new Set(tracked);
    const isFolder = createFolderLook(options.workspace);
    const entries: WorkEntry[] = [];
    const seen = new Map<string, Known>();
    for (const path of new Set([...tracked, ...others])) {
      signal.throwIfAborted();
      const isHere = await isFolder(dirname(path));
      const found = isHere ? await readPath(path, take) : null;
      if (found === "left_out") continue;
      if (found !== null) {
        entries.push(found.entry);
        if (found.signature !== null) seen.set(path, { ...found, signature: found.signature });
      } else if (isTracked.has(path)) entries.push({ path, type: "deleted" });
    }
    known = seen;
    return entries;
  }

  /** Null when nothing is there that a manifest can have. */
  async function readPath(
    path: string,
    take: TakeContent,
  ): Promise<{ entry: WorkEntry; signature: string | null } | "left_out" | null> {
    // A name that is not UTF-8.
    if (path.includes("\u{FFFD}")) return "left_out";
    const at = await lstat(join(options.workspace, path)).catch(() => null);
    if (at === null || at.isDirectory()) return null;
    const before = known.get(path);
    const signature = signatureOf(at, clock);
    if (before !== undefined && signature === before.signature) return before;
    if (at.isSymbolicLink()) return readLinkAt(path, take);
    return at.isFile() ? readFileAt(path, take) : null;
  }

  async function readLinkAt(path: string, take: TakeContent) {
    const target = await readlink(join(options.workspace, path)).catch(() => null);
    if (target === null || !staysInside(path, target)) return null;
    const content = await keep(Buffer.from(target), take);
    return { entry: { path, type: "link" as const, ...content }, signature: null };
  }

  async function readFileAt(path: string, take: TakeContent) {
    const flags = constants.O_RDONLY | constants.O_NOFOLLOW | constants.O_NONBLOCK;
    const file = await open(join(options.workspace, path), flags).catch(() => null);
    if (file === null) return null;
    try {
      const at = await file.stat();
      const isOwn = options.uid === null || at.uid === options.uid;
      if (!at.isFile() || !isOwn) return null;
      if (at.size > options.fileBytesMax) return "left_out" as const;
      const content = await keep(await file.readFile(), take);
      const is_executable = (at.mode & 0o100) !== 0;
      const entry = { path, type: "file" as const, is_executable, ...content };
      // Of before the reading: what was written meanwhile has another one.
      return { entry, signature: signatureOf(at, clock) };
    } finally {
      await file.close();
    }
  }
}

/** A content's name in a manifest, once `take` has it. */
export async function keep(content: Buffer, take: TakeContent) {
  const sha256 = createHash("sha256").update(content).digest("hex");
  await take(sha256, content);
  return { sha256, byte_count: content.byteLength };
}

/** What changes when the file does; null while it is too young to tell. */
function signatureOf({ ino, size, mode, mtimeMs, ctimeMs }: Stats, clock: Clock): string | null {
  if (clock.now() - ctimeMs < SETTLED_MS) return null;
  return `${ino} ${size} ${mode} ${mtimeMs} ${ctimeMs}`;
}

/** Whether every part of a path below `root` is a real folder. */
function createFolderLook(root: string): (path: string) => Promise<boolean> {
  const looks = new Map<string, Promise<boolean>>([[".", Promise.resolve(true)]]);
  return isFolder;

  function isFolder(path: string): Promise<boolean> {
    const known = looks.get(path);
    if (known !== undefined) return known;
    const look = isFolder(dirname(path)).then(async (isParent) => {
      if (!isParent) return false;
      return (await lstat(join(root, path)).catch(() => null))?.isDirectory() ?? false;
    });
    looks.set(path, look);
    return look;
  }
}

/**
 * A CLI's session as files: what one allocation leaves for the one that goes on.
 *
 * The files are the agent's, so nothing of them is trusted: links are not followed, sizes are
 * bounded, and they are put back only where the agent's plugin says that sessions are. The trial's
 * key is written over. Paths of the old allocation become those of the new one; in a database,
 * whose pages have checksums, a program does that as the agent's user (`session-databases.ts`).
 */
import { constants } from "node:fs";
import { lstat, mkdir, open, readdir, realpath, writeFile } from "node:fs/promises";
import { dirname, join, relative } from "node:path";
import { pause } from "./clock.ts";
import type { Rooms } from "./rooms.ts";

const FILES_MAX = 1_000;
const SQLITE = Buffer.from("SQLite format 3\0");
const WRITE_AHEAD_LOGS = [0x377f0682, 0x377f0683];
/** A CLI that writes while it is read is given this often, and this long, to stop. */
const LOOKS = 4;
const LOOK_AGAIN_MS = 150;

export interface SessionFile {
  readonly path: string;
  readonly content: Buffer;
}

export interface ReadOptions {
  /** Files and folders below HOME. */
  readonly paths: readonly string[];
  /** Written over wherever it stands. */
  readonly secret: string;
  /** Of all files together. */
  readonly bytesMax: number;
  /** Whose files they must be; null: anyone's. */
  readonly uid: number | null;
}

export type ReadSession =
  /** `folders`: the allocation's folder, as it is and as it is known. */
  | { outcome: "read"; files: SessionFile[]; folders: [string, string] }
  | { outcome: "empty" }
  | { outcome: "too_large" }
  /** A database that is being written: what was read of it may be none. */
  | { outcome: "unsettled" };

/** The session's files, of one moment where the CLI lets that be. */
export async function readSession(
  rooms: Pick<Rooms, "home" | "workspace">,
  options: ReadOptions,
): Promise<ReadSession> {
  for (let look = 1; ; look++) {
    const found = await readOnce(rooms, options);
    if (found === "too_large") return { outcome: "too_large" };
    const { files, isSettled } = found;
    if (files.length === 0) return { outcome: "empty" };
    if (isSettled) return { outcome: "read", files, folders: await foldersOf(rooms) };
    if (look < LOOKS) {
      await pause(LOOK_AGAIN_MS);
      continue;
    }
    // Of a text the last line may be cut off; of a database nothing can be said.
    if (files.some(({ content }) => isBinary(content))) return { outcome: "unsettled" };
    return { outcome: "read", files, folders: await foldersOf(rooms) };
  }
}

async function readOnce(
  rooms: Pick<Rooms, "home">,
  { paths, secret, bytesMax, uid }: ReadOptions,
): Promise<{ files: SessionFile[]; isSettled: boolean } | "too_large"> {
  const files: SessionFile[] = [];
  let byteCount = 0;
  const before = await signatures(rooms.home, paths);
  for await (const path of filesBelow(rooms.home, paths)) {
    const content = await readOwn(join(rooms.home, path), bytesMax - byteCount, uid);
    if (content === "not_ours") continue;
    if (content === "too_large" || files.length === FILES_MAX) return "too_large";
    byteCount += content.byteLength;
    files.push({ path, content: overwritten(content, secret) });
  }
  return { files, isSettled: before === (await signatures(rooms.home, paths)) };
}

/** What changes when any of the files does. */
async function signatures(home: string, paths: readonly string[]): Promise<string> {
  const found: string[] = [];
  for await (const path of filesBelow(home, paths)) {
    const at = await lstat(join(home, path), { bigint: true }).catch(() => null);
    found.push(`${path} ${at?.ino} ${at?.size} ${at?.mtimeNs} ${at?.ctimeNs}`);
  }
  return found.toSorted().join("\n");
}

/**
 * Puts a session back into an empty HOME, for the allocation whose rooms these are.
 *
 * @returns the databases in which the old folders still stand, and which those are.
 * @throws Error for a path that is none of the agent's sessions.
 */
export async function writeSession(
  rooms: Pick<Rooms, "home" | "workspace">,
  { files, folders }: { files: readonly SessionFile[]; folders: readonly [string, string] },
  paths: readonly string[],
): Promise<{ databases: string[]; moves: [string, string][] }> {
  const now = await foldersOf(rooms);
  const moves = folders
    .map((folder, index): [string, string] => [folder, now[index] ?? folder])
    .filter(
      ([from, to], index, all) => from !== to && all.findIndex((m) => m[0] === from) === index,
    );
  const databases: string[] = [];
  for (const { path: oldPath, content } of files) {
    const path = moved(oldPath, moves);
    if (!isBelow(path, paths)) throw new Error(`the session holds ${path}`);
    const file = join(rooms.home, path);
    if (isDatabase(content)) databases.push(file);
    await mkdir(dirname(file), { recursive: true, mode: 0o700 });
    const written = isBinary(content)
      ? content
      : Buffer.from(moved(content.toString("latin1"), moves.map(asLatin1)), "latin1");
    await writeFile(file, written, { mode: 0o600, flag: "wx" });
  }
  return { databases, moves };
}

/** Regular files below `home`, as paths relative to it; what a link leads to is none. */
async function* filesBelow(home: string, paths: readonly string[]): AsyncGenerator<string> {
  const root = await realpath(home);
  for (const path of paths) {
    const real = await realpath(join(home, path)).catch(() => null);
    if (real !== join(root, path)) continue;
    const found = await lstat(real).catch(() => null);
    if (found === null) continue;
    if (!found.isDirectory()) {
      yield path;
      continue;
    }
    const entries = await readdir(real, { recursive: true, withFileTypes: true }).catch(() => []);
    for (const entry of entries) {
      if (entry.isFile()) yield relative(root, join(entry.parentPath, entry.name));
    }
  }
}

async function readOwn(
  file: string,
  bytesMax: number,
  uid: number | null,
): Promise<Buffer | "not_ours" | "too_large"> {
  const flags = constants.O_RDONLY | constants.O_NOFOLLOW | constants.O_NONBLOCK;
  const opened = await open(file, flags).catch(() => null);
  // Removed since it was listed, or made into something else.
  if (opened === null) return "not_ours";
  try {
    const found = await opened.stat();
    // A second name of somebody else's file would be a way to read it.
    const isOwn = found.isFile() && found.nlink === 1 && (uid === null || found.uid === uid);
    if (!isOwn) return "not_ours";
    return found.size > bytesMax ? "too_large" : await opened.readFile();
  } finally {
    await opened.close();
  }
}

function overwritten(content: Buffer, secret: string): Buffer {
  if (secret === "" || !content.includes(secret)) return content;
  const text = content.toString("latin1");
  // Of the same length, for databases.
  return Buffer.from(text.replaceAll(secret, "x".repeat(secret.length)), "latin1");
}

async function foldersOf({ workspace }: Pick<Rooms, "workspace">): Promise<[string, string]> {
  return [dirname(await realpath(workspace)), dirname(workspace)];
}

/** CLIs name a project's folder after its path, with a dash for all but letters and digits. */
function moved(text: string, moves: readonly (readonly [string, string])[]): string {
  let result = text;
  for (const [from, to] of moves) {
    result = result.replaceAll(from, () => to);
    result = result.replaceAll(dashed(from), () => dashed(to));
  }
  return result;
}

function dashed(path: string): string {
  return path.replaceAll(/[^A-Za-z0-9]/g, "-");
}

function asLatin1([from, to]: readonly [string, string]): [string, string] {
  return [Buffer.from(from).toString("latin1"), Buffer.from(to).toString("latin1")];
}

function isBelow(path: string, paths: readonly string[]): boolean {
  const parts = path.split("/");
  if (parts.includes("..") || parts.includes("") || path.includes("\0")) return false;
  return paths.some((allowed) => path === allowed || path.startsWith(`${allowed}/`));
}

function isBinary(content: Buffer): boolean {
  return isDatabase(content) || isWriteAheadLog(content);
}

function isDatabase(content: Buffer): boolean {
  return content.subarray(0, SQLITE.length).equals(SQLITE);
}

function isWriteAheadLog(content: Buffer): boolean {
  return content.byteLength >= 4 && WRITE_AHEAD_LOGS.includes(content.readUInt32BE(0));
}

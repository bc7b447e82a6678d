/**
 * A CLI's session as one archive: what a paused allocation leaves for the one that goes on.
 *
 * The files are the agent's, so nothing of them is trusted: links are not followed, sizes are
 * bounded, and they are put back only where the agent's plugin says that sessions are. The trial's
 * key is written over. Paths of the old allocation become those of the new one; in a database,
 * whose pages have checksums, a program does that as the agent's user (`session-databases.ts`).
 */
import { constants } from "node:fs";
import { lstat, mkdir, open, readdir, realpath, writeFile } from "node:fs/promises";
import { dirname, join, relative } from "node:path";
import { promisify } from "node:util";
import { gunzip, gzip } from "node:zlib";
import { type Static, Type } from "typebox";
import { Value } from "typebox/value";
import type { Rooms } from "./rooms.ts";

const FILES_MAX = 1_000;
const SQLITE = Buffer.from("SQLite format 3\0");
const WRITE_AHEAD_LOGS = [0x377f0682, 0x377f0683];

type Archive = Static<typeof Archive>;
const Archive = Type.Object({
  version: Type.Literal(1),
  /** The allocation's folder, as it is and as it is known. */
  folders: Type.Tuple([Type.String(), Type.String()]),
  files: Type.Array(Type.Object({ path: Type.String(), content: Type.String() }), {
    maxItems: FILES_MAX,
  }),
});

export interface PackOptions {
  /** Files and folders below HOME. */
  readonly paths: readonly string[];
  /** Written over wherever it stands. */
  readonly secret: string;
  /** Of all files, before they are compressed. */
  readonly bytesMax: number;
  /** Whose files they must be; null: anyone's. */
  readonly uid: number | null;
}

export type Packed =
  | { outcome: "packed"; archive: Buffer; fileCount: number }
  | { outcome: "empty" }
  | { outcome: "too_large" };

/** The archive of a session whose processes have ended. */
export async function packSession(
  rooms: Pick<Rooms, "home" | "workspace">,
  { paths, secret, bytesMax, uid }: PackOptions,
): Promise<Packed> {
  const files: Archive["files"] = [];
  let byteCount = 0;
  for await (const path of filesBelow(rooms.home, paths)) {
    const content = await readOwn(join(rooms.home, path), bytesMax - byteCount, uid);
    if (content === "not_ours") continue;
    if (content === "too_large" || files.length === FILES_MAX) return { outcome: "too_large" };
    byteCount += content.byteLength;
    files.push({ path, content: overwritten(content, secret).toString("base64") });
  }
  if (files.length === 0) return { outcome: "empty" };
  const packed: Archive = { version: 1, folders: await foldersOf(rooms), files };
  const archive = await promisify(gzip)(JSON.stringify(packed));
  return { outcome: "packed", archive, fileCount: files.length };
}

/**
 * Puts a session back into an empty HOME, for the allocation whose rooms these are.
 *
 * @returns the databases in which the old folders still stand, and which those are.
 * @throws Error when it is no archive of ours.
 */
export async function unpackSession(
  rooms: Pick<Rooms, "home" | "workspace">,
  archive: Buffer,
  { paths, bytesMax }: Pick<PackOptions, "paths" | "bytesMax">,
): Promise<{ databases: string[]; moves: [string, string][] }> {
  // Base64 has a third more bytes than what it says.
  const text = await promisify(gunzip)(archive, { maxOutputLength: 2 * bytesMax + 1_048_576 });
  const packed: unknown = JSON.parse(text.toString("utf8"));
  if (!Value.Check(Archive, packed)) throw new Error("the session's archive is not one");
  const now = await foldersOf(rooms);
  const moves = packed.folders
    .map((folder, index): [string, string] => [folder, now[index] ?? folder])
    .filter(
      ([from, to], index, all) => from !== to && all.findIndex((m) => m[0] === from) === index,
    );
  const databases: string[] = [];
  for (const { path: oldPath, content: base64 } of packed.files) {
    const path = moved(oldPath, moves);
    if (!isBelow(path, paths)) throw new Error(`the session's archive holds ${path}`);
    const file = join(rooms.home, path);
    const content = Buffer.from(base64, "base64");
    const isDatabase = content.subarray(0, SQLITE.length).equals(SQLITE);
    if (isDatabase) databases.push(file);
    await mkdir(dirname(file), { recursive: true, mode: 0o700 });
    const isBinary = isDatabase || isWriteAheadLog(content);
    const written = isBinary
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
    if (!(await lstat(real)).isDirectory()) {
      yield path;
      continue;
    }
    for (const entry of await readdir(real, { recursive: true, withFileTypes: true })) {
      if (entry.isFile()) yield relative(root, join(entry.parentPath, entry.name));
    }
  }
}

async function readOwn(
  file: string,
  bytesMax: number,
  uid: number | null,
): Promise<Buffer | "not_ours" | "too_large"> {
  const opened = await open(file, constants.O_RDONLY | constants.O_NOFOLLOW | constants.O_NONBLOCK);
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

function isWriteAheadLog(content: Buffer): boolean {
  return content.byteLength >= 4 && WRITE_AHEAD_LOGS.includes(content.readUInt32BE(0));
}

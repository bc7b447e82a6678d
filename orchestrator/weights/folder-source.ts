/**
 * Weights that were copied by hand: a folder of this machine in the hub's place. Its manifest says
 * what its files must be; without one, their hashes are taken as they are.
 */
import { createHash } from "node:crypto";
import { createReadStream } from "node:fs";
import { readdir, stat } from "node:fs/promises";
import { join } from "node:path";
import { Problem } from "../problem.ts";
import type { HubFile } from "./hub.ts";
import { type Manifest, readManifest } from "./manifest.ts";
import { neededFiles } from "./select.ts";
import { hashFile, type Source, tensorsFault } from "./weight-file.ts";

export interface FolderContents {
  /** Null where the folder has none. */
  readonly manifest: Manifest | null;
  readonly files: readonly { readonly path: string; readonly size: number }[];
}

/**
 * What a folder has of a model. Links are followed: the cache of the hub's own tools is made of
 * them.
 *
 * @throws Problem `not_found`, `upstream_failed` without weights; `conflict` naming a half-copied
 * file.
 */
export async function readFolder(folder: string): Promise<FolderContents> {
  const names = await readdir(folder).catch((cause: NodeJS.ErrnoException) => {
    throw new Problem(
      "not_found",
      `${folder} cannot be read on the server's machine (${cause.code ?? cause.message}): give a ` +
        "folder with the model's files",
      { cause },
    );
  });
  const manifest = await readManifest(folder);
  const all: { path: string; size: number }[] = [];
  for (const path of names.sort()) {
    const found = await stat(join(folder, path)).catch(() => null);
    if (found === null) throw new Problem("conflict", `${join(folder, path)} is a link to nothing`);
    if (found.isFile()) all.push({ path, size: found.size });
  }
  if (manifest !== null) return { manifest, files: sameAs(manifest, folder, all) };
  const files = neededFiles(folder, all);
  for (const { path } of files) {
    const fault = await tensorsFault(folder, path);
    if (fault === null) continue;
    throw new Problem("conflict", `${join(folder, path)} is not whole: ${fault}; copy it again`);
  }
  return { manifest: null, files };
}

function sameAs(manifest: Manifest, folder: string, all: FolderContents["files"]) {
  for (const { path, size } of manifest.files) {
    const found = all.find((file) => file.path === path);
    if (found?.size === size) continue;
    const is = found === undefined ? "is not there" : `has ${found.size} bytes, not ${size}`;
    throw new Problem("conflict", `${join(folder, path)} ${is}: copy it again`);
  }
  return manifest.files;
}

/** The sha256 of each file: what the manifest says, else what it is now. */
export async function hashesOf(
  folder: string,
  { manifest, files }: FolderContents,
  signal: AbortSignal,
  onBytes: (count: number) => void,
): Promise<HubFile[]> {
  const hashed: HubFile[] = [];
  for (const { path, size } of files) {
    const said = manifest?.files.find((file) => file.path === path)?.sha256;
    const hex = said ?? (await hashFile(join(folder, path), signal, onBytes));
    hashed.push({ path, size, hash: { algorithm: "sha256", hex } });
  }
  return hashed;
}

/** A name for files whose commit nobody knows: the same files have the same. */
export function importedRevision(files: readonly HubFile[]): string {
  const hash = createHash("sha256");
  for (const { path, hash: own } of files) hash.update(`${own.hex}  ${path}\n`);
  return `import-${hash.digest("hex").slice(0, 12)}`;
}

export function folderSource(folder: string): Source {
  return {
    retrying: (work) => work(() => {}),
    open: async (path, fromByte, signal) => ({
      fromByte,
      bytes: createReadStream(join(folder, path), {
        start: fromByte,
        signal,
        highWaterMark: 1 << 20,
      }),
    }),
  };
}

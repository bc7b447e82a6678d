/** What the store's folder has, whole or not: read anew each time, as people copy and delete. */
import { mkdtemp, readdir, rename, rm } from "node:fs/promises";
import { basename, dirname, join } from "node:path";
import type { StoredWeights } from "../contract/weights.ts";
import { type Manifest, readManifest } from "./manifest.ts";
import { sizeOf } from "./weight-file.ts";

/** What is removed and whose files are still there: a folder beside the revisions. */
const REMOVED = ".removed-";

/** By model, quantisation and revision. */
export async function listWeights(dir: string): Promise<StoredWeights[]> {
  const found: StoredWeights[] = [];
  for (const folder of await revisions(dir)) {
    const revision = basename(folder);
    if (!revision.startsWith(REMOVED)) found.push(await describe(folder, revision));
  }
  return found;

  async function describe(folder: string, revision: string): Promise<StoredWeights> {
    const [quantisation = "", model = ""] = folder.split("/").reverse().slice(1);
    const sizes = await sizesIn(folder);
    const bytes = [...sizes.values()].reduce((sum, size) => sum + size, 0);
    const base = { model, quantisation, dir: folder, revision, files: sizes.size, bytes };
    let manifest: Manifest | null;
    try {
      manifest = await readManifest(folder);
    } catch (error) {
      return { ...base, ...UNKNOWN, state: "damaged", detail: (error as Error).message };
    }
    if (manifest === null) {
      const detail = "a pull was cut: pull again to go on";
      return { ...base, ...UNKNOWN, state: "partial", detail };
    }
    const wrong = manifest.files.find(({ path, size }) => sizes.get(path) !== size);
    const { licence, repository, files, warnings, pulled_at } = manifest;
    return {
      ...base,
      model: manifest.model,
      state: wrong === undefined ? "whole" : "damaged",
      detail:
        wrong === undefined
          ? warnings.join("; ")
          : `${wrong.path} has ${sizes.get(wrong.path) ?? 0} bytes of ${wrong.size}: pull again`,
      repository,
      files: files.length,
      licence: licence.id,
      accepted_by: licence.accepted_by,
      accepted_at: licence.accepted_at,
      pulled_at,
    };
  }
}

const UNKNOWN = {
  repository: null,
  licence: null,
  accepted_by: null,
  accepted_at: null,
  pulled_at: null,
} as const;

/** In no time, however large it is: it stays on its disk. Its files go by `deleteSetAside`. */
export async function setAside(folder: string): Promise<void> {
  // Over an empty folder a rename is as good as without one, which another may delete just now.
  await rename(folder, await mkdtemp(join(dirname(folder), REMOVED)));
}

/** Also of what another process set aside, which may be deleting it as well, or have crashed. */
export async function deleteSetAside(dir: string): Promise<void> {
  for (const folder of await revisions(dir)) {
    if (!basename(folder).startsWith(REMOVED)) continue;
    await rm(folder, { recursive: true, force: true, maxRetries: 3 });
  }
}

/** The folders `<model>/<quantisation>/<revision>`. */
async function revisions(dir: string): Promise<string[]> {
  const found: string[] = [];
  for (const model of await folders(dir)) {
    for (const quantisation of await folders(join(dir, model))) {
      const root = join(dir, model, quantisation);
      found.push(...(await folders(root)).map((revision) => join(root, revision)));
    }
  }
  return found;
}

async function folders(dir: string): Promise<string[]> {
  const entries = await readdir(dir, { withFileTypes: true }).catch((error) => {
    if ((error as NodeJS.ErrnoException).code === "ENOENT") return [];
    throw error;
  });
  return entries
    .filter((entry) => entry.isDirectory())
    .map(({ name }) => name)
    .sort();
}

async function sizesIn(folder: string): Promise<Map<string, number>> {
  const sizes = new Map<string, number>();
  for (const name of await readdir(folder)) {
    const size = await sizeOf(join(folder, name));
    if (size !== null) sizes.set(name, size);
  }
  return sizes;
}

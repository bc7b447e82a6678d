/**
 * Brings a model's files into its folder, from a hub or from another folder: small ones first, so
 * that what they say of the model costs nothing beside its weights.
 */
import { mkdir, readFile, statfs } from "node:fs/promises";
import { join } from "node:path";
import type { ModelCard } from "../../models/card.ts";
import { Problem } from "../problem.ts";
import type { HubFile } from "./hub.ts";
import type { Manifest } from "./manifest.ts";
import type { Meter } from "./meter.ts";
import { isWeightFile } from "./select.ts";
import { checkIndex, checkSoundness, type SmallFiles } from "./soundness.ts";
import { bytesHere, placeFile, type Source, tensorsFault } from "./weight-file.ts";

/** What is to be in a model's folder. */
export interface Wanted {
  dir: string;
  revision: string;
  files: readonly HubFile[];
  source: Source;
  /** What is done with them, for who waits. */
  step: "fetching" | "copying";
  /** `folder` where no hub's hashes stand behind them. */
  origin: Manifest["source"];
}

export interface BringOptions {
  meter: Meter;
  signal: AbortSignal;
  /** Files at once. */
  parallel: number;
  freeBytes: (dir: string) => Promise<number>;
}

/** What the disk keeps beside the weights, for everything else that runs here. */
const SPARE_BYTES = 64 * 1024 * 1024;
const UNCOMPARED =
  "Its files were taken from a folder that had no manifest: their hashes are those they had then, " +
  "compared with nobody's";

/**
 * Brings what is missing of the files and checks that they are the card's model.
 *
 * @returns each file with its hash, and what a person should know.
 * @throws Problem `conflict` (no room, another model), `upstream_failed`, `unavailable`; the
 * signal's reason.
 */
export async function bringModel(
  card: ModelCard,
  repository: string,
  wanted: Wanted,
  options: BringOptions,
): Promise<Pick<Manifest, "files" | "warnings">> {
  const { dir: folder, files, origin } = wanted;
  const { meter } = options;
  await mkdir(folder, { recursive: true });
  await requireRoom(folder, files, options.freeBytes);
  meter.start(wanted.step, repository, totalOf(files));
  const hashes = new Map<string, string>();
  const small = files.filter(({ path }) => !isWeightFile(path));
  await bringAll(wanted, small, hashes, options);
  const names = files.map(({ path }) => path);
  const warnings = await soundnessOf(card, repository, folder, names);
  for (const warning of warnings) meter.say("warning", warning);
  const large = files.filter(({ path }) => isWeightFile(path));
  await bringAll(wanted, large, hashes, options);
  for (const { path } of large) {
    const fault = await tensorsFault(folder, path);
    if (fault !== null) {
      throw new Problem("upstream_failed", `${join(folder, path)} is no whole weights: ${fault}`);
    }
  }
  return {
    files: files.map(({ path, size }) => ({ path, size, sha256: hashes.get(path) ?? "" })),
    warnings: origin === "folder" ? [...warnings, UNCOMPARED] : warnings,
  };
}

/** The first that fails ends the others; all have ended when it returns. */
async function bringAll(
  { dir: folder, source }: Wanted,
  files: readonly HubFile[],
  hashes: Map<string, string>,
  { meter, signal, parallel }: BringOptions,
): Promise<void> {
  const failed = new AbortController();
  const watch = { signal: AbortSignal.any([signal, failed.signal]), onBytes: meter.add };
  const waiting = [...files];
  const lines = Array.from({ length: Math.min(parallel, files.length) }, async () => {
    for (let file = waiting.shift(); file !== undefined; file = waiting.shift()) {
      watch.signal.throwIfAborted();
      try {
        hashes.set(file.path, await placeFile(folder, file, source, watch));
      } catch (error) {
        failed.abort(error);
        throw error;
      }
    }
  });
  await Promise.allSettled(lines);
  signal.throwIfAborted();
  if (failed.signal.aborted) throw failed.signal.reason;
}

/** What a person should know of the files in a folder. @throws Problem as soundness.ts. */
export async function soundnessOf(
  card: ModelCard,
  repository: string,
  folder: string,
  names: readonly string[],
): Promise<string[]> {
  const files: SmallFiles = {
    read: async (path) => (names.includes(path) ? readFile(join(folder, path), "utf8") : null),
  };
  await checkIndex(repository, names, files);
  return checkSoundness(card, repository, files);
}

async function requireRoom(
  folder: string,
  files: readonly HubFile[],
  freeBytes: BringOptions["freeBytes"],
): Promise<void> {
  const here = await Promise.all(files.map((file) => bytesHere(folder, file)));
  const needed = totalOf(files) - here.reduce((sum, bytes) => sum + bytes, 0);
  const free = await freeBytes(folder);
  if (needed === 0 || needed + SPARE_BYTES <= free) return;
  throw new Problem(
    "conflict",
    `${needed} bytes are still to come, and the disk of ${folder} has ${free} free (of which ` +
      `${SPARE_BYTES} are kept): free ${needed + SPARE_BYTES - free} bytes and pull again, or ` +
      "put the store on a larger disk by AUTOCODE_HOME",
    { facts: { needed_bytes: needed, free_bytes: free } },
  );
}

/** Bytes that are free to us on the disk of a folder, which is made when absent. */
export async function diskFree(dir: string): Promise<number> {
  await mkdir(dir, { recursive: true });
  const { bavail, bsize } = await statfs(dir);
  return bavail * bsize;
}

export function totalOf(files: readonly { size: number }[]): number {
  return files.reduce((sum, { size }) => sum + size, 0);
}

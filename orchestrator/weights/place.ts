/**
 * Where a model's weights of one quantisation are, which revision is the model's, and what is said
 * when they are not there.
 *
 * Invariant: a revision that was pulled once is pulled again as that commit, whatever its branch is
 * at by then (trust on first use).
 */
import { mkdir, readdir, readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { type Static, Type } from "typebox";
import { Value } from "typebox/value";
import type { ModelCard, Quantisation } from "../../models/card.ts";
import { tryLock } from "../db/folder-lock.ts";
import { Problem } from "../problem.ts";
import { type Clock, rfc3339 } from "../runtime/clock.ts";
import { type Manifest, readManifest, writeDurably } from "./manifest.ts";
import { PARTIAL, sizeOf } from "./weight-file.ts";
import { type FoundWeights, PulledElsewhere } from "./weights.ts";

const PINNED = "pinned.json";

const Pin = Type.Object({
  repository: Type.String(),
  revision: Type.String({ pattern: "^[0-9A-Za-z._-]{1,100}$" }),
  pinned_at: Type.String(),
});
type Pin = Static<typeof Pin>;

/** Where a model's weights of one quantisation are. */
export interface Place {
  root: string;
  quantisation: Quantisation;
  /** As a command names it. */
  title: string;
}

/** @throws Problem `not_found` naming those that the card has. */
export function placeOf(dir: string, card: ModelCard, name: string): Place {
  const known = card.quantisations;
  const asked = known.find((each) => each.name === name);
  if (asked === undefined) {
    const names = known.map((each) => each.name).join(", ");
    throw new Problem("not_found", `${card.name} has no quantisation "${name}"; it has ${names}`);
  }
  // Quantised as it is loaded: the files are those of another, which are kept once.
  const same = known.find(
    ({ isAtLoad, repository, revision }) =>
      !isAtLoad && repository === asked.repository && revision === asked.revision,
  );
  const quantisation = asked.isAtLoad ? (same ?? asked) : asked;
  return {
    root: join(dir, folderName(card.name), folderName(quantisation.name)),
    quantisation,
    title: `${card.name} --quantisation ${quantisation.name}`,
  };
}

/** The card's, else what the first pull found. */
export async function revisionOf(place: Place): Promise<string | null> {
  if (place.quantisation.revision !== null) return place.quantisation.revision;
  const pinned = await readPin(place.root);
  return pinned?.repository === place.quantisation.repository ? pinned.revision : null;
}

export async function pin(place: Place, revision: string, clock: Clock): Promise<void> {
  const { repository } = place.quantisation;
  const before = await readPin(place.root);
  if (before?.repository === repository && before.revision === revision) return;
  const pinned: Pin = { repository, revision, pinned_at: rfc3339(clock.now()) };
  await writeDurably(join(place.root, PINNED), pinned);
}

/** Null when it has no manifest. @throws Problem `conflict` when a file is not as it was. */
export async function foundIn(
  { root, title }: Place,
  revision: string,
): Promise<FoundWeights | null> {
  const folder = join(root, revision);
  const manifest = await readManifest(folder);
  if (manifest === null) return null;
  for (const { path, size } of manifest.files) {
    const found = await sizeOf(join(folder, path));
    if (found === size) continue;
    const is = found === null ? "is gone" : `has ${found} bytes of ${size}`;
    throw new Problem(
      "conflict",
      `${join(folder, path)} ${is}: run \`autocode model pull ${title}\`, which fetches only that`,
      { facts: { file: path } },
    );
  }
  return { dir: folder, revision };
}

async function readPin(root: string): Promise<Pin | null> {
  try {
    const value: unknown = JSON.parse(await readFile(join(root, PINNED), "utf8"));
    if (Value.Check(Pin, value)) return value;
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === "ENOENT") return null;
    if (!(error instanceof SyntaxError)) throw error;
  }
  throw new Problem("conflict", `${join(root, PINNED)} is damaged: delete it, and pull again`);
}

/**
 * Held while a pull of it goes on; the kernel drops it when the process ends, however it ends.
 *
 * @throws PulledElsewhere naming the process that has it.
 */
export async function lockPlace({ root, title }: Place, clock: Clock): Promise<Disposable> {
  await mkdir(root, { recursive: true });
  const note = join(root, "pull.txt");
  const held = tryLock(join(root, "pull.lock"));
  if (held === null) {
    const said = (await readFile(note, "utf8").catch(() => "")).trim();
    throw new PulledElsewhere(
      "conflict",
      `Another pull of ${title} is under way (${said || "since a moment ago"}): wait for it, or ` +
        "stop it and pull again to go on",
    );
  }
  await writeFile(note, `process ${process.pid}, since ${rfc3339(clock.now())}\n`);
  return held;
}

/** Why there is nothing to verify. */
export async function notHere(place: Place, revision: string | null): Promise<Problem> {
  const folder = revision === null ? place.root : join(place.root, revision);
  const names = revision === null ? [] : await readdir(folder).catch((): string[] => []);
  const partial = names.find((name) => name.endsWith(PARTIAL)) ?? names[0];
  const command = `\`autocode model pull ${place.title}\``;
  return partial === undefined
    ? new Problem("not_found", `${place.title} is not in the weight store: run ${command}`)
    : new Problem(
        "conflict",
        `${join(folder, partial)} is of a pull that was cut: run ${command}, ` +
          "which goes on from there",
      );
}

export function offline({ quantisation, root, title }: Place, revision: string | null): Problem {
  const { repository } = quantisation;
  const at = revision === null ? "" : ` at ${revision}`;
  return new Problem(
    "conflict",
    `${title} is not in the weight store, and AUTOCODE_OFFLINE is set: copy the files of ` +
      `${repository}${at} (*.safetensors, config.json, tokenizer and template, about ` +
      `${quantisation.weightBytes} bytes) to a folder of this machine and run \`autocode model ` +
      `pull ${title} --from <folder>\`, which checks them and puts them into ${root}`,
  );
}

export function refuseOther(
  card: ModelCard,
  { quantisation }: Place,
  manifest: Manifest | null,
): void {
  if (manifest === null) return;
  const { repository, revision } = manifest;
  const wanted = quantisation.revision;
  if (repository === quantisation.repository && (wanted === null || wanted === revision)) return;
  throw new Problem(
    "conflict",
    `The folder's manifest says ${repository} at ${revision}, and the card of ${card.name} ` +
      `${quantisation.repository}${wanted === null ? "" : ` at ${wanted}`}: copy those files, or ` +
      "correct the card",
  );
}

function folderName(name: string): string {
  return name.replaceAll(/[^A-Za-z0-9._-]/g, "_").replace(/^\.+/, "_");
}

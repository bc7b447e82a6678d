/**
 * The weight store in a folder: `<model>/<quantisation>/<revision>/`, with the manifest that makes
 * it a model, and beside the revisions which one is the model's (`pinned.json`).
 *
 * Invariants: one pull of a model at a time, across processes; a revision that was pulled once is
 * pulled again as that commit, whatever its branch is at (trust on first use); nothing is fetched
 * before its licence is accepted, and with no hub (offline) nothing at all.
 */
import { rm } from "node:fs/promises";
import { dirname, isAbsolute, join } from "node:path";
import type { ModelCard } from "../../models/card.ts";
import { Problem } from "../problem.ts";
import { type Clock, rfc3339 } from "../runtime/clock.ts";
import { bringModel, diskFree, soundnessOf, totalOf, type Wanted } from "./bring.ts";
import { folderSource, hashesOf, importedRevision, readFolder } from "./folder-source.ts";
import type { Hub } from "./hub.ts";
import { createLicences } from "./licences.ts";
import { deleteSetAside, listWeights, setAside } from "./listing.ts";
import { MANIFEST, type Manifest, readManifest, writeDurably } from "./manifest.ts";
import { createMeter, type Meter } from "./meter.ts";
import {
  foundIn,
  lockPlace,
  notHere,
  offline,
  type Place,
  pin,
  placeOf,
  refuseOther,
  revisionOf,
} from "./place.ts";
import { neededFiles } from "./select.ts";
import { hashFile } from "./weight-file.ts";
import type { FoundWeights, PullOptions, Weights } from "./weights.ts";

export interface WeightStoreOptions {
  dir: string;
  /** Null: offline, never a byte to the network. */
  hub: Hub | null;
  cards: ReadonlyMap<string, ModelCard>;
  clock: Clock;
  /** Milliseconds that are never set back, for rates. */
  nowMs: () => number;
  /** Files at once. */
  parallel?: number;
  /** Of the disk that a folder is on. */
  freeBytes?: (dir: string) => Promise<number>;
}

const PARALLEL = 4;

interface Watch {
  meter: Meter;
  signal: AbortSignal;
}

export function createWeightStore(options: WeightStoreOptions): Weights {
  const { dir, hub, cards, clock, nowMs, parallel = PARALLEL } = options;
  const freeBytes = options.freeBytes ?? diskFree;
  const licences = createLicences(join(dir, "licences"), clock);
  return {
    find,
    pull,
    verify,
    remove,
    deleteRemoved: () => deleteSetAside(dir),
    list: () => listWeights(dir),
    freeBytes: () => freeBytes(dir),
    requireLicence: async (card, accepted, by) => {
      await licences.require(card.licence, card.name, { accepted, by });
    },
  };

  async function find(model: string, quantisation: string): Promise<FoundWeights | null> {
    const card = cards.get(model);
    if (card === undefined) return null;
    const place = placeOf(dir, card, quantisation);
    const revision = await revisionOf(place);
    return revision === null ? null : foundIn(place, revision);
  }

  async function pull(
    card: ModelCard,
    quantisation: string,
    given: PullOptions,
  ): Promise<FoundWeights> {
    const place = placeOf(dir, card, quantisation);
    const by = given.acceptedBy ?? "an operator";
    const asked = { accepted: given.acceptedLicences, by };
    const acceptance = await licences.require(card.licence, card.name, asked);
    const names = { model: card.name, quantisation: place.quantisation.name };
    const meter = createMeter(names, given.onProgress, nowMs);
    using _lock = await lockPlace(place, clock);
    const revision = await revisionOf(place);
    const here = revision === null ? null : await undamaged(place, revision, given.from);
    if (here !== null) {
      meter.say("already_here", here.dir);
      return here;
    }
    const { signal } = given;
    const { repository } = place.quantisation;
    const wanted =
      given.from === undefined
        ? await fromHub(place, revision, { meter, signal })
        : await fromFolder(card, place, given.from, { meter, signal });
    const brought = await bringModel(card, repository, wanted, {
      ...{ meter, signal, parallel, freeBytes },
    });
    const manifest: Manifest = {
      version: 1,
      ...names,
      repository,
      revision: wanted.revision,
      source: wanted.origin,
      files: brought.files,
      licence: {
        id: card.licence.id,
        url: card.licence.url,
        accepted_by: acceptance?.accepted_by ?? null,
        accepted_at: acceptance?.accepted_at ?? null,
      },
      warnings: brought.warnings,
      pulled_at: rfc3339(clock.now()),
    };
    await writeDurably(join(wanted.dir, MANIFEST), manifest);
    meter.say("pulled", wanted.dir);
    return { dir: wanted.dir, revision: wanted.revision };
  }

  /** Null: it is to be brought, all or in part. Offline, what is wrong with it is the answer. */
  async function undamaged(
    place: Place,
    revision: string,
    from: string | undefined,
  ): Promise<FoundWeights | null> {
    try {
      return await foundIn(place, revision);
    } catch (error) {
      if (error instanceof Problem && (hub !== null || from !== undefined)) return null;
      throw error;
    }
  }

  async function verify(
    card: ModelCard,
    quantisation: string,
    { onProgress, signal }: Pick<PullOptions, "onProgress" | "signal">,
  ): Promise<readonly string[]> {
    const place = placeOf(dir, card, quantisation);
    const revision = await revisionOf(place);
    const found = revision === null ? null : await foundIn(place, revision);
    if (found === null) throw await notHere(place, revision);
    const { dir: folder } = found;
    const manifest = (await readManifest(folder)) as Manifest;
    const names = { model: card.name, quantisation: place.quantisation.name };
    const meter = createMeter(names, onProgress, nowMs);
    meter.start("checking", folder, totalOf(manifest.files));
    for (const { path, sha256 } of manifest.files) {
      const is = await hashFile(join(folder, path), signal, meter.add);
      if (is === sha256) continue;
      throw new Problem(
        "conflict",
        `${join(folder, path)} is damaged: its sha256 was ${sha256} and is ${is}. Delete it, and ` +
          `run \`autocode model pull ${place.title}\`: only this file is fetched again`,
        { facts: { file: path } },
      );
    }
    const paths = manifest.files.map(({ path }) => path);
    const warnings = await soundnessOf(card, place.quantisation.repository, folder, paths);
    for (const warning of warnings) meter.say("warning", warning);
    meter.say("checked", `${manifest.files.length} files of ${manifest.revision} are as pulled`);
    return warnings;
  }

  async function remove(
    card: ModelCard,
    quantisation: string,
    used: readonly string[],
  ): Promise<number> {
    const place = placeOf(dir, card, quantisation);
    if (used.some((name) => placeOf(dir, card, name).root === place.root)) {
      throw new Problem("conflict", `An engine that is up uses the weights of ${place.title}`);
    }
    const stored = (await listWeights(dir)).filter((each) => dirname(each.dir) === place.root);
    if (stored.length === 0) return 0;
    using _lock = await lockPlace(place, clock);
    // The manifest first: without it the rest is no model, however this ends.
    for (const { dir: folder } of stored) {
      await rm(join(folder, MANIFEST), { force: true });
      await setAside(folder);
    }
    return stored.reduce((sum, { bytes }) => sum + bytes, 0);
  }

  async function fromHub(
    place: Place,
    known: string | null,
    { meter, signal }: Watch,
  ): Promise<Wanted> {
    if (hub === null) throw offline(place, known);
    const { repository } = place.quantisation;
    meter.start("looking", `${repository} at ${hub.url}`, 0);
    const commit = known ?? (await hub.commit(repository, null, signal));
    const files = neededFiles(repository, await hub.files(repository, commit, signal));
    await pin(place, commit, clock);
    const open = (path: string, fromByte: number, within: AbortSignal) =>
      hub.open({ repository, commit, path }, fromByte, within);
    return {
      dir: join(place.root, commit),
      revision: commit,
      files,
      source: { open, retrying: hub.retrying },
      step: "fetching",
      origin: "hub",
    };
  }

  async function fromFolder(
    card: ModelCard,
    place: Place,
    folder: string,
    { meter, signal }: Watch,
  ): Promise<Wanted> {
    if (!isAbsolute(folder)) {
      throw new Problem("invalid_request", `from: ${folder} must be a whole path, from / on`);
    }
    meter.start("looking", folder, 0);
    const contents = await readFolder(folder);
    refuseOther(card, place, contents.manifest);
    meter.start("checking", folder, contents.manifest === null ? totalOf(contents.files) : 0);
    const files = await hashesOf(folder, contents, signal, meter.add);
    const revision =
      place.quantisation.revision ?? contents.manifest?.revision ?? importedRevision(files);
    await pin(place, revision, clock);
    return {
      dir: join(place.root, revision),
      revision,
      files,
      source: folderSource(folder),
      step: "copying",
      origin: contents.manifest?.source ?? "folder",
    };
  }
}

/**
 * Pulls that people ask for: of a pair's models or of one, each refusal before the first byte.
 */
import type { ModelCard } from "../../models/card.ts";
import type { Catalog } from "../../models/catalog.ts";
import { findPairName } from "../../models/pair-names.ts";
import { CatalogError } from "../../models/yaml-file.ts";
import type { PreparedPull, WeightPulls } from "../api/services.ts";
import type {
  PullRequest,
  RemovedWeights,
  RemoveRequest,
  WeightList,
  WeightProgress,
} from "../contract/weights.ts";
import { Problem } from "../problem.ts";
import type { Weights } from "./weights.ts";

interface Wanted {
  card: ModelCard;
  quantisation: string;
}

/** An engine that is up, or being brought up or down. */
export interface WeightUser {
  pair: string;
  model: string;
  quantisation: string;
}

/** Does `work` with the engines there are; none comes up before it is done. */
export type UsersHeld = <Value>(
  work: (users: readonly WeightUser[]) => Promise<Value>,
) => Promise<Value>;

export function createPulls(
  weights: Weights,
  cards: ReadonlyMap<string, ModelCard>,
  catalog: Pick<Catalog, "pairs">,
  dir: string,
  users: UsersHeld,
): WeightPulls {
  return { list, prepare, remove };

  async function list(): Promise<WeightList> {
    return { dir, free_bytes: await weights.freeBytes(), weights: await weights.list() };
  }

  async function prepare(request: PullRequest, caller: string): Promise<PreparedPull> {
    const { accepted_licences: accepted = [], accepted_by: name, from } = request;
    const models = modelsOf(request);
    if (from !== undefined && models.length > 1) {
      const names = models.map(({ card }) => card.name).join(" or ");
      throw new Problem("invalid_request", `from: a folder holds one model: name ${names}`);
    }
    const by = name === undefined ? caller : `${name} (${caller})`;
    const isVerify = request.is_verify === true;
    if (!isVerify) {
      for (const { card } of models) await weights.requireLicence(card, accepted, by);
    }
    return { run };

    async function run(
      onProgress: (progress: WeightProgress) => void,
      signal: AbortSignal,
    ): Promise<void> {
      for (const { card, quantisation } of models) {
        let last = { ...BLANK, model: card.name, quantisation };
        const say = (progress: WeightProgress) => {
          last = { ...last, bytes: progress.bytes, bytes_total: progress.bytes_total };
          onProgress(progress);
        };
        try {
          if (isVerify) await weights.verify(card, quantisation, { onProgress: say, signal });
          else {
            await weights.pull(card, quantisation, {
              ...{ acceptedLicences: accepted, acceptedBy: by, onProgress: say, signal },
              ...(from !== undefined && { from }),
            });
          }
        } catch (error) {
          const detail = error instanceof Problem ? error.message : "The server's log says why";
          onProgress({ ...last, step: "failed", detail });
          throw error;
        }
      }
    }
  }

  async function remove({ model, quantisation }: RemoveRequest): Promise<RemovedWeights> {
    const asked = modelsOf({ model }).map(({ card }) => card);
    const removed = await users((all) => removeUnused(asked, quantisation, all));
    // After it, as it takes long; and whatever was removed, what a crash left goes with it.
    await weights.deleteRemoved();
    if (removed.length === 0) {
      const names = asked.map(({ name }) => name).join(" and ");
      throw new Problem("not_found", `No weights of ${names} are in the store`);
    }
    return { freed_bytes: removed.reduce((sum, { bytes }) => sum + bytes, 0), removed };
  }

  async function removeUnused(
    asked: readonly ModelCard[],
    quantisation: string | undefined,
    all: readonly WeightUser[],
  ): Promise<RemovedWeights["removed"]> {
    const user = all.find(({ model: used }) => asked.some(({ name }) => name === used));
    if (user !== undefined && quantisation === undefined) {
      const way = `\`autocode model down ${user.pair}\` first`;
      throw new Problem("conflict", `An engine of ${user.pair} uses ${user.model}: ${way}`);
    }
    const removed: RemovedWeights["removed"] = [];
    for (const card of asked) {
      const used = all.filter(({ model }) => model === card.name).map((each) => each.quantisation);
      const known = card.quantisations.map(({ name }) => name);
      for (const name of quantisation === undefined ? known : [quantisation]) {
        const bytes = await weights.remove(card, name, used);
        if (bytes > 0) removed.push({ model: card.name, quantisation: name, bytes });
      }
    }
    return removed;
  }

  function modelsOf({
    model,
    quantisation,
  }: Pick<PullRequest, "model" | "quantisation">): Wanted[] {
    const own = cards.get(model);
    if (own !== undefined) return [{ card: own, quantisation: quantisationOf(own, quantisation) }];
    const pair = catalog.pairs.get(pairName(model));
    const names = new Set([pair?.normal.name, pair?.thinking.name]);
    return [...names].map((name) => {
      const card = cards.get(name ?? "");
      if (card !== undefined) return { card, quantisation: quantisationOf(card, quantisation) };
      const provider = pair?.normal.name === name ? pair?.normal : pair?.thinking;
      throw new Problem(
        "conflict",
        `${name} of the pair ${pair?.name} is ${provider?.provider}'s and has no weights to pull; ` +
          `those that have: ${[...cards.keys()].join(", ")}`,
      );
    });
  }

  /** @throws Problem `not_found` naming the nearest. */
  function pairName(text: string): string {
    try {
      return findPairName(catalog, text);
    } catch (error) {
      if (!(error instanceof CatalogError)) throw error;
      const models = [...cards.keys()].join(", ");
      throw new Problem("not_found", `${error.message}; models: ${models}`, { cause: error });
    }
  }
}

const BLANK = {
  ...{ bytes: 0, bytes_total: 0, bytes_per_second: null, eta_ms: null },
};

/** @throws Problem `not_found` naming those that the card has. */
function quantisationOf({ name, quantisations }: ModelCard, wanted: string | undefined): string {
  const found = quantisations.find((each) => wanted === undefined || each.name === wanted);
  if (found !== undefined) return found.name;
  const names = quantisations.map((each) => each.name).join(", ");
  throw new Problem("not_found", `quantisation: ${name} has no "${wanted}"; it has ${names}`);
}

/**
 * The port of the weight store: the files of the models that we serve ourselves, each checked
 * against its hash before it has its name. `store.ts` keeps them in a folder and pulls them from a
 * hub. A model is there when its manifest is: that is written last.
 */
import type { ModelCard } from "../../models/card.ts";
import type { StoredWeights, WeightProgress } from "../contract/weights.ts";
import { Problem } from "../problem.ts";

/** A `conflict` that passes by itself: another process pulls the same. */
export class PulledElsewhere extends Problem {}

/** `dir` is what an engine is given as its model. */
export interface FoundWeights {
  readonly dir: string;
  readonly revision: string;
}

export interface PullOptions {
  /** Ids of licences whose terms are accepted with this pull. */
  readonly acceptedLicences: readonly string[];
  /** Who accepts them, for the record; absent: "an operator". */
  readonly acceptedBy?: string;
  /** A folder of this machine to take the files from; absent: the hub. */
  readonly from?: string;
  readonly onProgress: (progress: WeightProgress) => void;
  /** Ends the pull; what came so far is kept, and the next pull goes on from there. */
  readonly signal: AbortSignal;
}

export interface Weights {
  /**
   * The weights of a model, where all of them are here; null: not pulled, or not all.
   *
   * @throws Problem `conflict` when a file of them is gone or has another size than it had.
   */
  find(model: string, quantisation: string): Promise<FoundWeights | null>;
  /**
   * Pulls what is missing, checks it, and pins its revision. Idempotent: what is here is left.
   *
   * @throws Problem `not_found` (no such quantisation, repository or folder), `conflict` (a
   * licence is not accepted, offline, another pull, no room, not the model of the card),
   * `upstream_failed` and `unavailable` (the hub, in its own words); the signal's reason.
   */
  pull(card: ModelCard, quantisation: string, options: PullOptions): Promise<FoundWeights>;
  /**
   * Hashes all files of a model again. @returns what a person should know of it, each a sentence.
   *
   * @throws Problem `not_found`; `conflict` naming the file that is not as it was pulled.
   */
  verify(
    card: ModelCard,
    quantisation: string,
    options: Pick<PullOptions, "onProgress" | "signal">,
  ): Promise<readonly string[]>;
  /**
   * Removes a model's weights, whole or not; which revision is the model's stays known. How many
   * bytes `deleteRemoved` frees by that; 0: none were here. Of several quantisations with the same
   * files any removes them.
   *
   * @throws Problem `conflict` while they are pulled, or where one of `used` has the same files.
   */
  remove(card: ModelCard, quantisation: string, used: readonly string[]): Promise<number>;
  /** Deletes the files of all that was removed, which may take minutes. Idempotent. */
  deleteRemoved(): Promise<void>;
  /** All that is in the store, whole or not, by name. */
  list(): Promise<StoredWeights[]>;
  /** Bytes that are free where the store is. */
  freeBytes(): Promise<number>;
  /**
   * Whether a model may be pulled as its licence stands; it is accepted from now on where
   * `accepted` names it.
   *
   * @throws Problem `conflict` with the flag that accepts it.
   */
  requireLicence(card: ModelCard, accepted: readonly string[], by: string): Promise<void>;
}

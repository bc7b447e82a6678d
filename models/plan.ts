/**
 * Whether a pair of models fits given GPUs, how, how fast it then is and what its tokens cost:
 * explained a step at a time, with what to change where it does not fit. Pure.
 */
import type { PairPlan, PlanRequest } from "../orchestrator/contract/models.ts";
import type { ModelCard } from "./card.ts";
import type { ModelPair } from "./catalog.ts";
import type { Gpu } from "./gpu.ts";
import type { PriceBook } from "./prices.ts";

/** What is known; the request says what is wished. */
export interface PlanFacts {
  readonly pair: ModelPair;
  readonly cards: ReadonlyMap<string, ModelCard>;
  readonly gpus: ReadonlyMap<string, Gpu>;
  readonly book: PriceBook;
}

/** @throws CatalogError for an unknown GPU, card or quantisation, naming the nearest. */
export function planPair(request: PlanRequest, facts: PlanFacts): PairPlan {
  throw new Error(`planPair of ${request.pair} with ${facts.cards.size} cards: being written`);
}

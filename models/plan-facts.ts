/** What the planner is told: of the catalogue, the hardware and the price book. */
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
  /** Which else there are, to name a smaller one that fits; none when left out. */
  readonly pairs?: ReadonlyMap<string, ModelPair>;
}

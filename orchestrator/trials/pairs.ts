/** The pairs port: what a model pair's name means for a project, priced in its currency. */
import type { AgentFacts, Side } from "../contract/agents.ts";
import type { ModelPrice, PriceList, PriceReport } from "../contract/prices.ts";
import type { ProjectFile } from "../contract/projects.ts";
import type { RepriceRequest, Repricing } from "../contract/repricing.ts";
import type { PairStatus } from "../contract/system.ts";
import type { GrantedModel, PriceSnapshot } from "../keys/keys.ts";
import type { EpochMs } from "../runtime/clock.ts";
import type { TrialId } from "../runtime/ids.ts";

export interface ResolvedPair {
  name: string;
  isScripted: boolean;
  /** The normal and the thinking model, each with the price in force now. */
  models: readonly [GrantedModel, GrantedModel];
}

export interface Pairs {
  /**
   * @throws Problem `invalid_request` for a pair that is unknown, has no provider here, or does
   * not speak the agent's wire; `unpriced_model` for one without a price.
   */
  resolve(file: ProjectFile, pair: string, agent: AgentFacts): ResolvedPair;
  /** @throws Problem `invalid_request`: the file's `models` are not valid. */
  check(file: ProjectFile): void;
  list(file: ProjectFile | null): PairStatus[];
}

/** In which currency and when: the project's own and now, where nothing else is said. */
export interface PriceWish {
  project?: string;
  currency?: string;
  /** RFC 3339. */
  at?: string;
}

/** Prices as people ask for them. */
export interface Pricing {
  /** @throws Problem `not_found` for an unknown project, as `explain`. */
  list(wish: PriceWish): Promise<PriceList>;
  /** @throws Problem `not_found` for an unknown model, `unpriced_model` for one without a price. */
  explain(model: string, wish: PriceWish): Promise<PriceReport>;
  /**
   * Charges the trial's calls again. Nothing is moved.
   *
   * @throws Problem `not_found`, `invalid_request` (book or pair), `unpriced_model`.
   */
  reprice(id: TrialId, wanted: RepriceRequest): Promise<Repricing>;
}

/** Which price of a call is asked for: in force at `atMs`, of the model that answered it. */
export interface PriceQuestion {
  side: Side;
  model: string;
  atMs: EpochMs;
}

/** The book's prices, with those of the project's file where one is given. */
export interface Prices {
  /** What every model costs then, by name. */
  prices(file: ProjectFile | null, currency: string, atMs: EpochMs): ModelPrice[];
  /** @throws Problem `not_found` for an unknown model, `unpriced_model` for one without a price. */
  explain(file: ProjectFile | null, model: string, currency: string, atMs: EpochMs): PriceReport;
  /**
   * Prices to charge finished calls by again: of another book (its text), of another pair, or both.
   * The answer is null where there is no price then.
   *
   * @throws Problem `invalid_request`: the book is none, or the pair is unknown.
   */
  otherPrices(
    file: ProjectFile,
    choice: { bookText: string | null; pair: string | null },
  ): (question: PriceQuestion) => { model: string; price: PriceSnapshot | null };
}

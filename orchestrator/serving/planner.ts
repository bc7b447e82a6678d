/**
 * The planner as the API knows it: over the catalogue and the hardware table of this installation.
 * Its errors name the request's field.
 */
import type { Catalog } from "../../models/catalog.ts";
import type { Gpu } from "../../models/gpu.ts";
import { findPairName } from "../../models/pair-names.ts";
import { planPair } from "../../models/plan.ts";
import { agentsOfPlan, type ServedContexts } from "../../models/soundness.ts";
import { CatalogError } from "../../models/yaml-file.ts";
import type { AgentFacts } from "../contract/agents.ts";
import type { HardwareList, PairPlan, PlanRequest } from "../contract/models.ts";
import { Problem } from "../problem.ts";
import type { OwnGpus } from "./own-gpus.ts";

export interface Planner {
  /** @throws Problem `invalid_request` for what the catalogue or the hardware table has not. */
  plan(request: PlanRequest): PairPlan;
  hardware(): Promise<HardwareList>;
  /** "14b" is a pair's name to people. @throws Problem `invalid_request`. */
  pairName(text: string): string;
}

export interface PlannerFacts {
  readonly catalog: Catalog;
  readonly gpus: ReadonlyMap<string, Gpu>;
  /** What this machine has; null: nothing that is known. */
  readonly own: () => Promise<OwnGpus | null>;
  /** A plan says which of them work with what it would serve. */
  readonly agents: readonly AgentFacts[];
}

export function createPlanner({ catalog, gpus, own, agents }: PlannerFacts): Planner {
  const { cards } = catalog;
  return { plan, hardware, pairName };

  function plan(request: PlanRequest): PairPlan {
    const name = pairName(request.pair);
    const pair = catalog.pairs.get(name);
    if (pair === undefined) throw new Error(`pair ${name} was found, and is not there`);
    const facts = { pair, cards, gpus, book: catalog.book, pairs: catalog.pairs };
    const made = asked(() => planPair(request, facts));
    const contexts = made.models.map(({ side, context_tokens }) => [side, context_tokens]);
    const served: ServedContexts = Object.fromEntries(contexts);
    const { step, advice } = agentsOfPlan(agents, pair, cards, served);
    return { ...made, steps: [...made.steps, step], advice: [...made.advice, ...advice] };
  }

  async function hardware(): Promise<HardwareList> {
    const list = [...gpus.values()].map(({ name, title, memoryBytes, rate }) => ({
      name,
      title,
      memory_bytes: memoryBytes,
      rate_per_hour: rate.perHour,
      currency: rate.currency,
    }));
    return { gpus: list, own: await own() };
  }

  function pairName(text: string): string {
    return asked(() => findPairName(catalog, text));
  }
}

/** What the catalogue has not, a request asked for. */
function asked<Value>(read: () => Value): Value {
  try {
    return read();
  } catch (error) {
    if (!(error instanceof CatalogError)) throw error;
    throw new Problem("invalid_request", error.message, { cause: error });
  }
}

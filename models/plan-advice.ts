/**
 * What to change about a plan that does not fit: each change is planned before it is named, so
 * that none is a guess. Pure.
 */
import type { PairPlan, PlanRequest } from "../orchestrator/contract/models.ts";
import type { ModelPair } from "./catalog.ts";
import type { Gpu } from "./gpu.ts";
import type { PlanFacts } from "./plan-facts.ts";
import { CatalogError } from "./yaml-file.ts";

type TryPlan = (request: PlanRequest, pair: ModelPair) => PairPlan;

const CONTEXT_MIN = 4096;

/** The nearest first: what costs the user least to change. */
export function adviceFor(request: PlanRequest, facts: PlanFacts, tryPlan: TryPlan): string[] {
  const { pair } = facts;
  const works = (changes: Partial<PlanRequest>, other = pair): PairPlan | null => {
    try {
      const plan = tryPlan({ ...request, ...changes }, other);
      return plan.fits ? plan : null;
    } catch (error) {
      // A change that cannot be made is none: "a context of 4096 of a model that takes 2048".
      if (error instanceof CatalogError) return null;
      throw error;
    }
  };
  return [
    ...fewerSequences(request, works),
    ...otherQuantisation(request, works),
    ...smallerContext(request, facts, works),
    ...moreGpus(request, works),
    ...nextGpu(request, facts, works),
    ...smallerPair(facts, works),
  ];
}

type Works = (changes: Partial<PlanRequest>, other?: ModelPair) => PairPlan | null;

function fewerSequences({ concurrency }: PlanRequest, works: Works): string[] {
  if (concurrency === undefined || concurrency === 1) return [];
  // Fewer never need more: the most that fit are where halving the doubt ends.
  let [fits, fails] = [0, concurrency];
  while (fails - fits > 1) {
    const middle = Math.floor((fits + fails) / 2);
    if (works({ concurrency: middle }) === null) fails = middle;
    else fits = middle;
  }
  return fits === 0 ? [] : [`${fits} sequences at once (--concurrency ${fits})`];
}

function otherQuantisation(request: PlanRequest, works: Works): string[] {
  if (request.quantisation === undefined) return [];
  const { quantisation: _, ...rest } = request;
  const plan = works({ ...rest, quantisation: {} });
  if (plan === null) return [];
  const [normal, thinking] = plan.models.map((model) => model.quantisation);
  return [`${normal} and ${thinking} weights (--quantisation ${normal},${thinking})`];
}

function smallerContext(
  { context_tokens: asked }: PlanRequest,
  { pair, cards }: PlanFacts,
  works: Works,
): string[] {
  const served = [pair.normal, pair.thinking].map(
    ({ name }) => cards.get(name)?.contextTokens ?? CONTEXT_MIN,
  );
  const now = asked ?? Math.max(...served);
  for (let context = 2 ** Math.ceil(Math.log2(now) - 1); context >= CONTEXT_MIN; context /= 2) {
    const plan = works({ context_tokens: context });
    if (plan !== null) {
      return [`a context of ${context} tokens (--context ${context}): ${plan.residency}`];
    }
  }
  return [];
}

function moreGpus({ gpu, gpu_count: count }: PlanRequest, works: Works): string[] {
  for (let more = count + 1; more <= Math.min(64, Math.max(8, count * 4)); more++) {
    const plan = works({ gpu_count: more });
    if (plan !== null) return [`${more} x ${gpu} (--gpu ${more}x${gpu}): ${plan.residency}`];
  }
  return [];
}

function nextGpu(request: PlanRequest, { gpus }: PlanFacts, works: Works): string[] {
  const current = gpus.get(request.gpu)?.memoryBytes ?? 0;
  const larger = [...gpus.values()]
    .filter(({ memoryBytes }) => memoryBytes > current)
    .sort((a: Gpu, b: Gpu) => a.memoryBytes - b.memoryBytes);
  for (const { name } of larger) {
    const plan = works({ gpu: name });
    const count = request.gpu_count;
    if (plan !== null) return [`${count} x ${name} (--gpu ${count}x${name}): ${plan.residency}`];
  }
  return [];
}

function smallerPair({ pair, pairs, cards }: PlanFacts, works: Works): string[] {
  const size = (of: ModelPair) =>
    [of.normal, of.thinking].reduce(
      (sum, { name }) => sum + (cards.get(name)?.parameters.total ?? Number.POSITIVE_INFINITY),
      0,
    );
  const smaller = [...(pairs?.values() ?? [])]
    .filter((other) => size(other) < size(pair))
    .sort((a, b) => size(b) - size(a));
  for (const other of smaller) {
    const plan = works({}, other);
    if (plan !== null) return [`the smaller pair ${other.name}: ${plan.residency}`];
  }
  return [];
}

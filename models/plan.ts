/**
 * Whether a pair of models fits given GPUs, how, how fast it then is and what its tokens cost:
 * explained a step at a time, with what to change where it does not fit. Pure.
 *
 * It never says that something fits which lacks a byte by its own count; what that count is worth
 * is compared with published logs in `test/models/published/`.
 */
import type { ModelPlan, PairPlan, PlanRequest } from "../orchestrator/contract/models.ts";
import type { ModelCard, Quantisation } from "./card.ts";
import type { ModelPair } from "./catalog.ts";
import type { Gpu } from "./gpu.ts";
import { nearestName } from "./nearest.ts";
import { adviceFor } from "./plan-advice.ts";
import type { PlanFacts } from "./plan-facts.ts";
import {
  CACHE_MARGIN,
  type Engine,
  type Fit,
  fitOf,
  gpusOf,
  layoutsOf,
  type Needs,
  type Placed,
  USABLE_SHARE,
} from "./plan-layouts.ts";
import { enginePrice, engineTerms, type HourRate, hourRate } from "./plan-price.ts";
import { speedOf } from "./plan-speed.ts";
import {
  choiceSteps,
  cutFault,
  gib,
  layoutWords,
  memorySteps,
  priceSteps,
  speedSteps,
  step,
} from "./plan-steps.ts";
import { CatalogError } from "./yaml-file.ts";

/** Sequences at once that speeds and prices are for, where nobody asks for a number. */
const CONCURRENCY = 8;
/** From a GPU to the host's memory and back: PCIe 4.0 x16 (31.5 GB/s) less its losses. Assumed. */
const HOST_BYTES_PER_SECOND = 20e9;
const STEPS_TRIED_MAX = 6;
/** One whole context alone would make every other trial wait. */
const ROOMY_SEQUENCES = 2;

/** @throws CatalogError for an unknown GPU, card or quantisation, naming the nearest. */
export function planPair(request: PlanRequest, facts: PlanFacts): PairPlan {
  const plan = planOnce(request, facts);
  if (plan.fits) return plan;
  const advice = adviceFor(request, facts, (changed, pair) =>
    planOnce(changed, { ...facts, pair }),
  );
  return { ...plan, advice };
}

function planOnce(request: PlanRequest, facts: PlanFacts): PairPlan {
  const gpu = known("gpu", request.gpu, facts.gpus);
  const rate = hourRate(request, gpu, facts.book);
  const needs: Needs = {
    gpu,
    gpuCount: request.gpu_count,
    sequences: request.concurrency ?? 1,
    overheadBytes: request.overhead_mib === undefined ? undefined : request.overhead_mib * 2 ** 20,
  };
  const ranked = rankedFits(request, facts, needs);
  const found = ranked.find(({ missingBytes }) => missingBytes === 0);
  const taken = found ?? [...ranked].sort((a, b) => a.missingBytes - b.missingBytes)[0];
  if (taken === undefined) {
    throw new CatalogError(
      `gpu_count: no way to cut ${facts.pair.name} over ${request.gpu_count} GPUs`,
    );
  }
  const fits = found !== undefined;
  const [normal, thinking] = taken.placed;
  const concurrency =
    request.concurrency ??
    Math.min(sequencesAtOnce(normal, CONCURRENCY), sequencesAtOnce(thinking, CONCURRENCY));
  const models = taken.placed.map((placed) =>
    modelPlan(placed, { request, taken, needs, rate, concurrency, fits }),
  );
  const swapMs = fits && taken.layout.residency === "alternate" ? swapOf(taken) : null;
  return {
    pair: facts.pair.name,
    gpu: gpu.name,
    gpu_count: request.gpu_count,
    gpu_memory_bytes: gpu.memoryBytes,
    concurrency,
    fits,
    residency: fits ? taken.layout.residency : "none",
    models,
    swap_ms: swapMs,
    steps: [
      ...choiceSteps(triedBefore(ranked, taken, fits), taken, needs),
      ...sharingSteps(taken, swapMs, needs),
    ],
    refusal: fits ? null : refusalOf(taken, request, facts.pair),
    advice: [],
  };
}

/** Every layout in every quantisation that may be, the best of them first. */
function rankedFits(request: PlanRequest, { pair, cards }: PlanFacts, needs: Needs): Fit[] {
  const [normal, thinking] = (["normal", "thinking"] as const).map((side) => {
    const card = cardOf(pair, side, cards);
    const contextTokens = contextOf(request, card);
    return quantisationsOf(request, side, card, needs.gpu).map((quantisation) => ({
      side,
      card,
      quantisation,
      contextTokens,
    }));
  }) as [Omit<Engine, "split">[], Omit<Engine, "split">[]];
  const fits = normal.flatMap((first) =>
    thinking.flatMap((second) =>
      layoutsOf(first, second, needs.gpuCount).map((layout) => fitOf(layout, needs)),
    ),
  );
  const wanted = request.concurrency ?? CONCURRENCY;
  return fits
    .map((fit) => ({ fit, rank: rankOf(fit, wanted, needs) }))
    .sort((a, b) => compare(a.rank, b.rank))
    .map(({ fit }) => fit);
}

/** Smaller is better, the first number before the next: `RULE` of plan-steps.ts in words. */
function rankOf({ layout, placed }: Fit, wanted: number, { gpu }: Needs): number[] {
  const exactness = placed.reduce(
    (sum, { engine }) => sum + engine.card.quantisations.indexOf(engine.quantisation),
    0,
  );
  const sequences = Math.min(wanted, ...placed.map((each) => each.sequences));
  const slowest = Math.max(
    ...placed.map((each) => {
      const { card, quantisation, split, contextTokens } = each.engine;
      const atOnce = sequencesAtOnce(each, wanted);
      return speedOf(card, quantisation, gpu, split).step(atOnce, contextTokens / 2) / atOnce;
    }),
  );
  return [
    layout.residency === "alternate" ? 1 : 0,
    placed.filter(({ engine }) => engine.split.pipeline > 1).length,
    placed.filter(({ engine }) => isCoarse(engine.quantisation)).length,
    Math.max(0, Math.min(wanted, ROOMY_SEQUENCES) - sequences),
    exactness,
    -sequences,
    slowest,
    layout.residency === "apart" ? 0 : 1,
  ];
}

/** Of half the context each, which is where sequences stand on average: as many as are wanted. */
function sequencesAtOnce(
  { cacheTokens, engine }: Pick<Placed, "cacheTokens" | "engine">,
  wanted: number,
): number {
  const standing = engine.contextTokens / 2;
  return Math.max(1, Math.min(wanted, Math.floor((cacheTokens * CACHE_MARGIN) / standing)));
}

/** Four bits cost answers; eight hardly do. */
function isCoarse({ name }: Quantisation): boolean {
  return name.includes("int4");
}

function compare(a: readonly number[], b: readonly number[]): number {
  const index = a.findIndex((value, at) => value !== b[at]);
  return index === -1 ? 0 : (a[index] ?? 0) - (b[index] ?? 0);
}

/** What is better than what was taken and lacks memory: of each residency and precision, one. */
function triedBefore(ranked: readonly Fit[], taken: Fit, fits: boolean): Fit[] {
  const better = fits ? ranked.slice(0, ranked.indexOf(taken)) : ranked;
  const best = new Map<string, Fit>();
  for (const fit of better.filter(({ missingBytes }) => missingBytes > 0)) {
    const names = fit.placed.map(({ engine }) => engine.quantisation.name);
    const key = [fit.layout.residency === "alternate", ...names].join(" ");
    const held = best.get(key);
    if (fit !== taken && (held === undefined || fit.missingBytes < held.missingBytes)) {
      best.set(key, fit);
    }
  }
  return [...best.values()].slice(0, STEPS_TRIED_MAX);
}

interface Planning {
  readonly request: PlanRequest;
  readonly taken: Fit;
  readonly needs: Needs;
  readonly rate: HourRate;
  readonly concurrency: number;
  readonly fits: boolean;
}

function modelPlan(placed: Placed, planning: Planning): ModelPlan {
  const { needs, fits, taken, request, rate, concurrency } = planning;
  const { engine, fixed } = placed;
  const { card, quantisation, split, contextTokens } = engine;
  const speed = speedOf(card, quantisation, needs.gpu, split);
  const standing = Math.floor(contextTokens / 2);
  const sequences = sequencesAtOnce(placed, concurrency);
  const used = taken.layout.engines.map(gpusOf);
  const [a = 0, b = 0] = used;
  const speeds = {
    decode_tokens_per_second_alone: fits ? 1 / speed.step(1, standing) : 0,
    decode_tokens_per_second: fits ? sequences / speed.step(sequences, standing) : 0,
    prefill_tokens_per_second: fits ? speed.prefill(standing) : 0,
  };
  const terms = engineTerms({
    request,
    gpu: needs.gpu,
    rate,
    gpus: gpusOf(engine),
    usedGpus: taken.layout.residency === "apart" ? a + b : gpusOf(engine),
    inputTokensPerSecond: speeds.prefill_tokens_per_second,
    outputTokensPerSecond: speeds.decode_tokens_per_second,
  });
  const price = fits ? enginePrice(terms, rate.currency) : null;
  const described = { ...speeds, context_tokens: contextTokens };
  return {
    side: engine.side,
    model: card.name,
    quantisation: quantisation.name,
    licence: {
      id: card.licence.id,
      url: card.licence.url,
      needs_acceptance: card.licence.needsAcceptance,
    },
    gpus: [...placed.gpus],
    tensor_parallel: split.tensor,
    pipeline_parallel: split.pipeline,
    ...described,
    memory: [
      { part: "weights", bytes: fixed.weights },
      { part: "kv_cache", bytes: placed.cacheBytes },
      { part: "activations", bytes: fixed.activations },
      { part: "cuda_graphs", bytes: fixed.cudaGraphs },
      { part: "framework", bytes: fixed.framework },
    ],
    gpu_memory_utilization: placed.share,
    kv_bytes_per_token: placed.bytesPerToken * gpusOf(engine),
    kv_tokens: placed.cacheTokens,
    max_sequences: placed.sequences,
    price,
    steps: [
      ...memorySteps(placed, needs),
      ...(fits ? speedSteps(speed, described, { sequences, standing }, needs.gpu) : []),
      ...(price === null ? [] : priceSteps(price, rate)),
    ],
  };
}

function sharingSteps(taken: Fit, swapMs: number | null, { gpuCount }: Needs) {
  const { residency, engines } = taken.layout;
  if (residency === "together") {
    return [
      step(
        "who pays",
        "the engines share the GPUs' time: each token pays for all of them while it is made, so " +
          "that both models' charges add up to the hours that are paid",
      ),
    ];
  }
  if (residency === "apart") {
    const used = engines.reduce((sum, engine) => sum + gpusOf(engine), 0);
    const idle = gpuCount - used;
    const rest = idle === 0 ? "" : `; the ${idle} that neither uses are charged to both`;
    return [step("who pays", `each model for its own GPUs${rest}`)];
  }
  const host = engines.reduce((sum, { quantisation }) => sum + quantisation.weightBytes, 0);
  const turn =
    swapMs === null
      ? []
      : [
          step(
            "a turn",
            `weights of the one to the host's memory, of the other back, at 20 GB/s a GPU: ` +
              `${(swapMs / 1000).toFixed(1)} s`,
            "assumed: PCIe 4.0 x16 less its losses",
          ),
        ];
  return [
    ...turn,
    step("host memory", `both models' weights while they sleep: ${gib(host)} of RAM`),
    step("who pays", "the model that is awake pays for all GPUs; turns are not utilisation"),
  ];
}

/** Both ways, on the engine's fullest GPU: GPUs move theirs at one time. */
function swapOf({ placed }: Fit): number {
  const bytes = placed.reduce((sum, { fixed }) => sum + fixed.weights, 0);
  return Math.ceil((bytes / HOST_BYTES_PER_SECOND) * 1000);
}

function refusalOf(taken: Fit, request: PlanRequest, { name }: ModelPair): string {
  const { gpu, gpu_count: count } = request;
  const worst = [...taken.placed].sort((a, b) => b.missingBytes - a.missingBytes)[0];
  const engine = worst?.engine;
  const model = engine === undefined ? name : `${engine.card.name} in ${engine.quantisation.name}`;
  const sequences = request.concurrency ?? 1;
  const fault = engine === undefined ? null : cutFault(engine, count);
  const cut = fault === null ? "" : ` It is not cut further, as in ${fault}.`;
  return (
    `${name} does not fit ${count} x ${gpu}: ${gib(taken.missingBytes)} missing on each GPU. ` +
    `The nearest is ${layoutWords(taken)}; ${model} lacks the most, for ${sequences} ` +
    `sequence${sequences === 1 ? "" : "s"} of ${engine?.contextTokens ?? 0} tokens in ` +
    `${USABLE_SHARE} of a GPU's memory.${cut}`
  );
}

function cardOf(
  pair: ModelPair,
  side: "normal" | "thinking",
  cards: ReadonlyMap<string, ModelCard>,
): ModelCard {
  const { name, provider } = pair[side];
  const card = cards.get(name);
  if (card !== undefined) return card;
  throw new CatalogError(
    `pair: ${name} of ${pair.name} has no card, so it is not run here (its provider is ` +
      `${provider}); models with cards: ${[...cards.keys()].join(", ")}`,
  );
}

function contextOf({ context_tokens: asked }: PlanRequest, card: ModelCard): number {
  if (asked === undefined) return card.contextTokens;
  if (asked <= card.architecture.contextTokens) return asked;
  throw new CatalogError(
    `context_tokens: ${card.name} takes at most ${card.architecture.contextTokens}, not ${asked}`,
  );
}

/** The one that is asked for; else all that the GPU has units for. */
function quantisationsOf(
  request: PlanRequest,
  side: "normal" | "thinking",
  card: ModelCard,
  gpu: Gpu,
): readonly Quantisation[] {
  const asked = request.quantisation?.[side];
  if (asked === undefined) {
    return card.quantisations.filter(
      ({ name }) => !name.includes("fp8") || gpu.fp8FlopsPerSecond !== null,
    );
  }
  const named = new Map(card.quantisations.map((each) => [each.name, each]));
  return [known(`quantisation.${side}`, asked, named)];
}

function known<Value>(field: string, name: string, all: ReadonlyMap<string, Value>): Value {
  const found = all.get(name);
  if (found !== undefined) return found;
  const names = [...all.keys()];
  throw new CatalogError(
    `${field}: there is no "${name}"; the nearest is "${nearestName(name, names)}"; ` +
      `known: ${names.join(", ")}`,
  );
}

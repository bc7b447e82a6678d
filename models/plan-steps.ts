/** A plan's calculation in words, a step at a time: for a person with a calculator. Pure. */
import type { ModelPlan, PlanStep } from "../orchestrator/contract/models.ts";
import { formatNanos } from "../orchestrator/money.ts";
import type { Gpu } from "./gpu.ts";
import { blockFault } from "./plan-cuts.ts";
import type { Engine, Fit, Needs, Placed } from "./plan-layouts.ts";
import { CACHE_MARGIN, GPUS_MAX, gpusOf, USABLE_SHARE } from "./plan-layouts.ts";
import { BATCHED_TOKENS, GIB, SEQUENCES_MAX } from "./plan-memory.ts";
import type { HourRate } from "./plan-price.ts";
import type { Speed } from "./plan-speed.ts";
import { BANDWIDTH_EFFICIENCY, HOST_SECONDS, isFp8 } from "./plan-speed.ts";

export function gib(bytes: number): string {
  return `${(bytes / GIB).toFixed(2)} GiB`;
}

export function step(what: string, calculation: string, source: string | null = null): PlanStep {
  return { what, calculation, source };
}

export function memorySteps(placed: Placed, { gpu, overheadBytes }: Needs): PlanStep[] {
  const { engine, fixed, share, bytesPerToken } = placed;
  const { card, quantisation, split, contextTokens } = engine;
  const { layers, kvHeads, headDim } = card.architecture;
  const cut = `tensor parallel ${split.tensor}, pipeline ${split.pipeline}`;
  const gpus = gpusOf(engine);
  const heads = Math.max(1, kvHeads / split.tensor);
  const stage = Math.ceil(layers / split.pipeline);
  const overhead =
    overheadBytes === undefined
      ? [
          step(
            "activations",
            `${BATCHED_TOKENS} tokens of a layer, or the logits of ${SEQUENCES_MAX} sequences: ` +
              gib(fixed.activations),
            "vLLM's profile run",
          ),
          step("CUDA graphs", `0.015 GiB x ${stage} layers = ${gib(fixed.cudaGraphs)}`, CALIBRATED),
          step("framework", `CUDA, kernels, NCCL: ${gib(fixed.framework)}`, CALIBRATED),
        ]
      : [step("overhead", gib(fixed.framework), "as asked: of a startup log")];
  return [
    step(
      "weights",
      `${gib(quantisation.weightBytes)} in ${quantisation.name} over ${gpus} GPU` +
        `${gpus === 1 ? "" : "s"} (${cut}): ${gib(fixed.weights)} on the fullest`,
      card.source,
    ),
    ...loadSteps(placed, gpu),
    ...overhead,
    step(
      "cache",
      `${gib(gpu.memoryBytes)} x ${share.toFixed(3)} - ${gib(sumOf(placed))} = ` +
        `${gib(placed.cacheBytes)}, in whole blocks of 16 tokens`,
    ),
    step(
      "a token of it",
      `2 x ${stage} layers x ${heads} KV heads x ${headDim} x 2 bytes = ${bytesPerToken} bytes` +
        (gpus === 1 ? "" : " on each GPU"),
    ),
    step("tokens", `${gib(placed.cacheBytes)} / ${bytesPerToken} = ${placed.cacheTokens}`),
    step(
      "sequences",
      `${placed.cacheTokens} x ${CACHE_MARGIN} / ${contextTokens} = ${placed.sequences} of the ` +
        "whole context; a tenth is kept back, as predictions were up to 8 % too high",
    ),
  ];
}

const CALIBRATED = "calibrated on startup logs: docs/models.md";

function sumOf({ fixed }: Placed): number {
  return fixed.weights + fixed.activations + fixed.cudaGraphs + fixed.framework;
}

function loadSteps({ engine }: Placed, gpu: Gpu): PlanStep[] {
  const { quantisation } = engine;
  if (!isFp8(quantisation.name)) return [];
  const atLoad = quantisation.isAtLoad
    ? [step("at load", "bf16 weights, quantised as they come: they need room whole until then")]
    : [];
  const widened =
    gpu.fp8FlopsPerSecond === null
      ? [step("fp8", `${gpu.title} computes no fp8: weights take half the room, at bf16's speed`)]
      : [];
  return [...atLoad, ...widened];
}

export interface Workload {
  readonly sequences: number;
  /** Where a sequence stands on average. */
  readonly standing: number;
}

export function speedSteps(
  speed: Speed,
  plan: Pick<
    ModelPlan,
    | "decode_tokens_per_second"
    | "decode_tokens_per_second_alone"
    | "prefill_tokens_per_second"
    | "context_tokens"
  >,
  { sequences, standing }: Workload,
  gpu: Gpu,
): PlanStep[] {
  const alone = speed.step(1, standing) * 1000;
  const all = speed.step(sequences, standing) * 1000;
  const efficiency = `${BANDWIDTH_EFFICIENCY} of the bandwidth is reached`;
  return [
    step(
      "a token alone",
      `${(speed.readBytes / 1e9).toFixed(2)} GB to read at ${(speed.bandwidth / 1e9).toFixed(0)} ` +
        `GB/s, its cache at ${standing} tokens, its computing, and the host's ` +
        `${HOST_SECONDS * 1e6} us: ${alone.toFixed(2)} ms = ` +
        `${plan.decode_tokens_per_second_alone.toFixed(1)} tokens/s`,
      `${gpu.source}; ${efficiency}: docs/models.md`,
    ),
    step(
      `${sequences} at once`,
      `${all.toFixed(2)} ms a step: ${sequences} / ${(all / 1000).toFixed(5)} s = ` +
        `${plan.decode_tokens_per_second.toFixed(1)} tokens/s together`,
    ),
    step(
      "input",
      `${(speed.flopsPerSecond / 1e12).toFixed(0)} TFLOP/s kept busy / ` +
        `(${(speed.flopsPerToken / 1e9).toFixed(1)} GFLOP a token, and attention in a prompt of ` +
        `${standing}) = ${plan.prefill_tokens_per_second.toFixed(0)} tokens/s`,
      "calibrated on published benchmarks: docs/models.md",
    ),
  ];
}

export function priceSteps(price: NonNullable<ModelPlan["price"]>, rate: HourRate): PlanStep[] {
  const { terms, currency } = price;
  const { gpus, energy, utilisation } = terms;
  const power =
    energy === undefined ? "" : ` + ${energy.watts_per_gpu} W x ${energy.price_per_kwh} per kWh`;
  const sum = (kind: string, speed: string, nanos: string) =>
    step(
      `${kind} price`,
      `(${terms.rate_per_gpu_hour} ${currency}${power}) x ${gpus} GPU${gpus === 1 ? "" : "s"} x ` +
        `10^6 / (3600 s x ${speed} tokens/s x ${utilisation} utilisation) = ` +
        `${formatNanos(BigInt(nanos), currency)} a million`,
      rate.source,
    );
  return [
    sum("input", terms.input_tokens_per_second, price.input_nanos_per_million),
    sum("output", terms.output_tokens_per_second, price.output_nanos_per_million),
  ];
}

/** What was looked at before the layout that was taken, and what it lacked. */
export function choiceSteps(tried: readonly Fit[], taken: Fit, needs: Needs): PlanStep[] {
  const { gpu, gpuCount } = needs;
  const usable = gpu.memoryBytes * USABLE_SHARE;
  return [
    step(
      "GPUs",
      `${gpuCount} x ${gib(gpu.memoryBytes)}; ${USABLE_SHARE} of each is used: ${gib(usable)}`,
      gpu.source,
    ),
    ...tried.map((fit) =>
      step(`not ${layoutWords(fit)}`, `${gib(fit.missingBytes)} missing on each GPU`),
    ),
    ...taken.layout.engines.flatMap((engine) => {
      const fault = cutFault(engine, gpuCount);
      return fault === null ? [] : [step(`the cut of ${engine.card.name}`, fault, BLOCKS)];
    }),
    step("taken", layoutWords(taken), RULE),
  ];
}

const BLOCKS = "vLLM refuses to cut a block of quantised weights, which has one scale";

/** Why an engine is not cut by tensors over more of the machine's GPUs; null: no block forbids. */
export function cutFault({ card, quantisation, split }: Engine, gpuCount: number): string | null {
  const gpus = Math.min(gpuCount, GPUS_MAX);
  const fault = blockFault(card.architecture, quantisation, { tensor: split.tensor, gpus });
  return fault === null ? null : `${quantisation.name}: ${fault}`;
}

const RULE =
  "both awake before taking turns; no pipeline where tensors can be cut; 8 or 16 bits before 4; " +
  "room for two whole contexts; then the more exact weights, more sequences, speed";

export function layoutWords({ layout, placed }: Fit): string {
  const names = placed.map(({ engine, gpus }) => `${engine.quantisation.name} on ${gpus.length}`);
  return `${layout.residency}, ${names.join(" and ")} GPU${totalGpus(placed) === 2 ? "" : "s"}`;
}

function totalGpus(placed: readonly Placed[]): number {
  return placed.reduce((sum, { gpus }) => sum + gpus.length, 0);
}

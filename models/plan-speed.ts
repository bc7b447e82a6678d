/**
 * How fast an engine is: a roofline with stated efficiencies. Pure.
 *
 *     a step of B sequences = weights it reads / (bandwidth x EB)
 *                 + B x (cache it reads / (bandwidth x EB) + 2 x parameters / (FLOPS x EC) + host)
 *                 + what its GPUs tell each other
 *     input                 = FLOPS x EC / (2 x parameters + attention) tokens a second
 *
 * Reading, computing and the host's work are added, not overlapped: that is what the published
 * times per token follow from 1 to 50 sequences. The constants were chosen together, for the least
 * of the largest errors, on the six figures that `test/models/published/` marks as calibrated; the
 * others were held out, and docs/models.md has every error.
 */
import type { ModelCard, Quantisation } from "./card.ts";
import type { Gpu } from "./gpu.ts";
import { cacheBytesPerToken, embeddingParameters, type Split } from "./plan-memory.ts";

/**
 * EB, of the bandwidth. Calibrated: Qwen2-7B alone on an A100-80, 11.76 ms a token (vLLM 0.10.1,
 * github.com/dennislee22/vLLM-benchmarking, test 4), which 0.6 would meet with no work of the host.
 */
export const BANDWIDTH_EFFICIENCY = 0.65;
/**
 * EC, of the dense FLOPS. Calibrated: Qwen3-14B on an H100, 32,000 tokens of input (GPUStack's
 * performance lab, vLLM 0.11); and Qwen3-8B on an A100, ShareGPT (the same lab, vLLM 0.9.2). GPUs
 * with the largest tensor cores keep less of them busy: they meet their limit of power.
 */
export const COMPUTE_EFFICIENCY = { large: 0.36, small: 0.6 };
/**
 * The host's, for each sequence of a step: vLLM schedules, samples and detokenises in Python.
 * Calibrated on bursts of a thousand short requests: Qwen3-14B on an H100 (the same lab, vLLM
 * 0.11), which has more of it, and Qwen3-8B on an A100 (vLLM 0.9.2), which has less.
 */
export const HOST_SECONDS = 50e-6;
const LARGE_FLOPS = 700e12;
/** Of fp8's doubled FLOPS: the same lab's fp8 over bf16 on an H100 is 1.15, not 2. */
const FP8_GAIN = 1.15;
/** Weights of few bits are widened first: 0.79 to 1.02 of bf16 in the same lab's table. */
const WIDENING = 0.95;
/** Two all-reduces a layer, each so long before its first byte. Assumed. */
const ALL_REDUCE_SECONDS = 15e-6;

export interface Speed {
  /** Of one step: seconds. */
  readonly step: (sequences: number, contextTokens: number) => number;
  /** Input tokens a second, of prompts of so many tokens. */
  readonly prefill: (promptTokens: number) => number;
  /** For the explanation. */
  readonly readBytes: number;
  readonly flopsPerToken: number;
  readonly flopsPerSecond: number;
  readonly bandwidth: number;
}

export function speedOf(
  card: ModelCard,
  quantisation: Quantisation,
  gpu: Gpu,
  split: Split,
): Speed {
  const { architecture } = card;
  const { layers, hidden, heads, headDim } = architecture;
  const gpus = split.tensor * split.pipeline;
  const lookup = architecture.hasTiedEmbeddings ? 0 : embeddingParameters(architecture);
  const readBytes = quantisation.weightBytes - 2 * lookup;
  const flopsPerToken = 2 * (card.parameters.active - lookup);
  // Stages of a pipeline work one after another on a step, so that only a tensor split is faster.
  const bandwidth = gpu.bandwidthBytesPerSecond * split.tensor * BANDWIDTH_EFFICIENCY;
  const flopsPerSecond = computeRate(gpu, quantisation) * split.tensor;
  const cacheBytes = cacheBytesPerToken(architecture, split) * gpus;
  const told = tellingSeconds(layers, hidden, gpu, split);
  return { step, prefill, readBytes, flopsPerToken, flopsPerSecond, bandwidth };

  function step(sequences: number, contextTokens: number): number {
    const weights = (readBytes * shareRead(card, sequences)) / bandwidth;
    const cache = (cacheBytes * contextTokens) / bandwidth;
    const each = cache + flopsPerToken / flopsPerSecond + HOST_SECONDS;
    return weights + sequences * each + told(sequences);
  }

  function prefill(promptTokens: number): number {
    // Each token looks at half of the prompt on average: scores, and what they weigh.
    const attention = 2 * layers * heads * headDim * promptTokens;
    const seconds = (flopsPerToken + attention) / flopsPerSecond;
    const chunk = 2048;
    // The stages of a pipeline each have a chunk of their own, once it is full.
    return split.pipeline / (seconds + (told(chunk) / chunk) * split.pipeline);
  }
}

/** Of a mixture of experts, those that so many tokens do not happen to need stay unread. */
function shareRead({ parameters }: ModelCard, tokens: number): number {
  return 1 - (1 - parameters.active / parameters.total) ** tokens;
}

/** What of the GPU's FLOPS is kept busy, by what the weights are. */
function computeRate(gpu: Gpu, { name }: Quantisation): number {
  const isLarge = gpu.bf16FlopsPerSecond >= LARGE_FLOPS;
  const kept = isLarge ? COMPUTE_EFFICIENCY.large : COMPUTE_EFFICIENCY.small;
  const rate = gpu.bf16FlopsPerSecond * kept;
  if (!isNarrow(name)) return rate;
  return isFp8(name) && gpu.fp8FlopsPerSecond !== null ? rate * FP8_GAIN : rate * WIDENING;
}

export function isFp8(quantisation: string): boolean {
  return quantisation.includes("fp8");
}

function isNarrow(quantisation: string): boolean {
  return quantisation !== "bf16" && quantisation !== "fp16";
}

/** Seconds that a step of so many tokens spends on all-reduces, and on handing over a stage. */
function tellingSeconds(
  layers: number,
  hidden: number,
  { linkBytesPerSecond }: Gpu,
  { tensor, pipeline }: Split,
): (tokens: number) => number {
  const bytesPerToken = 2 * hidden;
  const ring = (2 * (tensor - 1)) / tensor;
  return (tokens) => {
    const bytes = bytesPerToken * tokens;
    const reduces =
      tensor === 1 ? 0 : 2 * layers * (ALL_REDUCE_SECONDS + (bytes * ring) / linkBytesPerSecond);
    return reduces + (pipeline - 1) * (ALL_REDUCE_SECONDS + bytes / linkBytesPerSecond);
  };
}

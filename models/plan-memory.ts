/**
 * What an engine takes of each GPU's memory, in bytes. Pure.
 *
 *     cache = GPU x gpu_memory_utilization - weights - activations - CUDA graphs - framework
 *     a token of the cache = 2 x layers x KV heads x head size x 2 bytes (fp16 or bf16)
 *
 * The three that no file states are vLLM's (0.21 and later, which counts its graphs): their
 * constants are below, each with what it was calibrated on. `test/models/published/` compares the
 * whole with startup logs that others published; docs/models.md has the table.
 */
import type { Architecture, ModelCard, Quantisation } from "./card.ts";

export const GIB = 2 ** 30;
/** vLLM's --block-size: the cache is given out in blocks of so many tokens. */
export const BLOCK_TOKENS = 16;
/** --max-num-batched-tokens, as `vllm-command.ts` says it: what one step computes at most. */
export const BATCHED_TOKENS = 4096;
/** --max-num-seqs at most. */
export const SEQUENCES_MAX = 256;

const BYTES_PER_VALUE = 2;
/** Of a logit while a token is drawn: once as bf16, twice as a 32-bit float. */
const BYTES_PER_LOGIT = 10;
/**
 * CUDA's context, compiled kernels, workspaces. Calibrated: 0.3 to 0.6 GiB beside the weights and
 * the activations in logs of vLLM 0.21 to 0.28 (LMCache#3430 and others).
 */
const FRAMEWORK_BYTES = 0.5 * GIB;
/** NCCL's buffers, from two GPUs on: 0.25 to 0.3 GiB in vLLM's logs (vllm#13061, #15815). */
const NCCL_BYTES = 0.4 * GIB;
/** Calibrated: 0.37 GiB of 28 layers, 0.52 of 36 and 0.53 of 32 in vLLM's logs. */
const GRAPH_BYTES_PER_LAYER = 0.015 * GIB;

/** How a model is cut: `tensor` GPUs hold a part of each layer, `pipeline` stages some layers. */
export interface Split {
  readonly tensor: number;
  readonly pipeline: number;
}

export interface EngineLimits {
  readonly batchedTokens: number;
  readonly sequences: number;
}

/** Of an engine on the fullest of its GPUs; the cache takes what is left of its share. */
export interface FixedMemory {
  readonly weights: number;
  readonly activations: number;
  readonly cudaGraphs: number;
  readonly framework: number;
}

/** @param overheadBytes in place of the last three, where a startup log of this engine tells it. */
export function fixedMemory(
  card: ModelCard,
  quantisation: Quantisation,
  split: Split,
  { limits = PLANNED_LIMITS, overheadBytes }: FixedOptions = {},
): FixedMemory {
  const weights = weightBytesPerGpu(card, quantisation, split);
  if (overheadBytes !== undefined) {
    return { weights, activations: 0, cudaGraphs: 0, framework: overheadBytes };
  }
  const layers = Math.ceil(card.architecture.layers / split.pipeline);
  return {
    weights,
    activations: activationBytes(card.architecture, split, limits),
    cudaGraphs: Math.ceil(layers * GRAPH_BYTES_PER_LAYER),
    framework: FRAMEWORK_BYTES + (isSplit(split) ? NCCL_BYTES : 0),
  };
}

interface FixedOptions {
  readonly limits?: EngineLimits;
  readonly overheadBytes?: number | undefined;
}
const PLANNED_LIMITS: EngineLimits = { batchedTokens: BATCHED_TOKENS, sequences: SEQUENCES_MAX };

export function fixedTotal({ weights, activations, cudaGraphs, framework }: FixedMemory): number {
  return weights + activations + cudaGraphs + framework;
}

/**
 * Tensor parallelism cuts every matrix and the embeddings; each GPU has all norms, and where there
 * are more GPUs than KV heads, a whole head's projections.
 */
export function weightBytesPerGpu(
  { architecture, parameters }: ModelCard,
  { weightBytes }: Quantisation,
  { tensor, pipeline }: Split,
): number {
  const { layers, hidden, headDim, kvHeads } = architecture;
  const norms = (2 * layers + 1) * hidden * BYTES_PER_VALUE;
  const bytesPerParameter = weightBytes / parameters.total;
  const kvProjections = 2 * layers * hidden * headDim * bytesPerParameter;
  const rest = weightBytes - norms - kvProjections * kvHeads;
  const whole = rest / tensor + kvProjections * kvHeadsPerGpu(kvHeads, tensor) + norms;
  if (pipeline === 1) return Math.ceil(whole);
  // The last stage has the head beside its layers; the first has the embedding.
  const embedding = (embeddingParameters(architecture) * BYTES_PER_VALUE) / tensor;
  const ends = architecture.hasTiedEmbeddings ? embedding : 2 * embedding;
  return Math.ceil(((whole - ends) * Math.ceil(layers / pipeline)) / layers + embedding);
}

/** Of the input embedding; its lookup reads a row, so a step neither reads nor computes it. */
export function embeddingParameters({ vocabulary, hidden }: Architecture): number {
  return vocabulary * hidden;
}

/** Of a token, on each of the engine's GPUs. */
export function cacheBytesPerToken(
  { layers, kvHeads, headDim }: Architecture,
  { tensor, pipeline }: Split,
): number {
  const layersPerGpu = Math.ceil(layers / pipeline);
  return 2 * layersPerGpu * kvHeadsPerGpu(kvHeads, tensor) * headDim * BYTES_PER_VALUE;
}

/** Whole blocks that `bytes` of each GPU hold, in tokens. */
export function cacheTokens(bytes: number, bytesPerToken: number): number {
  return Math.max(0, Math.floor(bytes / (bytesPerToken * BLOCK_TOKENS))) * BLOCK_TOKENS;
}

/**
 * The peak of vLLM's profile run: the larger of a feed-forward layer over a full batch and of the
 * logits over all sequences; they are not there at one time.
 */
function activationBytes(
  { hidden, intermediate, vocabulary, experts }: Architecture,
  { tensor }: Split,
  { batchedTokens, sequences }: EngineLimits,
): number {
  // Gate and up, their product; the layer's input, residual, attention and output.
  const routed = experts === null ? 0 : 2 * experts.perToken * hidden;
  const values = (3 * intermediate) / tensor + 4 * hidden + routed;
  const layer = batchedTokens * values * BYTES_PER_VALUE;
  return Math.ceil(Math.max(layer, sequences * vocabulary * BYTES_PER_LOGIT));
}

function kvHeadsPerGpu(kvHeads: number, tensor: number): number {
  return Math.max(1, kvHeads / tensor);
}

function isSplit({ tensor, pipeline }: Split): boolean {
  return tensor * pipeline > 1;
}

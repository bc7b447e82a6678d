/**
 * Figures that others published: caches in vLLM's startup logs, speeds in benchmarks, prices. Each
 * with where it is from and whether a constant of the planner was calibrated on it. Figures are
 * theirs, to their last digit; what is not in the source is not here.
 */
import type { ModelCard } from "../../../models/card.ts";
import type { EngineLimits } from "../../../models/plan-memory.ts";
import {
  LLAMA3_8B,
  QWEN2_7B,
  QWEN3_8B,
  QWEN3_14B,
  QWEN3_32B,
  QWEN25_32B,
  R1_14B,
} from "./models.ts";

export interface PublishedCache {
  what: string;
  engine: string;
  card: ModelCard;
  weights: "bf16" | "awq-int4";
  /** As the log has it. */
  memoryGib: number;
  share: number;
  tensor: number;
  limits: EngineLimits;
  /** From 0.21 on, vLLM counts its graphs into its share. */
  countsGraphs: boolean;
  tokens: number;
  /** `other`: of an engine that measured its profile run in another way. */
  use: "calibrated" | "held out" | "other";
  source: string;
}

const SMALL: EngineLimits = { batchedTokens: 2048, sequences: 256 };
const LARGE: EngineLimits = { batchedTokens: 8192, sequences: 1024 };
const LEE = "github.com/dennislee22/vLLM-benchmarking";
const LAB = "GPUStack's performance lab";

export const CACHES: readonly PublishedCache[] = [
  {
    ...{ what: "Qwen3-8B, RTX A5000", engine: "0.21", card: QWEN3_8B, weights: "bf16" },
    ...{ memoryGib: 23.56, share: 0.9764, tensor: 1, limits: SMALL, countsGraphs: true },
    ...{ tokens: 46_368, use: "calibrated", source: "LMCache#3430" },
  },
  {
    ...{ what: "Qwen2.5-7B, 44.4 GiB", engine: "0.22", card: QWEN2_7B, weights: "bf16" },
    ...{ memoryGib: 44.4, share: 0.95, tensor: 1, limits: SMALL, countsGraphs: true },
    ...{ tokens: 492_912, use: "held out", source: "a public repository's log of 3 September" },
  },
  {
    ...{ what: "Qwen2-7B, a quarter A100", engine: "0.10", card: QWEN2_7B, weights: "bf16" },
    ...{ memoryGib: 79.15, share: 0.25, tensor: 1, limits: SMALL, countsGraphs: false },
    ...{ tokens: 93_872, use: "held out", source: `${LEE}, test 4` },
  },
  {
    ...{ what: "Qwen2-7B, half an A100", engine: "0.10", card: QWEN2_7B, weights: "bf16" },
    ...{ memoryGib: 79.15, share: 0.5, tensor: 1, limits: SMALL, countsGraphs: false },
    ...{ tokens: 464_848, use: "held out", source: `${LEE}, test 5` },
  },
  {
    ...{ what: "Qwen2-7B, halves of 2 A100", engine: "0.10", card: QWEN2_7B, weights: "bf16" },
    ...{ memoryGib: 79.15, share: 0.5, tensor: 2, limits: SMALL, countsGraphs: false },
    // 31.83 GiB on each GPU, as the log's title says.
    ...{ tokens: 1_192_000, use: "held out", source: `${LEE}, test 3` },
  },
  {
    ...{ what: "R1-Distill-14B, 2 x 4090", engine: "0.7", card: R1_14B, weights: "bf16" },
    ...{ memoryGib: 23.55, share: 0.98, tensor: 2, limits: SMALL, countsGraphs: false },
    ...{ tokens: 81_536, use: "calibrated", source: "vllm#13061 (NCCL alone)" },
  },
  {
    ...{ what: "Qwen2.5-32B, 2 x L40S", engine: "0.7", card: QWEN25_32B, weights: "bf16" },
    ...{ memoryGib: 44.42, share: 0.9, tensor: 2, countsGraphs: false },
    limits: { batchedTokens: 10_000, sequences: 256 },
    ...{ tokens: 63_152, use: "held out", source: "vllm#15815" },
  },
  {
    ...{ what: "Llama-3-8B, 79.22 GiB", engine: "0.6", card: LLAMA3_8B, weights: "bf16" },
    ...{ memoryGib: 79.22, share: 0.9, tensor: 1, countsGraphs: false },
    limits: { batchedTokens: 8192, sequences: 256 },
    // 53.29 GiB of cache.
    ...{ tokens: 436_544, use: "held out", source: "vllm#10511" },
  },
  {
    ...{ what: "Llama-3.1-8B, L40S", engine: "0.8", card: LLAMA3_8B, weights: "bf16" },
    ...{ memoryGib: 44.42, share: 0.9, tensor: 1, limits: SMALL, countsGraphs: false },
    ...{ tokens: 158_656, use: "other", source: "vllm#17122" },
  },
  {
    ...{ what: "Qwen3-32B, H100", engine: "not said", card: QWEN3_32B, weights: "bf16" },
    ...{ memoryGib: 79.1, share: 0.9, tensor: 1, limits: LARGE, countsGraphs: false },
    ...{ tokens: 17_000, use: "other", source: "aimultiple.com/llm-quantization" },
  },
  {
    ...{ what: "Qwen3-32B int4, H100", engine: "not said", card: QWEN3_32B, weights: "awq-int4" },
    ...{ memoryGib: 79.1, share: 0.9, tensor: 1, limits: LARGE, countsGraphs: false },
    ...{ tokens: 193_000, use: "other", source: "aimultiple.com/llm-quantization" },
  },
];

/** Two of one engine and one kind of GPU: what the first says of the overhead, the second shows. */
export const CALIBRATIONS: readonly (readonly [string, string])[] = [
  ["Qwen2-7B, a quarter A100", "Qwen2-7B, half an A100"],
  ["Qwen3-32B, H100", "Qwen3-32B int4, H100"],
];

export interface PublishedSpeed {
  what: string;
  card: ModelCard;
  weights: "bf16" | "fp8" | "awq-int4";
  gpu: string;
  /** Tokens of a request; output is what was made, not what was asked for. */
  input: number;
  output: number;
  /** At once at most; the cache may hold fewer. */
  concurrency: number;
  limits: EngineLimits;
  /** `total`: tokens in and out a second; `step`: milliseconds of an output token. */
  unit: "total" | "step";
  figure: number;
  use: "calibrated" | "held out";
  source: string;
}

const H100 = { gpu: "h100", limits: LARGE } as const;
const A100 = { gpu: "a100-80", limits: SMALL } as const;
const held = { use: "held out" } as const;

/** Benchmarks of the lab: how long requests were, how many at once. */
const SHAREGPT = { input: 217, output: 201, concurrency: 1000, unit: "total" } as const;
const MEDIUM = { input: 1996, output: 100, concurrency: 500, unit: "total" } as const;
const LONG = { input: 3996, output: 200, concurrency: 500, unit: "total" } as const;
const STEP = { input: 1024, output: 1024, unit: "step" } as const;
const SHORT_STEP = { input: 233, output: 221, unit: "step" } as const;
const very = (output: number) =>
  ({ input: 32_000, output, concurrency: 100, unit: "total" }) as const;

const LAB_11 = { weights: "bf16", source: `${LAB}, vLLM 0.11` } as const;
const LAB_9 = { source: `${LAB}, quantisation, vLLM 0.9.2` } as const;
const LEE_10 = { card: QWEN2_7B, weights: "bf16", source: `${LEE}, test 4` } as const;
const LATENCY = { card: QWEN3_8B, weights: "bf16", source: `${LAB}, latency, vLLM 0.11` } as const;

export const SPEEDS: readonly PublishedSpeed[] = [
  {
    what: "7B alone, A100",
    ...A100,
    ...STEP,
    ...LEE_10,
    concurrency: 1,
    figure: 11.76,
    use: "calibrated",
  },
  {
    what: "7B, 10 at once, A100",
    ...A100,
    ...STEP,
    ...LEE_10,
    concurrency: 10,
    figure: 13.46,
    ...held,
  },
  {
    what: "7B, 20 at once, A100",
    ...A100,
    ...STEP,
    ...LEE_10,
    concurrency: 20,
    figure: 14.36,
    ...held,
  },
  {
    what: "7B, 30 at once, A100",
    ...A100,
    ...STEP,
    ...LEE_10,
    concurrency: 30,
    figure: 15.19,
    ...held,
  },
  {
    what: "7B, 50 at once, A100",
    ...A100,
    ...STEP,
    ...LEE_10,
    concurrency: 50,
    figure: 18.46,
    ...held,
  },
  {
    what: "8B alone, H100",
    ...H100,
    ...SHORT_STEP,
    ...LATENCY,
    concurrency: 1,
    figure: 7.28,
    ...held,
  },
  {
    what: "8B, 4 at once, H100",
    ...H100,
    ...SHORT_STEP,
    ...LATENCY,
    concurrency: 4,
    figure: 7.38,
    ...held,
  },
  {
    what: "8B, 8 at once, H100",
    ...H100,
    ...SHORT_STEP,
    ...LATENCY,
    concurrency: 8,
    figure: 7.71,
    ...held,
  },
  {
    what: "14B, 32000/100, H100",
    card: QWEN3_14B,
    ...H100,
    ...LAB_11,
    ...very(98.55),
    figure: 8298.56,
    use: "calibrated",
  },
  {
    what: "14B, 4000/200, H100",
    card: QWEN3_14B,
    ...H100,
    ...LAB_11,
    ...LONG,
    figure: 9218.03,
    ...held,
  },
  {
    what: "14B, 2000/100, H100",
    card: QWEN3_14B,
    ...H100,
    ...LAB_11,
    ...MEDIUM,
    figure: 10597.19,
    ...held,
  },
  {
    what: "14B, ShareGPT, H100",
    card: QWEN3_14B,
    ...H100,
    ...LAB_11,
    ...SHAREGPT,
    figure: 6595.66,
    use: "calibrated",
  },
  {
    what: "32B, 32000/100, H100",
    card: QWEN3_32B,
    ...H100,
    ...LAB_11,
    ...very(76.81),
    figure: 2771.81,
    ...held,
  },
  {
    what: "32B, 4000/200, H100",
    card: QWEN3_32B,
    ...H100,
    ...LAB_11,
    ...LONG,
    figure: 2148.69,
    ...held,
  },
  {
    what: "32B, 2000/100, H100",
    card: QWEN3_32B,
    ...H100,
    ...LAB_11,
    ...MEDIUM,
    figure: 3195.3,
    ...held,
  },
  {
    what: "32B, ShareGPT, H100",
    card: QWEN3_32B,
    ...H100,
    ...LAB_11,
    ...SHAREGPT,
    figure: 2352.82,
    ...held,
  },
  {
    what: "14B, 32000/100, A100",
    card: QWEN3_14B,
    ...A100,
    ...LAB_11,
    ...very(98.91),
    figure: 4430.14,
    ...held,
  },
  {
    what: "14B, 4000/200, A100",
    card: QWEN3_14B,
    ...A100,
    ...LAB_11,
    ...LONG,
    figure: 5153.42,
    ...held,
  },
  {
    what: "14B, 2000/100, A100",
    card: QWEN3_14B,
    ...A100,
    ...LAB_11,
    ...MEDIUM,
    figure: 5967.13,
    ...held,
  },
  {
    what: "14B, ShareGPT, A100",
    card: QWEN3_14B,
    ...A100,
    ...LAB_11,
    ...SHAREGPT,
    figure: 3922.41,
    ...held,
  },
  {
    what: "32B, 32000/100, A100",
    card: QWEN3_32B,
    ...A100,
    ...LAB_11,
    ...very(76.99),
    figure: 1798.45,
    ...held,
  },
  {
    what: "32B, 4000/200, A100",
    card: QWEN3_32B,
    ...A100,
    ...LAB_11,
    ...LONG,
    figure: 1837.08,
    ...held,
  },
  {
    what: "32B, 2000/100, A100",
    card: QWEN3_32B,
    ...A100,
    ...LAB_11,
    ...MEDIUM,
    figure: 2521.38,
    ...held,
  },
  {
    what: "32B, ShareGPT, A100",
    card: QWEN3_32B,
    ...A100,
    ...LAB_11,
    ...SHAREGPT,
    figure: 1730.98,
    ...held,
  },
  {
    what: "8B, ShareGPT, A100",
    card: QWEN3_8B,
    weights: "bf16",
    ...A100,
    ...LAB_9,
    ...SHAREGPT,
    figure: 10338.25,
    use: "calibrated",
  },
  {
    what: "8B, ShareGPT, H100",
    card: QWEN3_8B,
    weights: "bf16",
    ...H100,
    ...LAB_9,
    ...SHAREGPT,
    figure: 13305.38,
    ...held,
  },
  {
    what: "8B fp8, ShareGPT, H100",
    card: QWEN3_8B,
    weights: "fp8",
    ...H100,
    ...LAB_9,
    ...SHAREGPT,
    figure: 15275.64,
    use: "calibrated",
  },
  {
    what: "8B awq, ShareGPT, A100",
    card: QWEN3_8B,
    weights: "awq-int4",
    ...A100,
    ...LAB_9,
    ...SHAREGPT,
    figure: 9611.61,
    use: "calibrated",
  },
  {
    what: "8B, ShareGPT, RTX 4090",
    card: QWEN3_8B,
    weights: "bf16",
    gpu: "rtx-4090",
    limits: SMALL,
    ...LAB_9,
    ...SHAREGPT,
    figure: 3869.3,
    ...held,
  },
  {
    what: "8B awq, ShareGPT, RTX 4090",
    card: QWEN3_8B,
    weights: "awq-int4",
    gpu: "rtx-4090",
    limits: SMALL,
    ...LAB_9,
    ...SHAREGPT,
    figure: 5653.4,
    ...held,
  },
];

export interface PublishedPrice {
  what: string;
  gpus: number;
  perGpuHour: string;
  tokensPerSecond: string;
  utilisation: string;
  /** Of a million tokens, in USD. */
  figure: number;
  source: string;
}

const GMI = "gmicloud.ai, cost per million tokens, 28 May 2026";
const LEARN = "kshirol-dev.github.io/learnAI, inference infrastructure";

export const PRICES: readonly PublishedPrice[] = [
  {
    what: "70B fp8, 1 x H100",
    gpus: 1,
    perGpuHour: "2.00",
    tokensPerSecond: "85",
    utilisation: "1",
    figure: 6.54,
    source: GMI,
  },
  {
    what: "70B fp8, 1 x H200",
    gpus: 1,
    perGpuHour: "2.60",
    tokensPerSecond: "140",
    utilisation: "1",
    figure: 5.16,
    source: GMI,
  },
  {
    what: "72B int4, 1 x H100",
    gpus: 1,
    perGpuHour: "2.00",
    tokensPerSecond: "120",
    utilisation: "1",
    figure: 4.63,
    source: GMI,
  },
  {
    what: "7B fp8, 1 x H100",
    gpus: 1,
    perGpuHour: "2.00",
    tokensPerSecond: "400",
    utilisation: "1",
    figure: 1.39,
    source: GMI,
  },
  {
    what: "70B fp8, 4 x H100",
    gpus: 4,
    perGpuHour: "2.50",
    tokensPerSecond: "3400",
    utilisation: "1",
    figure: 0.82,
    source: LEARN,
  },
  {
    what: "70B fp8, 4 x H100, busy 0.3",
    gpus: 4,
    perGpuHour: "1.60",
    tokensPerSecond: "3400",
    utilisation: "0.3",
    figure: 1.72,
    source: LEARN,
  },
];

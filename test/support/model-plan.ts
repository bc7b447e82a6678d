/** A card and a plan of a pair, for tests of what is rendered from them. */
import type { ModelCard } from "../../models/card.ts";
import type { ModelPlan, PairPlan } from "../../orchestrator/contract/models.ts";

const GIB = 1024 ** 3;

export const CODER_CARD: ModelCard = {
  name: "qwen2.5-coder-14b-instruct",
  title: "Qwen2.5-Coder 14B Instruct",
  licence: { id: "apache-2.0", url: "https://hub.test/licence", needsAcceptance: false },
  parameters: { total: 14_770_033_664, active: 14_770_033_664 },
  architecture: {
    layers: 48,
    hidden: 5120,
    intermediate: 13_824,
    heads: 40,
    kvHeads: 8,
    headDim: 128,
    vocabulary: 152_064,
    contextTokens: 32_768,
    dtype: "bf16",
    hasTiedEmbeddings: false,
    experts: null,
  },
  quantisations: [
    {
      name: "bf16",
      repository: "Qwen/Qwen2.5-Coder-14B-Instruct",
      revision: "b693088367af1e4b88711d4038d269733023310d",
      isAtLoad: false,
      weightBytes: 29_540_067_328,
    },
    {
      name: "fp8",
      repository: "Qwen/Qwen2.5-Coder-14B-Instruct",
      revision: "b693088367af1e4b88711d4038d269733023310d",
      isAtLoad: true,
      weightBytes: 16_300_000_000,
    },
    {
      name: "awq-int4",
      repository: "Qwen/Qwen2.5-Coder-14B-Instruct-AWQ",
      revision: null,
      isAtLoad: false,
      weightBytes: 9_990_000_000,
    },
  ],
  callsTools: true,
  toolParser: { name: "qwen25_coder", plugin: "qwen25_coder_tool_parser.py" },
  reasoningParser: null,
  chatTemplate: null,
  sampling: { temperature: 0.7, topP: 0.8, topK: 20, repetitionPenalty: 1.05 },
  contextTokens: 32_768,
  maxOutputTokens: 8192,
  source: "a test",
};

export const REASONER_CARD: ModelCard = {
  ...CODER_CARD,
  name: "deepseek-r1-distill-qwen-14b",
  title: "DeepSeek-R1-Distill-Qwen 14B",
  licence: { id: "mit", url: "https://hub.test/mit", needsAcceptance: false },
  quantisations: [
    {
      name: "bf16",
      repository: "deepseek-ai/DeepSeek-R1-Distill-Qwen-14B",
      revision: "1df8507178afcc1bef68cd8c393f61a886323761",
      isAtLoad: false,
      weightBytes: 29_540_067_328,
    },
  ],
  callsTools: false,
  toolParser: null,
  reasoningParser: "deepseek_r1",
  sampling: { temperature: 0.6, topP: 0.95, topK: null, repetitionPenalty: null },
  maxOutputTokens: 16_384,
};

export const CARDS: ReadonlyMap<string, ModelCard> = new Map(
  [CODER_CARD, REASONER_CARD].map((card) => [card.name, card]),
);

/** Of one model on one GPU. */
export function modelPlan(card: ModelCard, given: Partial<ModelPlan> = {}): ModelPlan {
  return {
    side: card.reasoningParser === null ? "normal" : "thinking",
    model: card.name,
    quantisation: "bf16",
    licence: {
      id: card.licence.id,
      url: card.licence.url,
      needs_acceptance: card.licence.needsAcceptance,
    },
    gpus: [0],
    tensor_parallel: 1,
    pipeline_parallel: 1,
    context_tokens: 32_768,
    memory: [{ part: "kv_cache", bytes: 40 * GIB }],
    gpu_memory_utilization: 0.92,
    kv_bytes_per_token: 196_608,
    kv_tokens: 218_453,
    max_sequences: 6,
    decode_tokens_per_second_alone: 70,
    decode_tokens_per_second: 400,
    prefill_tokens_per_second: 9000,
    price: null,
    steps: [],
    ...given,
  };
}

/** Both models, each on an H100 of its own. */
export function pairPlan(given: Partial<PairPlan> = {}): PairPlan {
  return {
    pair: "coder-14b",
    gpu: "h100",
    gpu_count: 2,
    gpu_memory_bytes: 80 * GIB,
    concurrency: 8,
    fits: true,
    residency: "apart",
    models: [modelPlan(CODER_CARD), modelPlan(REASONER_CARD, { gpus: [1] })],
    swap_ms: null,
    steps: [],
    refusal: null,
    advice: [],
    ...given,
  };
}

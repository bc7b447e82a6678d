/** Models that others measured: their `config.json`, as cards that the planner takes. */
import type { ModelCard, Quantisation } from "../../../models/card.ts";

interface Shape {
  layers: number;
  hidden: number;
  intermediate: number;
  heads: number;
  kvHeads: number;
  vocabulary: number;
  parameters: number;
}

export const QWEN2_7B = card("Qwen2-7B", {
  ...{ layers: 28, hidden: 3584, intermediate: 18944, heads: 28, kvHeads: 4 },
  ...{ vocabulary: 152_064, parameters: 7_615_616_512 },
});
export const QWEN25_32B = card("Qwen2.5-32B", {
  ...{ layers: 64, hidden: 5120, intermediate: 27648, heads: 40, kvHeads: 8 },
  ...{ vocabulary: 152_064, parameters: 32_763_876_352 },
});
export const R1_14B = card("DeepSeek-R1-Distill-Qwen-14B", {
  ...{ layers: 48, hidden: 5120, intermediate: 13824, heads: 40, kvHeads: 8 },
  ...{ vocabulary: 152_064, parameters: 14_770_033_664 },
});
export const QWEN3_8B = card("Qwen3-8B", {
  ...{ layers: 36, hidden: 4096, intermediate: 12288, heads: 32, kvHeads: 8 },
  ...{ vocabulary: 151_936, parameters: 8_190_735_360 },
});
export const QWEN3_14B = card("Qwen3-14B", {
  ...{ layers: 40, hidden: 5120, intermediate: 17408, heads: 40, kvHeads: 8 },
  ...{ vocabulary: 151_936, parameters: 14_768_307_200 },
});
export const QWEN3_32B = card("Qwen3-32B", {
  ...{ layers: 64, hidden: 5120, intermediate: 25600, heads: 64, kvHeads: 8 },
  ...{ vocabulary: 151_936, parameters: 32_762_123_264 },
});
export const LLAMA3_8B = card("Llama-3-8B", {
  ...{ layers: 32, hidden: 4096, intermediate: 14336, heads: 32, kvHeads: 8 },
  ...{ vocabulary: 128_256, parameters: 8_030_261_248 },
});

/** Of all but the embedding and the head, which stay in 16 bits. */
const BITS = { bf16: 16, fp8: 8, "awq-int4": 4 + 20 / 128 };

export function weightsOf(card: ModelCard, name: keyof typeof BITS): Quantisation {
  const { vocabulary, hidden } = card.architecture;
  const ends = 2 * vocabulary * hidden;
  const weightBytes = Math.round(ends * 2 + ((card.parameters.total - ends) * BITS[name]) / 8);
  return {
    name,
    repository: `published/${card.name}`,
    revision: null,
    isAtLoad: false,
    weightBytes,
  };
}

function card(name: string, { parameters, ...shape }: Shape): ModelCard {
  return {
    ...{ name, title: name, source: "config.json of its repository" },
    licence: { id: "apache-2.0", url: "https://example.com", needsAcceptance: false },
    parameters: { total: parameters, active: parameters },
    architecture: {
      ...{ ...shape, experts: null, headDim: 128, contextTokens: 131_072 },
      ...{ dtype: "bf16", hasTiedEmbeddings: false },
    },
    quantisations: [],
    ...{ callsTools: false, toolParser: null, reasoningParser: null, chatTemplate: null },
    sampling: { temperature: 0.7, topP: 0.8, topK: null, repetitionPenalty: null },
    ...{ contextTokens: 32_768, maxOutputTokens: 8_192 },
  };
}

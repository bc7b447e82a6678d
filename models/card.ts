/**
 * What is known of a model whose weights we run: its card. The shape alone; `cards.ts` reads them
 * from `models/cards/*.yaml`, a file a model, named by what agents and the price book call it.
 */
export interface ModelCard {
  /** `qwen2.5-coder-14b-instruct`: the catalogue's, the price book's, what the engine serves. */
  readonly name: string;
  readonly title: string;
  readonly licence: Licence;
  readonly parameters: {
    /** In all; for a mixture of experts those that a token uses are `active`. */
    readonly total: number;
    readonly active: number;
  };
  readonly architecture: Architecture;
  /** The best first: the planner takes the first that fits. */
  readonly quantisations: readonly Quantisation[];
  /** It was taught to call tools, and its chat template shows it which there are. */
  readonly callsTools: boolean;
  /**
   * As vLLM names it; null: vLLM needs none. A model that calls no tools has one too: without a
   * parser vLLM refuses every call that carries tools, as agents' calls do while they plan.
   */
  readonly toolParser: {
    readonly name: string;
    /** A file of `models/serving/` for --tool-parser-plugin; null: vLLM has it. */
    readonly plugin: string | null;
  } | null;
  readonly reasoningParser: string | null;
  /** A file of `models/serving/`, in place of the one the weights bring; null: theirs. */
  readonly chatTemplate: string | null;
  readonly sampling: {
    readonly temperature: number;
    readonly topP: number;
    readonly topK: number | null;
    readonly repetitionPenalty: number | null;
  };
  /** What we serve it with, input and output together; at most the architecture's. */
  readonly contextTokens: number;
  readonly maxOutputTokens: number;
  /** Where these figures are from. */
  readonly source: string;
}

export interface Licence {
  /** SPDX, or the hub's own id: `apache-2.0`, `llama3.1`, `qwen-research`. */
  readonly id: string;
  readonly url: string;
  /** Its terms bind who uses it beyond attribution: a person accepts them before the first pull. */
  readonly needsAcceptance: boolean;
}

export interface Architecture {
  readonly layers: number;
  readonly hidden: number;
  /** Of the dense feed-forward; of a mixture of experts all that one token uses, together. */
  readonly intermediate: number;
  /** Null where it is dense: each token then reads all weights. */
  readonly experts: {
    readonly total: number;
    /** That one token uses. */
    readonly perToken: number;
  } | null;
  readonly heads: number;
  readonly kvHeads: number;
  readonly headDim: number;
  readonly vocabulary: number;
  readonly contextTokens: number;
  /** Of the weights as published. */
  readonly dtype: "bf16" | "fp16";
  readonly hasTiedEmbeddings: boolean;
}

export interface Quantisation {
  /** `bf16`, `fp8`, `awq-int4`, `gptq-int4`. */
  readonly name: string;
  /** At the hub; fp8 may be the bf16 weights, quantised as they are loaded (`isAtLoad`). */
  readonly repository: string;
  /** A commit, 40 hex digits; null: not known here, the first pull pins it. */
  readonly revision: string | null;
  readonly isAtLoad: boolean;
  /** Of all weight files, as loaded on one GPU. */
  readonly weightBytes: number;
  /**
   * Values in a row that share a scale: 128 of published fp8 and 4-bit weights; left out: a whole
   * row or matrix does. A cut over GPUs leaves blocks whole (`plan-cuts.ts`).
   */
  readonly block?: number;
}

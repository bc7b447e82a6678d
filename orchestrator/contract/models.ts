/** Models on own GPUs: what is asked of the planner, what it answers, and what is being served. */
import { type Static, Type } from "typebox";
import { Side } from "./agents.ts";
import { CurrencyCode, NanosText } from "./money.ts";
import { DecimalText, GpuTerms } from "./prices.ts";

const BYTES_MAX = Number.MAX_SAFE_INTEGER;
const Bytes = Type.Integer({ minimum: 0, maximum: BYTES_MAX });
const MaybeText = Type.Union([Type.String(), Type.Null()]);
const MaybeTime = Type.Union([Type.String({ format: "date-time" }), Type.Null()]);

export const GpuName = Type.String({
  pattern: "^[a-z0-9][a-z0-9-]{0,62}$",
  description: "A GPU of models/hardware.yaml: rtx-4090, l40s, a100-80, h100, h200, rtx-3090",
});

/** What a plan is asked for. `gpu_count` GPUs of one kind, in one machine. */
export type PlanRequest = Static<typeof PlanRequest>;
export const PlanRequest = Type.Object(
  {
    pair: Type.String({ minLength: 1, maxLength: 200 }),
    gpu: GpuName,
    gpu_count: Type.Integer({ minimum: 1, maximum: 64 }),
    /** Of one sequence, input and output together; absent: what each model's card serves. */
    context_tokens: Type.Optional(Type.Integer({ minimum: 1024, maximum: 10_000_000 })),
    /** Sequences at once, of each model; absent: 8. */
    concurrency: Type.Optional(Type.Integer({ minimum: 1, maximum: 4096 })),
    /** By side; absent: the best that fits. */
    quantisation: Type.Optional(
      Type.Object(
        {
          normal: Type.Optional(Type.String({ minLength: 1, maxLength: 32 })),
          thinking: Type.Optional(Type.String({ minLength: 1, maxLength: 32 })),
        },
        { additionalProperties: false },
      ),
    ),
    /**
     * Of each GPU, in place of what the planner counts for activations, graphs and the framework:
     * GPU x gpu_memory_utilization - weights - cache, of a startup log of this engine.
     */
    overhead_mib: Type.Optional(Type.Integer({ minimum: 0, maximum: 100_000 })),
    currency: Type.Optional(CurrencyCode),
    /** For the hour of one GPU; absent: what hardware.yaml says of it, with its source. */
    rate_per_gpu_hour: Type.Optional(DecimalText),
    /** Adds power, where the rate is without it. */
    price_per_kwh: Type.Optional(DecimalText),
    /** The share of the paid hours in which it serves; absent: 0.5. */
    utilisation: Type.Optional(DecimalText),
  },
  { additionalProperties: false },
);

/** A step of a calculation that a person can follow with a calculator. */
export type PlanStep = Static<typeof PlanStep>;
export const PlanStep = Type.Object(
  { what: Type.String(), calculation: Type.String(), source: MaybeText },
  { additionalProperties: false },
);

/** What takes memory on each GPU of a model, in bytes. `free` is what is left to others. */
export type MemoryPart = Static<typeof MemoryPart>;
export const MemoryPart = Type.Object(
  {
    part: Type.Union([
      Type.Literal("weights"),
      Type.Literal("kv_cache"),
      Type.Literal("activations"),
      Type.Literal("cuda_graphs"),
      Type.Literal("framework"),
    ]),
    bytes: Bytes,
  },
  { additionalProperties: false },
);

/** Of the weights, as the model's card says. */
export type PlanLicence = Static<typeof PlanLicence>;
export const PlanLicence = Type.Object(
  {
    id: Type.String({ examples: ["apache-2.0", "qwen-research"] }),
    url: Type.String(),
    /** `UpRequest.accepted_licences` must name it, unless it was accepted before. */
    needs_acceptance: Type.Boolean(),
  },
  { additionalProperties: false },
);

export type ModelPlan = Static<typeof ModelPlan>;
export const ModelPlan = Type.Object(
  {
    side: Side,
    /** The card's name: what agents and the price book call it. */
    model: Type.String(),
    quantisation: Type.String({ examples: ["bf16", "fp8", "awq-int4"] }),
    licence: PlanLicence,
    /** Which GPUs of the machine, from 0. */
    gpus: Type.Array(Type.Integer({ minimum: 0, maximum: 63 })),
    tensor_parallel: Type.Integer({ minimum: 1 }),
    pipeline_parallel: Type.Integer({ minimum: 1 }),
    context_tokens: Type.Integer({ minimum: 1 }),
    /** On the fullest GPU of it. */
    memory: Type.Array(MemoryPart),
    /** vLLM's --gpu-memory-utilization for this engine: a share of each GPU's whole memory. */
    gpu_memory_utilization: Type.Number({ minimum: 0, maximum: 1 }),
    kv_bytes_per_token: Type.Integer({ minimum: 1 }),
    /** That fit the cache of all its GPUs together; 0 where it does not fit. */
    kv_tokens: Type.Integer({ minimum: 0 }),
    /** Of `context_tokens` each. */
    max_sequences: Type.Integer({ minimum: 0 }),
    /** One sequence alone; all `concurrency` of them together; and input: predicted. */
    decode_tokens_per_second_alone: Type.Number({ minimum: 0 }),
    decode_tokens_per_second: Type.Number({ minimum: 0 }),
    prefill_tokens_per_second: Type.Number({ minimum: 0 }),
    price: Type.Union([
      Type.Object(
        {
          currency: CurrencyCode,
          terms: GpuTerms,
          input_nanos_per_million: NanosText,
          output_nanos_per_million: NanosText,
        },
        { additionalProperties: false },
      ),
      Type.Null(),
    ]),
    steps: Type.Array(PlanStep),
  },
  { additionalProperties: false },
);

/**
 * `together`: both engines share every GPU, awake; `apart`: each has GPUs of its own; `alternate`:
 * each fits alone, one sleeps while the other works; `none`: at least one does not fit.
 */
export type Residency = Static<typeof Residency>;
export const Residency = Type.Union([
  Type.Literal("together"),
  Type.Literal("apart"),
  Type.Literal("alternate"),
  Type.Literal("none"),
]);

export type PairPlan = Static<typeof PairPlan>;
export const PairPlan = Type.Object(
  {
    pair: Type.String(),
    gpu: GpuName,
    gpu_count: Type.Integer({ minimum: 1 }),
    gpu_memory_bytes: Bytes,
    concurrency: Type.Integer({ minimum: 1 }),
    fits: Type.Boolean(),
    residency: Residency,
    /** Normal, then thinking. */
    models: Type.Array(ModelPlan, { minItems: 2, maxItems: 2 }),
    /** From asleep to answering, where they alternate. */
    swap_ms: Type.Union([Type.Integer({ minimum: 0 }), Type.Null()]),
    steps: Type.Array(PlanStep),
    /** The number that failed, and the nearest changes that would work: nearest first. */
    refusal: MaybeText,
    advice: Type.Array(Type.String()),
  },
  { additionalProperties: false },
);

/** `sleeping` holds its weights outside the GPU; `failed` was given up, with its last lines. */
export type EngineState = Static<typeof EngineState>;
export const EngineState = Type.Union([
  Type.Literal("starting"),
  Type.Literal("ready"),
  Type.Literal("sleeping"),
  Type.Literal("draining"),
  Type.Literal("failed"),
]);

/** As last scraped from the engine's own `vllm:*` series; rates are over the last two scrapes. */
export type EngineMetrics = Static<typeof EngineMetrics>;
export const EngineMetrics = Type.Object(
  {
    at: Type.String({ format: "date-time" }),
    running: Type.Integer({ minimum: 0 }),
    waiting: Type.Integer({ minimum: 0 }),
    /** Of 0 to 1. */
    kv_cache_usage: Type.Number({ minimum: 0, maximum: 1 }),
    prompt_tokens_total: Type.Integer({ minimum: 0 }),
    generation_tokens_total: Type.Integer({ minimum: 0 }),
    prompt_tokens_per_second: Type.Number({ minimum: 0 }),
    generation_tokens_per_second: Type.Number({ minimum: 0 }),
  },
  { additionalProperties: false },
);

export type EngineStatus = Static<typeof EngineStatus>;
export const EngineStatus = Type.Object(
  {
    model: Type.String(),
    side: Side,
    state: EngineState,
    base_url: Type.String(),
    since: Type.String({ format: "date-time" }),
    /** Restarts after a crash, since it was brought up. */
    restarts: Type.Integer({ minimum: 0 }),
    detail: Type.String(),
    metrics: Type.Union([EngineMetrics, Type.Null()]),
  },
  { additionalProperties: false },
);

/** A pair that was brought up; `wanted: false` is being brought down. */
export type ServedPair = Static<typeof ServedPair>;
export const ServedPair = Type.Object(
  {
    pair: Type.String(),
    is_wanted: Type.Boolean(),
    /** Null where the engines were started by somebody else. */
    plan: Type.Union([PairPlan, Type.Null()]),
    engines: Type.Array(EngineStatus),
    /** Trials in line that want this pair. */
    queued_trials: Type.Integer({ minimum: 0 }),
    /** Until the next of them can start on it; null: nothing is known to tell by. */
    forecast_wait_ms: Type.Union([Type.Integer({ minimum: 0 }), Type.Null()]),
    brought_up_at: MaybeTime,
    /** Of what is brought up: what its operator should know before. */
    warnings: Type.Optional(Type.Array(Type.String())),
  },
  { additionalProperties: false },
);
export type ServedPairList = Static<typeof ServedPairList>;
export const ServedPairList = Type.Object(
  { served: Type.Array(ServedPair) },
  { additionalProperties: false },
);

/** `POST /models/up`: plans, and brings up what fits. With `is_dry_run` the plan is all. */
export type UpRequest = Static<typeof UpRequest>;
export const UpRequest = Type.Object(
  {
    plan: PlanRequest,
    is_dry_run: Type.Optional(Type.Boolean()),
    /** Licences whose terms are accepted by this request, by their id. */
    accepted_licences: Type.Optional(
      Type.Array(Type.String({ minLength: 1, maxLength: 100 }), { maxItems: 10 }),
    ),
  },
  { additionalProperties: false },
);

/** `POST /models/down`. Its engines end what they are answering first. */
export type DownRequest = Static<typeof DownRequest>;
export const DownRequest = Type.Object(
  { pair: Type.String({ minLength: 1, maxLength: 200 }) },
  { additionalProperties: false },
);

/** `GET /hardware`: the GPUs that a plan may be made for. */
export type HardwareList = Static<typeof HardwareList>;
export const HardwareList = Type.Object(
  {
    gpus: Type.Array(
      Type.Object(
        {
          name: GpuName,
          title: Type.String(),
          memory_bytes: Bytes,
          rate_per_hour: DecimalText,
          currency: CurrencyCode,
        },
        { additionalProperties: false },
      ),
    ),
    /** Those of this machine: what a plan is made for where nothing is said; null: none known. */
    own: Type.Optional(
      Type.Union([
        Type.Object(
          { gpu: GpuName, gpu_count: Type.Integer({ minimum: 1, maximum: 64 }) },
          { additionalProperties: false },
        ),
        Type.Null(),
      ]),
    ),
  },
  { additionalProperties: false },
);

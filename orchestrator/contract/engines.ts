/** What a trial got from each model server that answered its calls, and how loaded that was. */
import { type Static, Type } from "typebox";
import { Side } from "./agents.ts";

/** What an engine counts from its start on: tokens, and sums over calls beside how many. */
export const ENGINE_COUNTERS = [
  ...(["promptTokens", "cachedTokens", "generationTokens", "preemptions"] as const),
  ...(["queueMs", "queuedCalls", "firstTokenMs", "firstTokenCalls"] as const),
] as const;
/** `cachedTokens`: the part of the prompt tokens that lay in its cache. */
export type EngineCounters = Readonly<Record<(typeof ENGINE_COUNTERS)[number], number>>;

const Count = Type.Integer({ minimum: 0 });
const Share = Type.Number({ minimum: 0, maximum: 1 });
const Rate = Type.Number({ minimum: 0 });

/** Of the trial's own calls, as the gateway saw them. */
const OwnCalls = Type.Object(
  {
    call_count: Count,
    failed_count: Count,
    first_token_ms: Type.Union(
      [Type.Object({ median: Count, p95: Count }, { additionalProperties: false }), Type.Null()],
      { description: "Until a streamed answer's first piece; null where none was streamed" },
    ),
    output_tokens_per_second: Type.Union([Rate, Type.Null()], {
      description: "Of one answer, from its first piece to its last; null where none was streamed",
    }),
    input_tokens: Type.Integer({ minimum: 0, description: "With those that lay in a cache" }),
    cached_tokens: Count,
    output_tokens: Count,
    cached_share: Type.Union([Share, Type.Null()], {
      description: "Of its input; null without any",
    }),
    busy_ms: Type.Integer({ minimum: 0, description: "While at least one of its calls ran" }),
    gpu_ms: Type.Union([Count, Type.Null()], {
      description: "Time, times GPUs, as an own model's price counts it",
    }),
  },
  { additionalProperties: false },
);

/** Of the whole engine, whoever called it, over the samples that lie in the trial's calls. */
export type EngineLoad = Static<typeof EngineLoad>;
export const EngineLoad = Type.Object(
  {
    sample_count: Count,
    sampled_ms: Type.Integer({ minimum: 0, description: "Of busy_ms, what samples tell of" }),
    gpu_count: Type.Union([Count, Type.Null()], {
      description: "Null where the engine is not ours",
    }),
    running_mean: Rate,
    running_max: Count,
    waiting_mean: Rate,
    waiting_max: Count,
    kv_cache_usage_max: Share,
    preemptions: Count,
    prefill_tokens: Type.Integer({ minimum: 0, description: "Input that lay in no cache" }),
    cached_share: Type.Union([Share, Type.Null()], { description: "Of its input" }),
    output_tokens_per_second: Rate,
    queue_ms: Type.Union([Rate, Type.Null()], {
      description: "What a call waited in the engine's line, on the average",
    }),
    first_token_ms: Type.Union([Rate, Type.Null()], {
      description: "On the average, as the engine says",
    }),
    token_share: Type.Union([Share, Type.Null()], {
      description: "The trial's part of the engine's tokens",
    }),
    gpu_share: Type.Union([Share, Type.Null()], {
      description: "The trial's part of the GPUs' time, as its price counts it",
    }),
  },
  { additionalProperties: false },
);

const TimelinePoint = Type.Object(
  {
    from: Type.String({ format: "date-time" }),
    to: Type.String({ format: "date-time" }),
    running: Rate,
    waiting: Rate,
    kv_cache_usage: Share,
    output_tokens_per_second: Rate,
    own_running: Type.Number({ minimum: 0, description: "Calls of the trial, on the average" }),
  },
  { additionalProperties: false },
);

export type TrialEngine = Static<typeof TrialEngine>;
export const TrialEngine = Type.Object(
  {
    provider: Type.String({ description: "As in its calls" }),
    model: Type.String(),
    sides: Type.Array(Side),
    calls: OwnCalls,
    load: Type.Union([EngineLoad, Type.Null()], {
      description: "Null: no figures of it were scraped meanwhile",
    }),
    timeline: Type.Array(TimelinePoint, { maxItems: 120 }),
  },
  { additionalProperties: false },
);

export type TrialEngineList = Static<typeof TrialEngineList>;
export const TrialEngineList = Type.Object(
  { engines: Type.Array(TrialEngine) },
  { additionalProperties: false },
);

/** The calls of a trial: one row an LLM request that went through the gateway. */
import { type Static, Type } from "typebox";
import { Side, Wire } from "./agents.ts";
import { NanosText } from "./money.ts";
import { TokenUsage } from "./trials.ts";

const Attempt = Type.Object(
  {
    provider: Type.String(),
    status: Type.Union([Type.Integer(), Type.Null()]),
    error: Type.Union([Type.String(), Type.Null()]),
  },
  { additionalProperties: false },
);

export type Call = Static<typeof Call>;
export const Call = Type.Object(
  {
    id: Type.String(),
    trial_id: Type.String(),
    wire: Wire,
    side: Side,
    model: Type.String(),
    model_requested: Type.String(),
    provider: Type.String(),
    price_version: Type.String(),
    reserved_nanos: NanosText,
    cost_nanos: NanosText,
    usage: TokenUsage,
    long_cache_write_tokens: Type.Integer({
      minimum: 0,
      description: "The part of cache_write_tokens that is kept for an hour, at its own price",
    }),
    gpu_ms: Type.Union([Type.Integer({ minimum: 0 }), Type.Null()], {
      description: "Time, times GPUs, as an own model's price counts it",
    }),
    attempts: Type.Array(Attempt, {
      description: "Who was asked before the provider that answered, and why they did not",
    }),
    is_estimated: Type.Boolean({
      description: "The server sent no usage: counted by us, never under what passed",
    }),
    status: Type.Integer({ description: "The HTTP status the agent got" }),
    started_at: Type.String({ format: "date-time" }),
    first_byte_ms: Type.Union([Type.Integer({ minimum: 0 }), Type.Null()]),
    duration_ms: Type.Integer({ minimum: 0 }),
    error: Type.Union([Type.String(), Type.Null()]),
  },
  { additionalProperties: false },
);

export type CallList = Static<typeof CallList>;
export const CallList = Type.Object({ calls: Type.Array(Call) }, { additionalProperties: false });

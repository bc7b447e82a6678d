/** What the installation says of itself. */
import { type Static, Type } from "typebox";

/** One line of `autocode doctor`: which adapter of a port is in force, and why. */
export type Finding = Static<typeof Finding>;
export const Finding = Type.Object(
  {
    part: Type.String({ examples: ["database", "scheduler", "agent qwen-code"] }),
    status: Type.Union([Type.Literal("ok"), Type.Literal("warn"), Type.Literal("missing")]),
    detail: Type.String(),
    next_step: Type.Union([Type.String(), Type.Null()]),
  },
  { additionalProperties: false },
);

export type PairStatus = Static<typeof PairStatus>;
export const PairStatus = Type.Object(
  {
    name: Type.String(),
    normal: Type.String(),
    thinking: Type.String(),
    provider: Type.String(),
    is_scripted: Type.Boolean(),
    is_available: Type.Boolean(),
    detail: Type.String(),
  },
  { additionalProperties: false },
);

/** A planned pair as files and commands that a person can run by hand, without us. */
import { type Static, Type } from "typebox";
import { PlanRequest } from "./models.ts";

export type RenderForm = Static<typeof RenderForm>;
export const RenderForm = Type.Union([
  Type.Literal("vllm"),
  Type.Literal("ray"),
  Type.Literal("nomad"),
  Type.Literal("compose"),
]);

export type RenderRequest = Static<typeof RenderRequest>;
export const RenderRequest = Type.Object(
  { plan: PlanRequest, as: RenderForm },
  { additionalProperties: false },
);

export type RenderedPair = Static<typeof RenderedPair>;
export const RenderedPair = Type.Object(
  {
    pair: Type.String(),
    as: RenderForm,
    files: Type.Array(
      Type.Object({ name: Type.String(), text: Type.String() }, { additionalProperties: false }),
    ),
    /** In their order, where the files are. */
    commands: Type.Array(Type.String()),
    /** What a person must know or do beside them. */
    notes: Type.Array(Type.String()),
  },
  { additionalProperties: false },
);

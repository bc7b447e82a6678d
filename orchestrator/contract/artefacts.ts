/** What a trial left behind. */
import { type Static, Type } from "typebox";

export type Artefact = Static<typeof Artefact>;
export const Artefact = Type.Object(
  {
    name: Type.String(),
    allocation_id: Type.String(),
    byte_count: Type.Integer({ minimum: 0 }),
    updated_at: Type.String({ format: "date-time" }),
  },
  { additionalProperties: false },
);

export type ArtefactList = Static<typeof ArtefactList>;
export const ArtefactList = Type.Object(
  { artefacts: Type.Array(Artefact) },
  { additionalProperties: false },
);

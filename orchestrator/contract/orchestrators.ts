/** The orchestrators of one database, and what each of them leads. */
import { type Static, Type } from "typebox";

/** In every answer to a worker: the addresses of the orchestrators that live, with commas. */
export const ORCHESTRATORS_HEADER = "autocode-orchestrators";

export type Orchestrator = Static<typeof Orchestrator>;
export const Orchestrator = Type.Object(
  {
    id: Type.String(),
    host: Type.String(),
    url: Type.String(),
    version: Type.String(),
    started_at: Type.String({ format: "date-time" }),
    heartbeat_at: Type.String({ format: "date-time" }),
    /** False: silent for longer than a lease; it was killed, or cannot reach the database. */
    is_alive: Type.Boolean(),
    /** Whether it is the one that answers. */
    is_this: Type.Boolean(),
    duties: Type.Array(Type.String(), { examples: [["seal_journal"]] }),
  },
  { additionalProperties: false },
);

export type OrchestratorList = Static<typeof OrchestratorList>;
export const OrchestratorList = Type.Object(
  { orchestrators: Type.Array(Orchestrator) },
  { additionalProperties: false },
);

/** Workers: the hosts that run allocations, what they have, and what a trial wants of them. */
import { type Static, Type } from "typebox";

const BYTES_MAX = Number.MAX_SAFE_INTEGER;

/** What a worker is: measured by its host program, or told by the scheduler's engine. */
export type Capabilities = Static<typeof Capabilities>;
export const Capabilities = Type.Object(
  {
    cpus: Type.Integer({ minimum: 1, maximum: 65_536 }),
    memory_bytes: Type.Integer({ minimum: 1, maximum: BYTES_MAX }),
    disk_bytes: Type.Optional(Type.Integer({ minimum: 0, maximum: BYTES_MAX })),
    gpus: Type.Array(
      Type.Object(
        {
          name: Type.String({ maxLength: 100 }),
          memory_bytes: Type.Integer({ minimum: 0, maximum: BYTES_MAX }),
        },
        { additionalProperties: false },
      ),
      { maxItems: 64 },
    ),
    arch: Type.String({ maxLength: 32, examples: ["x64", "arm64"] }),
    /** The template its VM was made from; null for a bare host. */
    vm_template: Type.Union([Type.String({ maxLength: 64 }), Type.Null()]),
    /** The name and version of the agents that are installed there. */
    agents: Type.Array(Type.String({ maxLength: 100 }), { maxItems: 64 }),
  },
  { additionalProperties: false },
);

/** What a trial's worker must have; what is absent is not asked for. */
export type Requirements = Static<typeof Requirements>;
export const Requirements = Type.Object(
  {
    pool: Type.Optional(Type.String({ pattern: "^[a-z0-9][a-z0-9-]{0,62}$" })),
    cpus: Type.Optional(Type.Integer({ minimum: 1, maximum: 65_536 })),
    memory_bytes: Type.Optional(Type.Integer({ minimum: 1, maximum: BYTES_MAX })),
    disk_bytes: Type.Optional(Type.Integer({ minimum: 1, maximum: BYTES_MAX })),
    gpus: Type.Optional(Type.Integer({ minimum: 0, maximum: 64 })),
    gpu_memory_bytes: Type.Optional(Type.Integer({ minimum: 1, maximum: BYTES_MAX })),
    vm_template: Type.Optional(Type.String({ pattern: "^[a-z0-9][a-z0-9-]{0,62}$" })),
  },
  { additionalProperties: false },
);

/** `ready` takes allocations; `draining` ends what it has; `down` is silent. */
export type HostStatus = Static<typeof HostStatus>;
export const HostStatus = Type.Union([
  Type.Literal("ready"),
  Type.Literal("draining"),
  Type.Literal("down"),
]);

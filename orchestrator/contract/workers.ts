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

export type WorkerOutput = Static<typeof WorkerOutput>;
export const WorkerOutput = Type.Union([Type.Literal("stdout"), Type.Literal("stderr")]);

const PoolName = Type.String({
  pattern: "^[a-z0-9][a-z0-9-]{0,62}$",
  description: "a pool's name: up to 63 of a-z, 0-9 and -",
});
/** Of 0 to 1; null where it was not observed. */
const Ratio = Type.Union([Type.Number({ minimum: 0, maximum: 1 }), Type.Null()]);
const MaybeTime = Type.Union([Type.String({ format: "date-time" }), Type.Null()]);

/** `ready` takes allocations; `draining` ends what it has; `down` is silent. */
export type HostStatus = Static<typeof HostStatus>;
export const HostStatus = Type.Union([
  Type.Literal("ready"),
  Type.Literal("draining"),
  Type.Literal("down"),
]);

/** A host as people are shown it; what its scheduler does not tell is null. */
export type Worker = Static<typeof Worker>;
export const Worker = Type.Object(
  {
    id: Type.String({ description: "As its scheduler names it" }),
    name: Type.String(),
    pool: Type.String(),
    status: HostStatus,
    slots: Type.Integer({ minimum: 0 }),
    used: Type.Integer({ minimum: 0, description: "Allocations it has now" }),
    capabilities: Type.Union([Capabilities, Type.Null()]),
    joined_at: MaybeTime,
    heartbeat_at: MaybeTime,
    availability: Ratio,
    outage_count: Type.Union([Type.Integer({ minimum: 0 }), Type.Null()]),
  },
  { additionalProperties: false },
);

export type WorkerList = Static<typeof WorkerList>;
export const WorkerList = Type.Object(
  {
    scheduler: Type.String(),
    workers: Type.Array(Worker),
    /** Of all workers together, over the last `window_ms`. */
    availability: Ratio,
    availability_target: Type.Number(),
    window_ms: Type.Integer({ minimum: 1 }),
    /** Allocations that wait for a worker. */
    pending: Type.Integer({ minimum: 0 }),
    can_join: Type.Boolean({ description: "Whether hosts join by themselves, with a token" }),
  },
  { additionalProperties: false },
);

export type WorkerDetail = Static<typeof WorkerDetail>;
export const WorkerDetail = Type.Object(
  {
    worker: Worker,
    window_ms: Type.Integer({ minimum: 1 }),
    /** Newest first, within the window. */
    outages: Type.Array(
      Type.Object(
        { started_at: Type.String({ format: "date-time" }), ended_at: MaybeTime },
        { additionalProperties: false },
      ),
    ),
    /** Newest first; those it has now, and the last that ended. */
    allocations: Type.Array(
      Type.Object(
        {
          allocation_id: Type.String(),
          trial_id: Type.Union([Type.String(), Type.Null()]),
          state: Type.String(),
          assigned_at: MaybeTime,
          ended_at: MaybeTime,
        },
        { additionalProperties: false },
      ),
    ),
  },
  { additionalProperties: false },
);

export type WorkerDrain = Static<typeof WorkerDrain>;
export const WorkerDrain = Type.Object(
  { is_draining: Type.Boolean() },
  { additionalProperties: false },
);

/** `POST /api/v1/workers/tokens`. */
export type NewJoinToken = Static<typeof NewJoinToken>;
export const NewJoinToken = Type.Object(
  {
    pool: PoolName,
    uses: Type.Integer({ minimum: 1, maximum: 10_000, description: "hosts that may join" }),
    ttl_ms: Type.Integer({ minimum: 1_000, maximum: 30 * 86_400_000 }),
  },
  { additionalProperties: false },
);

export type JoinToken = Static<typeof JoinToken>;
export const JoinToken = Type.Object(
  {
    id: Type.String(),
    /** Told this once; its hash alone is kept. */
    token: Type.String(),
    pool: PoolName,
    uses: Type.Integer({ minimum: 1 }),
    expires_at: Type.String({ format: "date-time" }),
  },
  { additionalProperties: false },
);

/** A join token as it can be told again: without the token. */
export type JoinTokenFacts = Static<typeof JoinTokenFacts>;
export const JoinTokenFacts = Type.Object(
  {
    id: Type.String(),
    pool: PoolName,
    uses_left: Type.Integer({ minimum: 0 }),
    created_at: Type.String({ format: "date-time" }),
    expires_at: Type.String({ format: "date-time" }),
  },
  { additionalProperties: false },
);

export type JoinTokenList = Static<typeof JoinTokenList>;
export const JoinTokenList = Type.Object(
  { tokens: Type.Array(JoinTokenFacts) },
  { additionalProperties: false },
);

/**
 * What passes between the orchestrator and a host program, under `/api/v1/host/`.
 *
 * - `POST plan`  HostPlanRequest → HostPlan: what to install before joining; uses nothing up
 * - `POST join`  JoinRequest → Joined: exchanges a join token for a worker token (Bearer then)
 * - `POST sync`  HostSync → HostOrders: says all that the host has, answers what it shall do;
 *                held open until there is something, or `wait_ms`. It is the heartbeat, too
 * - `POST logs/<request>?is_last=` bytes of a worker's log that the orders asked for
 *
 * Every sync says everything and every answer is complete, so that one which was lost, or an
 * orchestrator that was restarted, loses nothing.
 */
import { type Static, Type } from "typebox";
import { Capabilities, WorkerOutput } from "./workers.ts";

const AllocationId = Type.String({ pattern: "^allocation_[0-7][0-9a-hjkmnp-tv-z]{25}$" });
const Token = Type.String({ minLength: 20, maxLength: 200 });

export type HostPlanRequest = Static<typeof HostPlanRequest>;
export const HostPlanRequest = Type.Object(
  { token: Token },
  { additionalProperties: false, description: "A join token, or a worker's own" },
);

export type HostPlan = Static<typeof HostPlan>;
export const HostPlan = Type.Object(
  {
    pool: Type.String(),
    /** Agents that are installed and checked before the host takes anything. */
    agents: Type.Array(Type.String()),
  },
  { additionalProperties: false },
);

const Slots = Type.Integer({ minimum: 1, maximum: 1000 });

export type JoinRequest = Static<typeof JoinRequest>;
export const JoinRequest = Type.Object(
  {
    join_token: Token,
    name: Type.String({
      pattern: "^[a-z0-9][a-z0-9.-]{0,62}$",
      description: "a host's name: up to 63 of a-z, 0-9, dot and dash",
    }),
    slots: Slots,
    capabilities: Capabilities,
  },
  { additionalProperties: false },
);

export type Joined = Static<typeof Joined>;
export const Joined = Type.Object(
  { worker_id: Type.String(), worker_token: Type.String() },
  { additionalProperties: false },
);

export type HostSync = Static<typeof HostSync>;
export const HostSync = Type.Object(
  {
    wait_ms: Type.Integer({ minimum: 0, maximum: 30_000 }),
    /** The host program's run, and its syncs counted: one that was overtaken is refused. */
    run_id: Type.String({ minLength: 1, maxLength: 64 }),
    number: Type.Integer({ minimum: 1 }),
    /** It ends what it has, takes nothing new, and goes. */
    is_leaving: Type.Boolean(),
    slots: Slots,
    capabilities: Capabilities,
    /** All that it has; what ended is said until the orders say to forget it. */
    allocations: Type.Array(
      Type.Object(
        {
          allocation_id: AllocationId,
          status: Type.Union([
            Type.Literal("running"),
            /** It was told to stop it, and does. */
            Type.Literal("stopping"),
            Type.Literal("complete"),
            Type.Literal("failed"),
            Type.Literal("lost"),
          ]),
        },
        { additionalProperties: false },
      ),
      { maxItems: 5_000 },
    ),
    /** The requests whose logs it sends now. */
    logs: Type.Array(Type.String({ maxLength: 64 }), { maxItems: 1_000 }),
  },
  { additionalProperties: false },
);

export type HostOrders = Static<typeof HostOrders>;
export const HostOrders = Type.Object(
  {
    is_draining: Type.Boolean(),
    /** The token is good once, and only for this allocation. */
    start: Type.Array(
      Type.Object(
        { allocation_id: AllocationId, enrolment_token: Type.String() },
        { additionalProperties: false },
      ),
    ),
    /** Said until the host stops it. */
    stop: Type.Array(AllocationId),
    forget: Type.Array(AllocationId),
    /** The logs that somebody reads now. */
    logs: Type.Array(
      Type.Object(
        {
          request_id: Type.String(),
          allocation_id: AllocationId,
          is_followed: Type.Boolean(),
          /** Absent: both, as hosts that do not know of it send them. */
          output: Type.Optional(WorkerOutput),
        },
        { additionalProperties: false },
      ),
    ),
  },
  { additionalProperties: false },
);

/**
 * The workers port: what is known of the hosts that join by themselves, and how they join.
 *
 * Silence is measured by the database's clock, and a worker is given up only by an orchestrator
 * that has listened without a gap for as long (outages.ts): a clock that jumps, or an orchestrator
 * that was away, gives nobody up.
 */
import type { HostOrders, HostPlan, HostSync, Joined, JoinRequest } from "../contract/hosts.ts";
import type {
  JoinToken,
  JoinTokenFacts,
  JoinTokenList,
  NewJoinToken,
  WorkerDetail,
  WorkerList,
} from "../contract/workers.ts";
import type { WorkerId } from "../runtime/ids.ts";

/** The notifications that wake whoever waits for a worker or a placement (fleet.ts). */
export const FLEET_CHANNEL = "autocode_fleet";

/** Hosts' own side: joining, proving themselves, being alive. */
export interface Registry {
  issueJoinToken(wanted: NewJoinToken): Promise<JoinToken>;
  /** What a host with this token shall install. @throws Problem `unauthenticated`. */
  plan(token: string): Promise<HostPlan>;
  /**
   * A host that comes back under its name is the same worker with a new token; what it had is lost.
   *
   * @throws Problem `unauthenticated` for a token that is unknown, used up or expired, `conflict`
   * when a worker of this name is alive.
   */
  join(request: JoinRequest): Promise<Joined>;
  /** @throws Problem `unauthenticated`. */
  authenticate(workerToken: string): Promise<WorkerId>;
  /**
   * It lives, and is what it says: ends its outage.
   *
   * @param isFirst whether it was said just now, and not a while ago.
   * @throws Problem `conflict` when the host has said something later.
   */
  heartbeat(
    id: WorkerId,
    said: Pick<HostSync, "is_leaving" | "slots" | "capabilities" | "run_id" | "number">,
    when: { isFirst: boolean },
  ): Promise<{ isDraining: boolean }>;
  /** Its token is worth nothing from now on, and what it had is lost. Idempotent. */
  remove(id: WorkerId): Promise<void>;
  listJoinTokens(): Promise<JoinTokenFacts[]>;
  /** @throws Problem `not_found`. */
  revokeJoinToken(id: string): Promise<void>;
}

/** What a host program may ask: its requests, as `contract/hosts.ts` has them. */
export interface Hosts extends Pick<Registry, "plan" | "join" | "authenticate"> {
  /** What the host shall do, at once or within its `wait_ms`. */
  sync(workerId: WorkerId, said: HostSync, signal: AbortSignal): Promise<HostOrders>;
  /** Bytes of a log that the host's orders asked for. */
  receiveLog(workerId: WorkerId, requestId: string, bytes: Buffer, isLast: boolean): Promise<void>;
}

/** People's side, over any scheduler's hosts. */
export interface Workers {
  list(): Promise<WorkerList>;
  /** By id or name. @throws Problem `not_found`. */
  get(host: string): Promise<WorkerDetail>;
  /** By id or name. @throws Problem `not_found`. */
  drain(host: string, isDraining: boolean): Promise<WorkerDetail>;
  /** @throws Problem `conflict` where hosts do not join by themselves. */
  issueJoinToken(wanted: NewJoinToken): Promise<JoinToken>;
  /**
   * Throws it out: its token is worth nothing from now on, and what it had is placed elsewhere.
   *
   * @throws Problem `not_found`, `conflict` where hosts do not join by themselves.
   */
  remove(host: string): Promise<void>;
  /** Those that hosts can still join with. */
  listJoinTokens(): Promise<JoinTokenList>;
  /** @throws Problem `not_found`. */
  revokeJoinToken(id: string): Promise<void>;
  /** Prometheus text. */
  metrics(): Promise<string>;
}

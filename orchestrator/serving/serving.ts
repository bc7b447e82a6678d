/**
 * The port of engines: programs that serve a model over HTTP on this machine or a cluster's. What
 * should be served is in the database (`servers.ts` reconciles it); an adapter only starts, finds
 * and ends engines, so that a killed orchestrator's engines are adopted by the next.
 */
import type { Side, Wire } from "../contract/agents.ts";
import type { PairPlan, ServedPair, UpRequest } from "../contract/models.ts";

export interface EngineSpec {
  /** Stable for a (pair, side): an engine that is started again is the same one. */
  readonly id: string;
  readonly model: string;
  readonly program: EngineProgram;
  /** Where it will answer: one of the launcher's `addresses`. */
  readonly baseUrl: string;
}

/** What an engine is to its launcher, rendered by models/serving; no secret is in it. */
export type EngineProgram =
  | {
      readonly kind: "command";
      readonly argv: readonly string[];
      readonly env: Readonly<Record<string, string>>;
    }
  /** Of Ray Serve, as its REST API takes it. */
  | { readonly kind: "application"; readonly application: Readonly<Record<string, unknown>> };

export type EngineCondition =
  | { readonly state: "absent" }
  | { readonly state: "running"; readonly startedAtMs: number }
  /** It ended by itself; `lastLines` are the end of its log. */
  | { readonly state: "ended"; readonly exit: string; readonly lastLines: readonly string[] };

export interface EngineLauncher extends AsyncDisposable {
  /** Of its engine: "processes", "ray". */
  readonly name: string;
  /**
   * Where the engines of a plan will answer, in the order of its models: loopback, or addresses
   * that gateways alone reach. @throws Problem when it cannot serve the plan.
   */
  addresses(plan: PairPlan): Promise<string[]>;
  /** Idempotent by `spec.id`. @throws Problem when its port is taken or its program is missing. */
  start(spec: EngineSpec): Promise<void>;
  condition(id: string): Promise<EngineCondition>;
  /** Ends it, if it is there: SIGTERM, and SIGKILL after a grace; frees its GPUs' memory. */
  stop(id: string): Promise<void>;
  /** Null when there is no log of it. */
  logs(
    id: string,
    options: { isFollowed: boolean; signal: AbortSignal },
  ): Promise<AsyncIterable<Uint8Array> | null>;
  onEnd(listener: (id: string) => void): Disposable;
}

/** Pairs on own GPUs, for who brings them up and down. */
export interface ModelServers {
  /**
   * Plans, and unless it is a dry run makes what fits wanted, priced by its plan from now on. Of
   * what is up by the same plan, what failed is tried again.
   *
   * @throws Problem `invalid_request` (unknown pair or GPU), `conflict` (it does not fit, a licence
   * is not accepted, it is up by another plan, or being brought down).
   */
  up(request: UpRequest): Promise<ServedPair>;
  /** Its engines end what they are answering, then they end. @throws Problem `not_found`. */
  down(pair: string): Promise<ServedPair>;
  list(): Promise<ServedPair[]>;
  /** @throws Problem `not_found` when it is not up, or there is no log of it here. */
  logs(
    engine: { pair: string; side: Side },
    options: { isFollowed: boolean; signal: AbortSignal },
  ): Promise<AsyncIterable<Uint8Array>>;
}

/** An engine as gateways and grants know it, wherever it runs. */
export interface ServedEngine {
  readonly pair: string;
  readonly side: Side;
  /** The card's name, which it answers to. */
  readonly model: string;
  /** What a grant calls it. */
  readonly provider: string;
  readonly baseUrl: string;
  /** What it speaks, of what its model could; null: all of that. */
  readonly wires: readonly Wire[] | null;
  /** What it was planned for: it refuses a longer call. */
  readonly contextTokens: number;
  /** Null: it takes calls. */
  readonly away: EngineAway | null;
}

/** Why an engine takes no calls now. */
export interface EngineAway {
  /** A sentence with what to do. */
  readonly detail: string;
  readonly retryAfterMs: number;
  /** Whether it comes by itself: worth to wait for. */
  readonly isComing: boolean;
}

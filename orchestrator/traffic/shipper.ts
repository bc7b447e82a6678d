/** Carries the spool's records to the store. */
import type { BackgroundTask } from "../runtime/background.ts";
import type { Clock } from "../runtime/clock.ts";
import type { Log } from "../runtime/log.ts";
import type { Random } from "../runtime/random.ts";
import type { TrafficSources } from "./sources.ts";
import type { Traffic } from "./traffic.ts";

export interface ShipperDeps {
  /** `layout.spool`. */
  spoolDir: string;
  store: Pick<Traffic, "append">;
  sources: TrafficSources;
  log: Log;
  clock: Clock;
  random: Pick<Random, "below">;
}

export interface Shipped {
  stored: number;
  rejected: number;
}

export interface Shipper {
  /** Not a duty: every process drains its own spool, and those of the dead beside it. */
  readonly task: BackgroundTask;
  /** Carries what is there now; at the end of a process, after its sinks were closed. */
  drain(): Promise<Shipped>;
  /** Why the store takes nothing; null when it does, or has not been asked yet. */
  fault(): string | null;
}

export declare function createShipper(deps: ShipperDeps): Shipper;

/** The traffic port on our own database. */
import type { Database } from "../db/database.ts";
import { Problem } from "../problem.ts";
import type { Clock } from "../runtime/clock.ts";
import type { Log } from "../runtime/log.ts";
import type { Traffic } from "./traffic.ts";

export interface PostgresTrafficOptions {
  clock: Clock;
  log: Log;
}

export function createPostgresTraffic(_db: Database, _options: PostgresTrafficOptions): Traffic {
  throw new Problem("unavailable", "The store of traffic is being built");
}

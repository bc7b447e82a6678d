/** The sources port in our database. */
import type { Database } from "../db/database.ts";
import type { Clock } from "../runtime/clock.ts";
import type { TrafficSources } from "./sources.ts";

export declare function createTrafficSources(
  db: Pick<Database, "sql">,
  clock: Clock,
): TrafficSources;

/** What keeps trials' checkpoints, and what removes the contents that none needs any more. */
import { createCollection } from "./checkpoints/collect.ts";
import { createBlobs } from "./checkpoints/files.ts";
import { createCheckpoints } from "./checkpoints/postgres.ts";
import type { Config } from "./config.ts";
import type { Database } from "./db/database.ts";
import type { Layout } from "./projects/layout.ts";
import type { Clock } from "./runtime/clock.ts";
import type { Random } from "./runtime/random.ts";

const COLLECT_PERIOD_MS = 15 * 60_000;
const COLLECT_GRACE_MS = 60 * 60_000;

export function buildCheckpoints(
  { db, layout, clock, random }: { db: Database; layout: Layout; clock: Clock; random: Random },
  { checkpointBytes: bytesMax, checkpointsKept: kept, checkpointEveryMs }: Config,
) {
  const parts = { db, blobs: createBlobs(layout, clock, random), clock };
  return {
    checkpoints: createCheckpoints(parts, { bytesMax, kept }),
    collection: createCollection(parts, {
      periodMs: COLLECT_PERIOD_MS,
      graceMs: COLLECT_GRACE_MS,
    }),
    /** What an agent's worker is told of them. */
    limits: { every_ms: checkpointEveryMs, bytes_max: bytesMax },
  };
}

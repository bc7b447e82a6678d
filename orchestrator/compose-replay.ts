/** Builds what replays are answered by: the record, and a stand-in for the gateway. */
import { createReplays, type Replays } from "../proxy/replay/replays.ts";
import { createReplayServer, type ReplayServer } from "../proxy/replay/server.ts";
import type { Database } from "./db/database.ts";
import type { Keys } from "./keys/keys.ts";
import { systemClock as clock } from "./runtime/clock.ts";
import { createIds } from "./runtime/ids.ts";
import type { Log } from "./runtime/log.ts";
import { systemRandom as random } from "./runtime/random.ts";
import type { Traffic } from "./traffic/traffic.ts";
import { createReplayTrials, type ReplayTrials } from "./trials/replay.ts";

const ids = createIds(clock, random);

export function buildReplays({
  db,
  traffic,
  redact,
  keys,
  log,
}: {
  db: Database;
  traffic: Pick<Traffic, "scan">;
  redact: (json: string) => string;
  keys: Pick<Keys, "find">;
  log: Log;
}): { trials: ReplayTrials; replays: Replays; server: ReplayServer } {
  const trials = createReplayTrials({ db, traffic, clock, ids });
  const { sourceOf, cassette: cassetteOf, diverged: onDiverged } = trials;
  const replays = createReplays({ clock, sourceOf, cassetteOf, onDiverged, redact });
  return { trials, replays, server: createReplayServer({ keys, replays, ids, log }) };
}

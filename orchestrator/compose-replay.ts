/**
 * Builds what replays trials: the record as a cassette, and who answers from it in the gateway's
 * place. Each orchestrator answers those whose workers enrolled at it.
 */

import type { EgressGuardOptions } from "../proxy/egress/sessions-postgres.ts";
import { createReplays } from "../proxy/replay/replays.ts";
import { createReplayServer } from "../proxy/replay/server.ts";
import { gatewayAddress } from "./addresses.ts";
import type { Config } from "./config.ts";
import type { Database } from "./db/database.ts";
import type { Keys } from "./keys/keys.ts";
import { systemClock as clock } from "./runtime/clock.ts";
import { createIds } from "./runtime/ids.ts";
import type { Log } from "./runtime/log.ts";
import { choosePort } from "./runtime/ports.ts";
import { systemRandom as random } from "./runtime/random.ts";
import type { Traffic } from "./traffic/traffic.ts";
import { createReplayTrials, type ReplayTrials } from "./trials/replay.ts";

export interface Replay extends AsyncDisposable {
  /** What the API serves. */
  trials: ReplayTrials;
  /** The guard's option `replay`. */
  decide: NonNullable<EgressGuardOptions["replay"]>;
  /** Listens. @throws Error when the port is taken. */
  start(): Promise<void>;
  /** Where workers are answered from the record; empty before it listens. */
  url(): string;
}

type Settings = Pick<Config, "egress" | "host" | "apiUrl" | "scheduler">;

/** @param redact what the record's texts went through. */
export function buildReplay(
  {
    db,
    traffic,
    keys,
    redact,
    log,
  }: {
    db: Database;
    traffic: Pick<Traffic, "scan">;
    keys: Pick<Keys, "find">;
    redact: (text: string) => string;
    log: Log;
  },
  config: Settings,
): Replay {
  const ids = createIds(clock, random);
  const trials = createReplayTrials({ db, traffic, clock, ids });
  const replays = createReplays({
    sourceOf: trials.sourceOf,
    cassetteOf: trials.cassette,
    onDiverged: trials.diverged,
    redact,
  });
  const server = createReplayServer({ keys, replays, ids, log });
  let address = "";
  return {
    trials,
    decide: replays.decide,
    start,
    url: () => address,
    [Symbol.asyncDispose]: () => server.close(),
  };

  async function start(): Promise<void> {
    const port = await choosePort(config.egress.replayPort, config.host, undefined);
    address = gatewayAddress(config, (await server.listen(port, config.host)).url);
  }
}

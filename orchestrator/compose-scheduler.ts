/** Which scheduler is behind the port: processes of this machine, hosts that joined, or Nomad. */
import { createHash } from "node:crypto";
import { join } from "node:path";
import { readAllocationLog } from "../worker-agent/allocation-log.ts";
import { sweepMarker } from "../worker-agent/process.ts";
import type { Place } from "./compose-duties.ts";
import { openNomad } from "./compose-nomad.ts";
import { type Fleet, openFleet } from "./compose-workers.ts";
import type { Config } from "./config.ts";
import type { Finding } from "./contract/system.ts";
import type { Database } from "./db/database.ts";
import { openSeatedScheduler } from "./duties/seated-scheduler.ts";
import { createLayout, type Layout } from "./projects/layout.ts";
import type { AllocationId } from "./runtime/ids.ts";
import type { Log } from "./runtime/log.ts";
import { openLocalScheduler } from "./scheduler/local.ts";
import { thisMachine } from "./scheduler/machine.ts";
import type { Scheduler } from "./scheduler/scheduler.ts";
import type { Enrolments } from "./trials/enrolment.ts";

export interface SchedulerWiring {
  config: Config;
  layout: Layout;
  /** Where workers reach the API; asked at each placement, since the port may be any. */
  apiUrl: () => string;
  log: Log;
  db: Database;
  enrolments: Enrolments;
  /** Ours among the orchestrators that share the data folder. */
  place: Place;
}

export interface OpenedScheduler {
  scheduler: Scheduler;
  /** What `autocode doctor` says of it: which one is in force, why, and what it lacks. */
  describe(): Promise<Omit<Finding, "part">>;
  /** What hosts that join by themselves are served by. */
  fleet?: Fleet;
}

const ROOT = join(import.meta.dirname, "..");
/** User ids for agents: a block of each installation's own, far from those of people. */
const UIDS = { first: 1_000_000, blocks: 100_000, slotsMax: 1_000 };

/** How soon a killed orchestrator's workers have another that looks after them. */
const SEATS_LOOK_MS = 2_000;

/** @throws Problem, its message for people, when the engine cannot be used. */
export async function openScheduler(wiring: SchedulerWiring): Promise<OpenedScheduler> {
  switch (wiring.config.scheduler) {
    case "local":
      return openLocal(wiring);
    case "fleet":
      return openFleet({ ...wiring, config: wiring.config.fleet });
    case "nomad":
      if (wiring.config.nomad === null) throw new Error("nomad is chosen and not configured");
      return openNomad(wiring, wiring.config.nomad);
  }
}

async function openLocal({
  config,
  layout,
  apiUrl,
  log,
  place,
}: SchedulerWiring): Promise<OpenedScheduler> {
  const options = {
    command: [process.execPath, join(ROOT, "worker-agent/main.ts")] as [string, string],
    apiUrl,
    agentsDir: layout.agents,
    slots: config.slots,
    machine: thisMachine(),
    env: { ...config.workerEnv, AUTOCODE_HIDDEN_DIRS: config.home },
    graceMs: 10_000,
    adoptedPollMs: 500,
    sweep: sweepMarker,
  };
  const openAt = (seat: number) =>
    openLocalScheduler(
      {
        ...options,
        allocationsDir: createLayout(config.home, seat).allocations,
        firstUid: config.isRoot ? firstUid(config.home, seat) : null,
      },
      log,
    );
  const notes = {
    placedDir: join(layout.orchestrators, "placed"),
    lookMs: SEATS_LOOK_MS,
    readLog: (
      seat: number,
      allocationId: AllocationId,
      options: Parameters<typeof readAllocationLog>[2],
    ) => readAllocationLog(createLayout(config.home, seat).allocations, allocationId, options),
  };
  const detail = `local: ${config.slots} slots on this machine; NOMAD_ADDR is not set`;
  return {
    scheduler: await openSeatedScheduler({ ...place, openAt, log }, notes),
    describe: async () => ({ status: "ok", detail, next_step: null }),
  };
}

/**
 * Survivors of a trial are found by their user too: two installations on one machine must not take
 * each other's agents for their own; nor must two orchestrators that share a data folder.
 */
export function firstUid(home: string, seat = 0): number {
  const whose = seat === 0 ? home : `${home}#${seat}`;
  const block = createHash("sha256").update(whose).digest().readUInt32BE(0) % UIDS.blocks;
  return UIDS.first + block * UIDS.slotsMax;
}

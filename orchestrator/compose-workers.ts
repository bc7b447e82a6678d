/** What hosts and people are served of workers: the fleet's scheduler, its tasks, a view of any. */
import type { FleetConfig } from "./config-fleet.ts";
import type { Finding } from "./contract/system.ts";
import type { Database } from "./db/database.ts";
import type { BackgroundTask } from "./runtime/background.ts";
import { systemClock } from "./runtime/clock.ts";
import { createIds } from "./runtime/ids.ts";
import type { Log } from "./runtime/log.ts";
import { systemRandom } from "./runtime/random.ts";
import { openFleetScheduler } from "./scheduler/fleet.ts";
import type { Host, Scheduler } from "./scheduler/scheduler.ts";
import type { Enrolments } from "./trials/enrolment.ts";
import { createAutoscaleTask } from "./workers/autoscale-task.ts";
import { createNoHosts } from "./workers/no-hosts.ts";
import { createOutagesTask } from "./workers/outages.ts";
import { createRegistry } from "./workers/postgres.ts";
import { createWorkers } from "./workers/view.ts";
import type { Hosts, Registry, Workers } from "./workers/workers.ts";

export interface Fleet {
  registry: Registry;
  hosts: Hosts;
  tasks: BackgroundTask[];
}

const clock = systemClock;
const random = systemRandom;
/** How often what waits is looked at without being told of room for it. */
const ASSIGN_MS = 2_000;
const AUTOSCALE_MS = 5_000;

export async function openFleet({
  config: { leaseMs, pools },
  db,
  enrolments,
  log,
}: {
  config: FleetConfig;
  db: Database;
  enrolments: Enrolments;
  log: Log;
}) {
  const agentsOf = (pool: string) => pools[pool]?.agents ?? [];
  const ids = createIds(clock, random);
  const registry = createRegistry(db, { ids, random }, { leaseMs, agentsOf });
  const issueEnrolment = enrolments.issue;
  const scheduler = await openFleetScheduler(
    { db, registry, issueEnrolment, random, log },
    { leaseMs },
  );
  const { sync, receiveLog, assign } = scheduler;
  const tasks = [
    createOutagesTask(db, log, { leaseMs }),
    { name: "assign_placements", periodMs: ASSIGN_MS, activate: assign },
  ];
  return {
    scheduler,
    describe: async () => describeFleet(await scheduler.hosts()),
    fleet: { registry, hosts: { ...registry, sync, receiveLog }, tasks },
  };
}

/** The services and tasks that there are with every scheduler. */
export function buildWorkers({
  db,
  scheduler,
  fleet,
  config,
  log,
}: {
  db: Database;
  scheduler: Scheduler;
  fleet: Fleet | null;
  config: FleetConfig;
  log: Log;
}): { workers: Workers; hosts: Hosts; tasks: BackgroundTask[] } {
  const { autoscale, pools } = config;
  const calling = { db, scheduler, clock, log };
  const scaling =
    autoscale === null
      ? []
      : [createAutoscaleTask(calling, { ...autoscale, pools, periodMs: AUTOSCALE_MS })];
  return {
    workers: createWorkers({ db, scheduler, registry: fleet?.registry ?? null, clock }),
    hosts: fleet?.hosts ?? createNoHosts(scheduler.name),
    tasks: [...(fleet?.tasks ?? []), ...scaling],
  };
}

function describeFleet(hosts: readonly Host[]): Omit<Finding, "part"> {
  const ready = hosts.filter(({ status }) => status === "ready");
  const slots = ready.reduce((sum, host) => sum + host.slots, 0);
  if (ready.length > 0) {
    const detail = `fleet: ${ready.length} of ${hosts.length} workers ready, ${slots} slots`;
    return { status: "ok", detail, next_step: null };
  }
  return {
    status: "warn",
    detail: `fleet: no worker is ready, ${hosts.length} known`,
    next_step: "autocode worker token, then start worker-agent/host/main.ts on a host with it",
  };
}

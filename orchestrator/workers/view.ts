/** The workers as people see them: any scheduler's hosts, with what the registry knows of each. */
import { sql } from "drizzle-orm";
import type { NewJoinToken, Worker, WorkerDetail } from "../contract/workers.ts";
import type { Database } from "../db/database.ts";
import { readTime, rows } from "../db/rows.ts";
import { Problem } from "../problem.ts";
import { type Clock, rfc3339 } from "../runtime/clock.ts";
import type { WorkerId } from "../runtime/ids.ts";
import type { Host, Scheduler } from "../scheduler/scheduler.ts";
import {
  AVAILABILITY_TARGET,
  AVAILABILITY_WINDOW_MS,
  availability,
  type Observed,
} from "./availability.ts";
import { createWorkerMetrics } from "./metrics.ts";
import type { Registry, Workers } from "./workers.ts";

type KnownRow = {
  id: string;
  registered_at: string;
  heartbeat_at: string;
  left_at: string | null;
  outages: { started_at: string; ended_at: string | null }[];
};

type AllocationRow = {
  allocation_id: string;
  trial_id: string | null;
  state: string;
  assigned_at: string | null;
  ended_at: string | null;
};

const ALLOCATIONS_SHOWN = 50;

type JoinRegistry = Pick<
  Registry,
  "issueJoinToken" | "listJoinTokens" | "revokeJoinToken" | "remove"
>;

/** @param registry null where hosts do not join by themselves. */
export function createWorkers(
  {
    db,
    scheduler,
    registry,
    clock,
  }: {
    db: Pick<Database, "sql">;
    scheduler: Scheduler;
    registry: JoinRegistry | null;
    clock: Clock;
  },
  windowMs: number = AVAILABILITY_WINDOW_MS,
): Workers {
  const metrics = createWorkerMetrics(list);
  return {
    ...{ list, get, drain, remove, metrics },
    issueJoinToken: async (wanted: NewJoinToken) => joining().issueJoinToken(wanted),
    listJoinTokens: async () => ({ tokens: await joining().listJoinTokens() }),
    revokeJoinToken: async (id: string) => joining().revokeJoinToken(id),
  };

  async function list() {
    const [hosts, known, window] = [await scheduler.hosts(), await readKnown(), range()];
    const observed = [...known.values()].map(toObserved);
    return {
      scheduler: scheduler.name,
      workers: hosts.map((host) => toWorker(host, known.get(host.id), window)),
      availability: availability(observed, window),
      availability_target: AVAILABILITY_TARGET,
      window_ms: windowMs,
      pending: await pendingCount(),
      can_join: registry !== null,
    };
  }

  async function get(name: string): Promise<WorkerDetail> {
    const host = await find(name);
    const known = (await readKnown()).get(host.id);
    const window = range();
    const outages = (known?.outages ?? []).map(({ started_at, ended_at }) => ({
      started_at: rfc3339(readTime(started_at)),
      ended_at: timeOf(ended_at),
    }));
    return {
      worker: toWorker(host, known, window),
      window_ms: windowMs,
      outages: outages.toSorted((a, b) => b.started_at.localeCompare(a.started_at)),
      allocations: await readAllocations(host),
    };
  }

  async function drain(name: string, isDraining: boolean): Promise<WorkerDetail> {
    const { id } = await find(name);
    await scheduler.drain(id, isDraining);
    return get(id);
  }

  async function remove(name: string): Promise<void> {
    const asked = joining();
    await asked.remove((await find(name)).id as WorkerId);
  }

  function joining(): JoinRegistry {
    if (registry !== null) return registry;
    throw new Problem(
      "conflict",
      `Hosts join by themselves only with AUTOCODE_SCHEDULER=fleet; ${scheduler.name} is in force`,
    );
  }

  async function find(name: string): Promise<Host> {
    const hosts = await scheduler.hosts();
    const found = hosts.find((host) => host.id === name) ?? hosts.find((h) => h.name === name);
    if (found !== undefined) return found;
    const names = hosts.map((host) => host.name).join(", ");
    throw new Problem("not_found", `There is no worker ${name}; known: ${names || "none yet"}`);
  }

  function range() {
    const endMs = clock.now();
    return { startMs: endMs - windowMs, endMs };
  }

  async function readKnown(): Promise<Map<string, KnownRow>> {
    const found = await rows<KnownRow>(
      db.sql,
      sql`select id, registered_at, heartbeat_at, left_at, coalesce((
            select jsonb_agg(jsonb_build_object('started_at', started_at, 'ended_at', ended_at))
            from worker_outage where worker_id = worker.id
              and coalesce(ended_at, clock_timestamp())
                > clock_timestamp() - ${`${windowMs} ms`}::interval
          ), '[]') as outages
        from worker`,
    );
    return new Map(found.map((row) => [row.id, row]));
  }

  async function readAllocations(host: Host): Promise<WorkerDetail["allocations"]> {
    const found = await rows<AllocationRow>(
      db.sql,
      sql`select placement.allocation_id, allocation.trial_id, state, assigned_at,
          placement.ended_at
        from placement left join allocation on allocation.id = placement.allocation_id
        where worker_id = ${host.id}
        order by assigned_at desc, allocation_id desc limit ${ALLOCATIONS_SHOWN}`,
    );
    return found.map((row) => ({
      ...row,
      assigned_at: timeOf(row.assigned_at),
      ended_at: timeOf(row.ended_at),
    }));
  }

  async function pendingCount(): Promise<number> {
    const [counted] = await rows<{ count: number }>(
      db.sql,
      sql`select count(*)::int as count from placement
        where state = 'pending' and worker_id is null`,
    );
    return counted?.count ?? 0;
  }
}

function toWorker(
  host: Host,
  known: KnownRow | undefined,
  window: Parameters<typeof availability>[1],
): Worker {
  return {
    ...host,
    joined_at: timeOf(known?.registered_at ?? null),
    heartbeat_at: timeOf(known?.heartbeat_at ?? null),
    availability: known === undefined ? null : availability([toObserved(known)], window),
    outage_count: known?.outages.length ?? null,
  };
}

function toObserved({ registered_at, left_at, outages }: KnownRow): Observed {
  return {
    joinedAtMs: readTime(registered_at),
    leftAtMs: left_at === null ? null : readTime(left_at),
    outages: outages.map(({ started_at, ended_at }) => ({
      startedAtMs: readTime(started_at),
      endedAtMs: ended_at === null ? null : readTime(ended_at),
    })),
  };
}

function timeOf(text: string | null): string | null {
  return text === null ? null : rfc3339(readTime(text));
}

/**
 * Places allocations on hosts that joined, over tables `worker` and `placement`: any number of
 * orchestrators work on them at once, and none holds anything that its death would lose.
 *
 * A placement is `pending` until its worker is handed it, with a new enrolment token, in answer to
 * a sync (contract/hosts.ts); then it is `running` until the host says how it ended, or is given
 * up. Exactly-once comes from the trial's fence, not from here.
 */
import { sql } from "drizzle-orm";
import type { HostOrders, HostSync } from "../contract/hosts.ts";
import type { Requirements } from "../contract/workers.ts";
import type { Database } from "../db/database.ts";
import { rows } from "../db/rows.ts";
import { Problem } from "../problem.ts";
import type { AllocationId, WorkerId } from "../runtime/ids.ts";
import type { Log } from "../runtime/log.ts";
import type { Random } from "../runtime/random.ts";
import { FLEET_CHANNEL, type Registry } from "../workers/workers.ts";
import { createFleetLogs } from "./fleet-logs.ts";
import { handOver, settle } from "./fleet-orders.ts";
import { choosePlaces, notYetPlaced, readWorkers } from "./fleet-rows.ts";
import { lacks, roomFor } from "./placement.ts";
import type { AllocationStatus, Host, Placement, Scheduler } from "./scheduler.ts";

export interface FleetDependencies {
  db: Database;
  registry: Pick<Registry, "heartbeat">;
  /** A new token for the worker-agent of an allocation that is there. @throws Problem */
  issueEnrolment: (allocationId: AllocationId) => Promise<string>;
  random: Random;
  log: Log;
}

export interface FleetOptions {
  leaseMs: number;
}

export interface FleetScheduler extends Scheduler {
  /** What the host shall do, now or within its `wait_ms`. */
  sync(workerId: WorkerId, said: HostSync, signal: AbortSignal): Promise<HostOrders>;
  /** Bytes of a log that the host's orders asked for. */
  receiveLog(workerId: WorkerId, requestId: string, bytes: Buffer, isLast: boolean): Promise<void>;
  /** Gives what waits to whom it fits; idempotent. */
  assign(): Promise<void>;
}

export async function openFleetScheduler(
  { db, registry, issueEnrolment, random, log }: FleetDependencies,
  { leaseMs }: FleetOptions,
): Promise<FleetScheduler> {
  const listeners = new Set<(allocationId: AllocationId) => void>();
  const wakes = new Set<(workerId: string | null) => void>();
  const logs = createFleetLogs(db, random);
  const assign = createRound(() => choosePlaces(db, { leaseMs }));
  const closing = new AbortController();
  const listening = await db.listen(FLEET_CHANNEL, hear, () => wake(null));
  return {
    name: "fleet",
    place,
    status,
    stop,
    capacity,
    hosts,
    drain,
    logs: async (id, options) => {
      const host = await reachableHostOf(id);
      const isOver = async () => (await reachableHostOf(id, "running")) === null;
      return host === null ? null : logs.read(id, host, { ...options, isOver });
    },
    onEnd(listener) {
      listeners.add(listener);
      return { [Symbol.dispose]: () => void listeners.delete(listener) };
    },
    sync,
    receiveLog: logs.receive,
    assign,
    [Symbol.asyncDispose]: async () => {
      closing.abort();
      await listening[Symbol.asyncDispose]();
      await assign();
    },
  };

  async function place({ allocationId, requirements, priority }: Placement): Promise<void> {
    await db.sql.execute(sql`
      insert into placement (allocation_id, requirements, priority, state, created_at)
      values (${allocationId}, ${JSON.stringify(requirements)}::jsonb, ${priority}, 'pending',
        clock_timestamp())
      on conflict do nothing`);
    await assign();
  }

  async function status(allocationId: AllocationId): Promise<AllocationStatus | null> {
    const [found] = await rows<{ state: AllocationStatus }>(
      db.sql,
      sql`select state from placement where allocation_id = ${allocationId}`,
    );
    return found?.state ?? null;
  }

  /** What no host has yet ends here; the rest is told to its host. */
  async function stop(allocationId: AllocationId): Promise<void> {
    await db.sql.execute(sql`
      with ended as (
        update placement set state = 'failed', ended_at = clock_timestamp()
        where allocation_id = ${allocationId} and state = 'pending' returning allocation_id
      ), asked as (
        update placement set is_stop_asked = true
        where allocation_id = ${allocationId} and state = 'running' and not is_stop_asked
        returning worker_id
      )
      select pg_notify(${FLEET_CHANNEL}, 'ended ' || allocation_id) from ended
      union all
      select pg_notify(${FLEET_CHANNEL}, 'worker ' || worker_id) from asked`);
  }

  async function capacity(requirements: Requirements = {}): Promise<number> {
    const workers = await readWorkers(db.sql, leaseMs);
    const fitting = workers.filter((worker) => lacks(worker, requirements) === null);
    if (fitting.length === 0) return 0;
    return roomFor(requirements, await notYetPlaced(db.sql), workers);
  }

  async function hosts(): Promise<Host[]> {
    const workers = await readWorkers(db.sql, leaseMs);
    return workers.map(({ id, name, pool, slots, held, capabilities, shown }) => {
      return { id, name, pool, status: shown, slots, used: held.length, capabilities };
    });
  }

  async function drain(hostId: string, isDraining: boolean): Promise<void> {
    const found = await rows<{ id: string }>(
      db.sql,
      sql`with drained as (
          update worker set is_draining = ${isDraining} where id = ${hostId} returning id
        ), back as (
          update placement set worker_id = null, assigned_at = null
          where state = 'pending' and worker_id in (select id from drained) and ${isDraining}
        )
        select id, pg_notify(${FLEET_CHANNEL}, 'worker ' || id) from drained`,
    );
    if (found.length === 0) throw new Problem("not_found", `There is no worker ${hostId}`);
    await assign();
  }

  async function sync(
    workerId: WorkerId,
    said: HostSync,
    signal: AbortSignal,
  ): Promise<HostOrders> {
    const endMs = performance.now() + Math.min(said.wait_ms, leaseMs / 3);
    const isOver = AbortSignal.any([signal, closing.signal]);
    for (let isFirst = true; ; isFirst = false) {
      // Listening starts before the look, so that a change in between is not missed.
      const woken = untilWoken(workerId);
      try {
        const { isDraining } = await registry.heartbeat(workerId, said, { isFirst });
        const { forget, stop: unwanted, hasRoom } = await settle(db, workerId, said, { isFirst });
        if (isFirst && hasRoom && !isDraining) await assign();
        const start = isDraining ? [] : await handOver({ db, issueEnrolment, log }, workerId);
        const wanted = logs.wanted(workerId);
        const orders = { is_draining: isDraining, start, stop: unwanted, forget, logs: wanted };
        const leftMs = endMs - performance.now();
        const isQuiet =
          [start, unwanted, forget].every((list) => list.length === 0) &&
          wanted.every(({ request_id: id }) => said.logs.includes(id));
        if (!isQuiet || leftMs <= 0 || isOver.aborted) return orders;
        await woken.within(leftMs, isOver);
        if (isOver.aborted) return orders;
      } finally {
        woken.forget();
      }
    }
  }

  function untilWoken(workerId: WorkerId) {
    const { promise, resolve } = Promise.withResolvers<void>();
    const listener = (wokenId: string | null) => {
      if (wokenId === null || wokenId === workerId) resolve();
    };
    wakes.add(listener);
    return { within, forget: () => void wakes.delete(listener) };

    async function within(waitMs: number, isOver: AbortSignal): Promise<void> {
      const timer = setTimeout(resolve, waitMs);
      isOver.addEventListener("abort", () => resolve(), { once: true });
      await promise;
      clearTimeout(timer);
    }
  }

  function hear(payload: string): void {
    const [kind = "", rest = ""] = payload.split(/ (.*)/s);
    if (kind === "worker") wake(rest);
    if (kind === "room") void assign();
    if (kind === "ended") {
      for (const listener of [...listeners]) listener(rest as AllocationId);
      void assign();
    }
    const wanting = logs.hear(kind, rest);
    if (wanting !== null) wake(wanting);
  }

  function wake(workerId: string | null): void {
    for (const listener of [...wakes]) listener(workerId);
  }

  /** Where it runs or ran; null when that host is not heard of any more. */
  async function reachableHostOf(
    allocationId: AllocationId,
    state: AllocationStatus | null = null,
  ): Promise<WorkerId | null> {
    const [found] = await rows<{ worker_id: WorkerId }>(
      db.sql,
      sql`select worker_id from placement join worker on worker.id = placement.worker_id
        where allocation_id = ${allocationId} and placement.state <> 'pending'
          and (${state}::text is null or placement.state = ${state})
          and heartbeat_at > clock_timestamp() - ${`${leaseMs} ms`}::interval`,
    );
    return found?.worker_id ?? null;
  }

  /** One at a time; whoever asks during one is served by the next. A failed one is only logged. */
  function createRound(round: () => Promise<void>): () => Promise<void> {
    let current: Promise<void> | null = null;
    let next: Promise<void> | null = null;
    return () => {
      if (current === null) {
        current = run();
        return current;
      }
      next ??= current.then(() => {
        next = null;
        current = run();
        return current;
      });
      return next;
    };

    async function run(): Promise<void> {
      try {
        await round();
      } catch (error) {
        // The outages' task asks again.
        log.warn({ err: error }, "placements not assigned");
      } finally {
        current = null;
      }
    }
  }
}

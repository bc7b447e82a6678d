/**
 * Runs allocations as Nomad jobs: each is a child that is dispatched from a parameterised job
 * (`nomad-templates.ts`). All that it knows it asks Nomad for, so that any orchestrator, or the
 * next one, knows the same: a child's id has its allocation's in it.
 *
 * Who can read a dispatch: its meta (ids, our address) whoever has `read-job` in the namespace; its
 * payload (the enrolment token, nothing else) those too and, until the worker-agent removes the
 * file, users of the node who know the allocation. The token is good once, for one allocation,
 * until that ends: a second user is refused. So nothing here is a secret that lasts.
 *
 * Nomad promises no exactly-once: a dispatch that is asked for twice at a time may be done twice
 * (before 1.11.2), and a client that was lost may come back. The extra one is stopped; that it
 * changes nothing until then is our fencing's work.
 */
import { Problem } from "../problem.ts";
import { monotonicMs, pause } from "../runtime/clock.ts";
import type { AllocationId } from "../runtime/ids.ts";
import type { Log } from "../runtime/log.ts";
import type { NomadClient } from "./nomad-client.ts";
import { createNomadCluster } from "./nomad-cluster.ts";
import { hasSaid } from "./nomad-errors.ts";
import { openNomadEvents } from "./nomad-events.ts";
import { allocationOf, childPrefix, META, nomadPriority } from "./nomad-job.ts";
import { readLogs } from "./nomad-logs.ts";
import { endStatus, isEnded, liveStatus } from "./nomad-status.ts";
import { createNomadTemplates, type NomadTemplatesOptions } from "./nomad-templates.ts";
import type { Job, JobStub } from "./nomad-wire.ts";
import type { AllocationStatus, LogOptions, Placement, Scheduler } from "./scheduler.ts";

export interface NomadOptions extends NomadTemplatesOptions {
  /** Where workers reach the orchestrator; asked at each dispatch. */
  apiUrl: () => string;
  /** What was asked of Nomad is good for this long, unless we changed something since. */
  shareMs: number;
  retryMs: number;
  retryMaxMs: number;
  compareMs: number;
}

export interface NomadScheduler extends Scheduler {
  /** Null while the event stream is open; else why it is not. */
  trouble(): string | null;
}

type Children = Map<AllocationId, JobStub[]>;

/** Ended and unwanted allocations are remembered for this many more. */
const KEPT = 1000;
const LOOK_MS = 500;
const GONE = /parameterized job not found|is stopped/;

export function openNomadScheduler(
  client: NomadClient,
  options: NomadOptions,
  log: Log,
): NomadScheduler {
  const { job: base } = options;
  const templates = createNomadTemplates(client, options);
  /** One for all at a time; forgotten when we changed something. */
  let changes = 0;
  const liveChildren = share(async () => group(await client.jobs({ prefix: base, filter: LIVE })));
  const placing = new Map<AllocationId, Promise<void>>();
  const ends = new Map<AllocationId, AllocationStatus>();
  const unwanted = new Map<AllocationId, true>();
  const cluster = createNomadCluster(client, {
    share,
    isOurs: (jobId) => allocationOf(base, jobId) !== null,
  });
  const events = openNomadEvents(
    client,
    log,
    { ...options, allocationOf: (jobId) => allocationOf(base, jobId) },
    endExtras,
  );
  return {
    name: "nomad",
    place,
    status,
    stop,
    capacity: async (requirements = {}) => {
      const template = await templates.ensure(requirements);
      const children = await liveChildren();
      return cluster.capacity(template, requirements, [...children.values()].flat());
    },
    hosts: async () => cluster.hosts(await templates.ensure({})),
    drain,
    logs,
    onEnd: events.onEnd,
    trouble: events.trouble,
    async [Symbol.asyncDispose]() {
      await events[Symbol.asyncDispose]();
      await client.close();
    },
  };

  async function place(placement: Placement): Promise<void> {
    const { allocationId } = placement;
    const running = placing.get(allocationId) ?? placeOnce(placement);
    placing.set(allocationId, running);
    try {
      await running;
    } finally {
      placing.delete(allocationId);
    }
  }

  async function placeOnce(placement: Placement): Promise<void> {
    const { allocationId, requirements } = placement;
    const parent = await templates.ensure(requirements);
    if ((await childrenOf(parent.ID, allocationId)).length > 0) return;
    try {
      await dispatch(parent, placement);
    } catch (error) {
      // Purged or stopped since we looked: registered anew, if that is ours to do.
      if (!hasSaid(error, GONE)) throw error;
      templates.forget();
      await dispatch(await templates.ensure(requirements), placement);
    }
  }

  async function dispatch(parent: Job, placement: Placement): Promise<void> {
    const { allocationId, trialId, enrolmentToken, priority } = placement;
    const permitted = [
      ...(parent.ParameterizedJob?.MetaRequired ?? []),
      ...(parent.ParameterizedJob?.MetaOptional ?? []),
    ];
    const apiUrl = permitted.includes(META.apiUrl) ? { [META.apiUrl]: options.apiUrl() } : {};
    try {
      await client.dispatch(parent.ID, {
        payload: enrolmentToken,
        meta: { [META.trial]: trialId, [META.allocation]: allocationId, ...apiUrl },
        idPrefix: allocationId,
        priority: nomadPriority(priority),
        idempotencyToken: allocationId,
      });
    } finally {
      // Also when we do not know whether it was done.
      changes += 1;
    }
    await stopExtras(await childrenOf(parent.ID, allocationId).catch(() => []));
  }

  async function childrenOf(parent: string, allocationId: AllocationId): Promise<JobStub[]> {
    return client.jobs({ prefix: childPrefix(parent, allocationId) });
  }

  /** Whichever its parent is. */
  async function find(allocationId: AllocationId): Promise<JobStub[]> {
    const filter = `DispatchIdempotencyToken == "${allocationId}"`;
    return (await client.jobs({ prefix: base, filter })).sort(byAge);
  }

  async function status(allocationId: AllocationId): Promise<AllocationStatus | null> {
    const ended = ends.get(allocationId);
    if (ended !== undefined) return ended;
    const [live] = (await liveChildren()).get(allocationId) ?? [];
    if (live !== undefined) return liveStatus(live);
    const children = await find(allocationId);
    const child = children.find(({ Status }) => Status !== "dead") ?? children[0];
    if (child === undefined) return null;
    if (child.Status !== "dead") return liveStatus(child);
    const allocations = await client.jobAllocations(child.ID);
    // A job is dead as soon as its allocation is told to stop, before it has.
    if (allocations.some((allocation) => !isEnded(allocation))) return "running";
    const end = endStatus(child, allocations);
    remember(ends, allocationId, end);
    // Its room is free: what was asked before does not know that.
    changes += 1;
    return end;
  }

  async function stop(allocationId: AllocationId): Promise<void> {
    remember(unwanted, allocationId, true);
    for (const child of await find(allocationId)) await end(child);
  }

  async function end({ ID, Status, Stop }: JobStub): Promise<void> {
    if (Status === "dead" || Stop) return;
    await client.deregister(ID);
    changes += 1;
  }

  /** Of one allocation's children the oldest stays. */
  async function stopExtras(children: readonly JobStub[]): Promise<void> {
    const [, ...extras] = children.toSorted(byAge);
    for (const extra of extras) {
      log.warn({ job_id: extra.ID }, "nomad dispatched a trial twice; the later one is stopped");
      await end(extra);
    }
  }

  /** After every list of the event stream's: what should not run, whoever dispatched it. */
  async function endExtras(): Promise<void> {
    changes += 1;
    for (const [allocationId, children] of await liveChildren()) {
      if (unwanted.has(allocationId)) for (const child of children) await end(child);
      else await stopExtras(children);
    }
  }

  async function drain(hostId: string, isDraining: boolean): Promise<void> {
    try {
      await client.drainNode(hostId, isDraining);
    } catch (error) {
      const isUnknown = hasSaid(error, /node not found|index error/);
      if (isUnknown) throw new Problem("not_found", `Nomad has no node ${hostId}`);
      throw error;
    } finally {
      changes += 1;
    }
  }

  async function logs(
    allocationId: AllocationId,
    options: LogOptions,
  ): Promise<AsyncIterable<Uint8Array> | null> {
    const { isFollowed, signal } = options;
    const isRunning = async () => {
      const now = await status(allocationId);
      return now === "pending" || now === "running";
    };
    for (;;) {
      const isLast = signal.aborted || !isFollowed || !(await isRunning());
      const [child] = await find(allocationId);
      const [found] = child === undefined ? [] : await client.jobAllocations(child.ID);
      const task = Object.keys(found?.TaskStates ?? {})[0];
      if (found !== undefined && task !== undefined) {
        const source = { allocationId: found.ID, task, isRunning };
        return readLogs(client, source, options);
      }
      if (isLast) return null;
      await pause(LOOK_MS, signal);
    }
  }

  function group(children: readonly JobStub[]): Children {
    const grouped: Children = new Map();
    for (const child of children.toSorted(byAge)) {
      const allocationId = allocationOf(base, child.ID);
      if (allocationId === null) continue;
      grouped.set(allocationId, [...(grouped.get(allocationId) ?? []), child]);
    }
    return grouped;
  }

  function share<Value>(load: () => Promise<Value>): () => Promise<Value> {
    let last: { changes: number; atMs: number; value: Promise<Value> } | null = null;
    return () => {
      const isFresh = last?.changes === changes && monotonicMs() - last.atMs < options.shareMs;
      if (last !== null && isFresh) return last.value;
      const value = load();
      const mine = { changes, atMs: monotonicMs(), value };
      last = mine;
      value.catch(() => {
        if (last === mine) last = null;
      });
      return value;
    };
  }
}

/** A filter expression on jobs (go-bexpr). */
const LIVE = 'Status != "dead"';

function byAge(one: JobStub, other: JobStub): number {
  return one.CreateIndex - other.CreateIndex || (one.ID < other.ID ? -1 : 1);
}

function remember<Value>(kept: Map<AllocationId, Value>, id: AllocationId, value: Value): void {
  kept.delete(id);
  kept.set(id, value);
  for (const oldest of kept.keys()) {
    if (kept.size <= KEPT) break;
    kept.delete(oldest);
  }
}

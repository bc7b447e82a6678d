/**
 * Runs allocations as processes of this machine: no more than `slots` at once, the rest wait in
 * line. A worker outlives a killed orchestrator; the next one adopts it.
 */
import { type AllocationsOptions, openAllocations } from "../../worker-agent/allocations.ts";
import type { Capabilities, Requirements } from "../contract/workers.ts";
import { Problem } from "../problem.ts";
import type { AllocationId } from "../runtime/ids.ts";
import type { Log } from "../runtime/log.ts";
import { lacks } from "./placement.ts";
import type { AllocationStatus, Host, LogOptions, Placement, Scheduler } from "./scheduler.ts";

export interface LocalOptions extends AllocationsOptions {
  slots: number;
  machine: { name: string; capabilities: Capabilities };
}

/** There is one machine, and it is of no other pool. */
const POOL = "local";
/** Ended allocations are forgotten after this many more. */
const ENDED_KEPT = 1000;

export async function openLocalScheduler(options: LocalOptions, log: Log): Promise<Scheduler> {
  const pending: Placement[] = [];
  const ended = new Map<AllocationId, AllocationStatus>();
  const listeners = new Set<(allocationId: AllocationId) => void>();
  let isClosing = false;
  let isDraining = false;

  const allocations = await openAllocations(options, onEnd, (level, message, fields) =>
    log[level](fields, message),
  );
  return {
    name: "local",
    place,
    status: async (allocationId) => statusNow(allocationId),
    stop,
    capacity: async (requirements = {}) => capacity(requirements),
    hosts: async () => [host()],
    drain,
    logs,
    onEnd(listener) {
      listeners.add(listener);
      return { [Symbol.dispose]: () => void listeners.delete(listener) };
    },
    [Symbol.asyncDispose]: close,
  };

  async function place(placement: Placement): Promise<void> {
    if (isClosing) throw new Error("the scheduler is closing");
    // Without a wait in between: two calls at once must not both find nothing.
    if (statusNow(placement.allocationId) !== null) return;
    const next = pending.findIndex(({ priority }) => priority < placement.priority);
    pending.splice(next === -1 ? pending.length : next, 0, placement);
    startNext();
  }

  function used(): number {
    return allocations.ids().length + pending.length;
  }

  function capacity(requirements: Requirements): number {
    const machine = { capabilities: options.machine.capabilities, pool: POOL };
    if (isDraining || lacks(machine, requirements) !== null) return 0;
    return Math.max(0, options.slots - used());
  }

  function host(): Host {
    const { name, capabilities } = options.machine;
    const status = isDraining ? "draining" : "ready";
    return { id: name, name, pool: POOL, status, slots: options.slots, used: used(), capabilities };
  }

  async function drain(hostId: string, wanted: boolean): Promise<void> {
    const { name } = options.machine;
    if (hostId !== name) throw new Problem("not_found", `There is no host ${hostId} but ${name}`);
    isDraining = wanted;
  }

  async function logs(
    allocationId: AllocationId,
    { isFollowed, signal, output = null }: LogOptions,
  ): Promise<AsyncIterable<Uint8Array> | null> {
    const isOn = () => isFollowed && !signal.aborted;
    return allocations.readLog(allocationId, { output, isFollowed: isOn });
  }

  function startNext(): void {
    const [next] = pending;
    if (isClosing || next === undefined || allocations.ids().length >= options.slots) return;
    pending.shift();
    void allocations.start(next.allocationId, next.enrolmentToken).finally(startNext);
  }

  function onEnd(allocationId: AllocationId, outcome: AllocationStatus): void {
    ended.set(allocationId, outcome);
    for (const oldest of ended.keys()) {
      if (ended.size <= ENDED_KEPT) break;
      ended.delete(oldest);
    }
    for (const listener of [...listeners]) listener(allocationId);
    startNext();
  }

  function statusNow(allocationId: AllocationId): AllocationStatus | null {
    const status = allocations.status(allocationId);
    if (status === "running") return "running";
    const isWaiting = pending.some((placement) => placement.allocationId === allocationId);
    if (isWaiting || status === "starting") return "pending";
    return ended.get(allocationId) ?? null;
  }

  async function stop(allocationId: AllocationId): Promise<void> {
    const waiting = pending.findIndex((placement) => placement.allocationId === allocationId);
    if (waiting !== -1) {
      pending.splice(waiting, 1);
      onEnd(allocationId, "failed");
    }
    await allocations.end(allocationId);
  }

  async function close(): Promise<void> {
    isClosing = true;
    pending.length = 0;
    await allocations.endAll();
  }
}

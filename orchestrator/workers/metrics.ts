/** The workers as Prometheus text: sums by pool and status, never a worker's name in a label. */
import { Gauge, Registry } from "prom-client";
import type { WorkerList } from "../contract/workers.ts";

const STATUSES = ["ready", "draining", "down"] as const;

export function createWorkerMetrics(list: () => Promise<WorkerList>): () => Promise<string> {
  const register = new Registry();
  const registers = [register];
  const gauge = <Names extends readonly string[]>(name: string, help: string, labelNames: Names) =>
    new Gauge({ name: `autocode_workers${name}`, help, labelNames, registers });
  const count = gauge("", "Workers", ["pool", "status"] as const);
  const slots = gauge("_slots", "Slots of workers that are ready", ["pool"] as const);
  const used = gauge("_slots_used", "Allocations that workers have", ["pool"] as const);
  const pending = gauge("_pending_allocations", "Allocations that wait for a worker", [] as const);
  const ratio = gauge(
    "_availability_ratio",
    "The part of the last 30 days that the workers answered, of 0 to 1",
    [] as const,
  );
  let turn: Promise<unknown> = Promise.resolve();
  // One collection at a time: two would mix their figures.
  return () => {
    const mine = turn.then(collect);
    turn = mine.catch(() => {});
    return mine;
  };

  async function collect(): Promise<string> {
    const { workers, pending: waiting, availability } = await list();
    register.resetMetrics();
    for (const pool of new Set(workers.map((worker) => worker.pool))) {
      const own = workers.filter((worker) => worker.pool === pool);
      for (const status of STATUSES) {
        count.set({ pool, status }, own.filter((worker) => worker.status === status).length);
      }
      const ready = own.filter(({ status }) => status === "ready");
      slots.set({ pool }, sum(ready.map((worker) => worker.slots)));
      used.set({ pool }, sum(own.map((worker) => worker.used)));
    }
    pending.set(waiting);
    if (availability !== null) ratio.set(availability);
    return register.metrics();
  }
}

function sum(figures: readonly number[]): number {
  return figures.reduce((total, figure) => total + figure, 0);
}

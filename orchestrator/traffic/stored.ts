/** A store that tells, in its own process, what it has just taken: what live views are fed by. */
import type { FlowRecord } from "../contract/flows.ts";
import type { FlowId } from "../runtime/ids.ts";
import { type FlowLine, wholeOf } from "./flow-line.ts";
import type { Rejected, Traffic } from "./traffic.ts";

export interface WatchedTraffic {
  /** The same store; give it to whoever appends. */
  readonly traffic: Traffic;
  /** Calls the listener with what is durable now; a record that is appended again comes again. */
  onStored(listener: (flows: readonly FlowRecord[]) => void): Disposable;
}

export function watchStored(traffic: Traffic): WatchedTraffic {
  const listeners = new Set<(flows: readonly FlowRecord[]) => void>();
  const { appendLines: storeLines } = traffic;
  const lines = storeLines === undefined ? {} : { appendLines };
  return { traffic: { ...traffic, append, ...lines }, onStored };

  async function append(flows: readonly FlowRecord[]): Promise<Rejected> {
    const rejected = await traffic.append(flows);
    tell(flows, rejected);
    return rejected;
  }

  async function appendLines(given: readonly FlowLine[]): Promise<Rejected> {
    const rejected = (await storeLines?.(given)) ?? new Map<FlowId, string>();
    // Lines are read whole for those who want to know.
    if (listeners.size > 0) tell(given.map(wholeOf), rejected);
    return rejected;
  }

  function tell(flows: readonly FlowRecord[], rejected: Rejected): void {
    const taken = flows.filter(({ id }) => !rejected.has(id as FlowId));
    if (taken.length > 0) for (const listener of listeners) listener(taken);
  }

  function onStored(listener: (flows: readonly FlowRecord[]) => void): Disposable {
    listeners.add(listener);
    return { [Symbol.dispose]: () => void listeners.delete(listener) };
  }
}

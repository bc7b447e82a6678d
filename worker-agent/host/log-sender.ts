/** Sends the logs of allocations that the orchestrator asks for, for as long as it does. */
import type { HostOrders } from "../../orchestrator/contract/hosts.ts";
import { type Allocations, isAllocationId } from "../allocations.ts";
import { messageOf } from "../faults.ts";
import type { HostClient } from "./client.ts";

type Wanted = HostOrders["logs"][number];

export function createLogSender(
  client: Pick<HostClient, "putLog">,
  allocations: Pick<Allocations, "readLog">,
  log: (message: string, fields: Record<string, unknown>) => void,
) {
  const sending = new Map<string, AbortController>();
  return { ids: () => [...sending.keys()], follow, close: () => follow([], "") };

  /** Begins what is new among them, and ends what is not among them. */
  function follow(wanted: readonly Wanted[], workerToken: string): void {
    const ids = new Set(wanted.map(({ request_id: id }) => id));
    for (const [id, controller] of sending) {
      if (ids.has(id)) continue;
      controller.abort();
      sending.delete(id);
    }
    for (const request of wanted) {
      if (sending.has(request.request_id)) continue;
      const controller = new AbortController();
      sending.set(request.request_id, controller);
      send(request, workerToken, controller.signal).catch((error: unknown) => {
        log("log not sent", { request_id: request.request_id, error: messageOf(error) });
      });
    }
  }

  async function send(
    { request_id: requestId, allocation_id: id, is_followed: isFollowed, output }: Wanted,
    workerToken: string,
    signal: AbortSignal,
  ): Promise<void> {
    if (isAllocationId(id)) {
      const isOn = () => isFollowed && !signal.aborted;
      const pieces = await allocations.readLog(id, { output: output ?? null, isFollowed: isOn });
      for await (const bytes of pieces ?? []) {
        if (signal.aborted) return;
        await client.putLog(workerToken, requestId, bytes, false);
      }
    }
    if (!signal.aborted) await client.putLog(workerToken, requestId, new Uint8Array(), true);
  }
}

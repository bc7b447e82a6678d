/** A gateway's ports, with a trigger at the points where a process may die. */
import type { GatewayDeps } from "../../proxy/gateway/gateway.ts";
import type { GatewaySetup, KillPoint } from "./points.ts";

type Parts = Pick<GatewayDeps, "ledger" | "calls" | "upstream">;

/** An extension reserves output alone, a call its whole input first: that tells them apart. */
export const EXTENSION_NANOS_MAX = 400n;

/** `parts`, which kill this process when it comes by the point for the nth time. */
export function withTrigger(parts: Parts, kill: GatewaySetup["kill"]): Parts {
  if (kill === null) return parts;
  const { ledger, calls, upstream } = parts;
  let left = kill.nth;
  return {
    ledger: {
      ...ledger,
      reserve: async (reservation) => {
        const isExtension = reservation.amountNanos < EXTENSION_NANOS_MAX;
        if (!isExtension) pass("reserve_before");
        const asked = ledger.reserve(reservation);
        // The statement is on its way, and will be carried out, when the process dies.
        if (isExtension) setImmediate(() => pass("extension"));
        const result = await asked;
        if (!isExtension && result.outcome === "reserved") pass("reserve_after");
        return result;
      },
    },
    calls: {
      ...calls,
      finish: async (call) => {
        pass("settle_before");
        const result = await calls.finish(call);
        pass("settle_after");
        return result;
      },
    },
    upstream: {
      ...upstream,
      send: (request, listener) =>
        upstream.send(request, {
          ...listener,
          onData: (chunk) => {
            pass("mid_stream");
            listener.onData(chunk);
          },
        }),
    },
  };

  function pass(point: KillPoint): void {
    if (point !== kill?.point) return;
    left -= 1;
    if (left === 0) process.kill(process.pid, "SIGKILL");
  }
}

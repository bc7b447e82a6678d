/**
 * A reserved call whose model server is there: an engine of ours that comes by itself is waited for
 * first, for as long as its client and the gateway are there.
 *
 * Invariant: what is reserved for a call that is not forwarded is released.
 */
import type { IncomingMessage, ServerResponse } from "node:http";
import type { Wire } from "../../orchestrator/contract/agents.ts";
import type { Grant } from "../../orchestrator/keys/keys.ts";
import type { CallId, KeyId } from "../../orchestrator/runtime/ids.ts";
import { presentOf } from "./draft.ts";
import type { GatewayDeps, GatewayOptions, GatewayState } from "./gateway.ts";
import { type PrepareResult, prepareCall } from "./prepare.ts";
import type { HeldReservation } from "./reservations.ts";

export interface CallExchange {
  incoming: IncomingMessage;
  response: ServerResponse;
  /** Of the gateway: aborts when it closes. */
  closing: Pick<AbortController, "signal">;
  /** The key looked up anew; null when it was refused, and its client told. */
  again(): Promise<{ keyId: KeyId; grant: Grant } | null>;
}

/** `waitedMs`: for an engine. Null when the client left or was answered. */
export type ServedCall = (PrepareResult & { waitedMs: number }) | null;

export async function prepareServed(
  deps: GatewayDeps,
  options: GatewayOptions,
  state: GatewayState,
  caller: { id: CallId; keyId: KeyId; grant: Grant; wire: Wire },
  bytes: Buffer,
  exchange: CallExchange,
): Promise<ServedCall> {
  const { incoming, response } = exchange;
  const mayWait = deps.untilPresent !== undefined;
  let prepared = await prepareCall(deps, options, state, caller, bytes, mayWait);
  let waitedMs = 0;
  const coming = prepared.outcome === "refused" ? prepared.refusal.coming : undefined;
  if (mayWait && coming !== undefined) {
    const fromMs = performance.now();
    await wait(deps, caller.grant, coming, exchange);
    const after = response.destroyed ? null : await exchange.again();
    if (after === null) return null;
    waitedMs = performance.now() - fromMs;
    prepared = await prepareCall(deps, options, state, { ...caller, ...after }, bytes, false);
  }
  if (prepared.outcome === "refused") return { ...prepared, waitedMs };
  const { call } = prepared;
  if (response.destroyed || incoming.socket.destroyed) {
    // Its client left between the reservation and here: nothing is forwarded.
    await release(deps, state, call.reservations);
    return null;
  }
  const candidates = presentOf(deps, call.candidates);
  if (candidates === call.candidates) return { ...prepared, waitedMs };
  if (!("status" in candidates)) {
    return { outcome: "prepared", call: { ...call, candidates }, waitedMs };
  }
  await release(deps, state, call.reservations);
  return { outcome: "refused", refusal: candidates, waitedMs };
}

async function wait(
  { untilPresent }: Pick<GatewayDeps, "untilPresent">,
  grant: Grant,
  provider: string,
  { response, closing }: Pick<CallExchange, "response" | "closing">,
): Promise<void> {
  const gone = new AbortController();
  const leave = () => gone.abort();
  response.once("close", leave);
  if (response.destroyed) leave();
  await untilPresent?.(provider, grant, AbortSignal.any([closing.signal, gone.signal]));
  response.off("close", leave);
}

async function release(
  { ids, ledger, log }: Pick<GatewayDeps, "ids" | "ledger" | "log">,
  { finisher }: Pick<GatewayState, "finisher">,
  reservations: readonly HeldReservation[],
): Promise<void> {
  const releases = reservations.map(({ pendingId }) => {
    const id = ids.next("transfer");
    return { op: "release" as const, id, pendingId };
  });
  await ledger.resolveTogether(releases).catch((error: unknown) => {
    log.warn({ err: error }, "reservation not released yet");
    for (const { pendingId } of reservations) finisher.forget(pendingId);
  });
}

/**
 * Which entry of the ledger a recorded flow belongs to. Pure.
 *
 * Invariant: a flow that may have cost something is matched to a transfer that exists, or it is
 * unmatched; in doubt it has cost something.
 */
import type { FlowRecord } from "../contract/flows.ts";
import { isCallPath, isLlmHost } from "./paid-hosts.ts";

/** What of the ledger the flows at hand name. */
export interface LedgerFacts {
  /** The transfer of each call that has ended, by the call's id. */
  readonly transferOf: ReadonlyMap<string, string>;
  /** Those that exist. */
  readonly transfers: ReadonlySet<string>;
}

export type Match =
  /** It cost nothing. */
  | { readonly outcome: "free" }
  | { readonly outcome: "matched"; readonly callId: string | null; readonly transferId: string }
  | {
      readonly outcome: "unmatched";
      /** For a person: one sentence. */
      readonly detail: string;
      /** Its entry may still be on its way: look again. */
      readonly mayFollow: boolean;
    };

const FREE: Match = { outcome: "free" };
const CALL_ID = /^call_[0-7][0-9a-hjkmnp-tv-z]{25}$/;

/** @param providers addresses of the installation's and the projects' own providers. */
export function matchFlow(
  flow: FlowRecord,
  ledger: LedgerFacts,
  providers: readonly string[],
): Match {
  if (flow.decision.action === "deny" || flow.decision.reason === "replayed") return FREE;
  if (flow.door === "gateway") return matchCall(flow, flow.call_id, ledger);
  const { reason } = flow.decision;
  if (reason === "gateway") return matchThroughProxy(flow, ledger);
  return matchForeign(flow, providers);
}

/** The call of a flow: as it says, or as our gateway named it in its answer. */
export function callIdOf(flow: FlowRecord): string | null {
  if (flow.call_id !== null) return flow.call_id;
  if (flow.door !== "egress" || flow.decision.reason !== "gateway") return null;
  const named = (flow.response?.headers ?? []).find(([name]) => /^x-request-id$/i.test(name))?.[1];
  return named !== undefined && CALL_ID.test(named) ? named : null;
}

/** At the gateway's door nothing is forwarded without a reservation, and it names it. */
function matchCall(flow: FlowRecord, callId: string | null, ledger: LedgerFacts): Match {
  const transferId = flow.transfer_id ?? ledger.transferOf.get(callId ?? "") ?? null;
  if (transferId === null) {
    // Refused before it was forwarded, or nothing to pay for: a list of models, a count.
    if (callId === null || flow.cost === null) return FREE;
    const detail = `the call ${callId} cost something and names no transfer`;
    return { outcome: "unmatched", detail, mayFollow: true };
  }
  if (ledger.transfers.has(transferId)) return { outcome: "matched", callId, transferId };
  const detail = `its transfer ${transferId} is not in the ledger`;
  return { outcome: "unmatched", detail, mayFollow: true };
}

/** On its way to our gateway, which answered with the call's id. */
function matchThroughProxy(flow: FlowRecord, ledger: LedgerFacts): Match {
  if (flow.request === null || !isCallPath(flow.request.path)) return FREE;
  const status = flow.response?.status ?? null;
  const callId = callIdOf(flow);
  const transferId = callId === null ? undefined : ledger.transferOf.get(callId);
  if (transferId !== undefined) {
    if (ledger.transfers.has(transferId)) return { outcome: "matched", callId, transferId };
  } else if (status !== null && status >= 400) {
    // The gateway refused it, or its model server did.
    return FREE;
  }
  const detail =
    callId === null
      ? "it went to the gateway, whose answer names no call"
      : `its call ${callId} has no entry in the ledger`;
  return { outcome: "unmatched", detail, mayFollow: callId !== null };
}

/** Around the gateway: whatever it cost, nothing was reserved for it. */
function matchForeign(flow: FlowRecord, providers: readonly string[]): Match {
  const { host, port } = flow.server;
  const name = flow.server.server_name ?? host;
  if (!isLlmHost(name, port, providers) && !isLlmHost(host, port, providers)) return FREE;
  const around = "around the gateway: nothing was reserved for it";
  if (flow.kind === "tunnel") {
    if ((flow.sent_count ?? 0) + (flow.received_count ?? 0) === 0) return FREE;
    return unmatched(`bytes were passed through unread to ${name}, ${around}`);
  }
  if (flow.request === null) return FREE;
  if (flow.kind !== "websocket" && flow.request.method !== "POST") return FREE;
  if (flow.kind !== "websocket" && !isCallPath(flow.request.path)) return FREE;
  const status = flow.response?.status ?? null;
  if (status !== null && status >= 400) return FREE;
  const using = flow.credentials.length > 0 ? ` with ${flow.credentials.join(", ")}` : "";
  return unmatched(`${flow.request.method} ${flow.request.path} of ${name}${using}, ${around}`);
}

function unmatched(detail: string): Match {
  return { outcome: "unmatched", detail: detail.slice(0, 1_000), mayFollow: false };
}

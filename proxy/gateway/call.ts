/**
 * A call from its reservation to its record: reserve the ceiling, forward, settle what it cost,
 * answer. Nothing is forwarded before it is reserved, and every reservation is ended here or, if
 * this process dies, by its expiry.
 */
import type { IncomingMessage, ServerResponse } from "node:http";
import { promisify } from "node:util";
import { gzip } from "node:zlib";
import type { PriceRates } from "../../models/rates.ts";
import type { Wire } from "../../orchestrator/contract/agents.ts";
import type { Grant, GrantedModel } from "../../orchestrator/keys/keys.ts";
import type { AccountBalance } from "../../orchestrator/ledger/ledger.ts";
import type { EpochMs } from "../../orchestrator/runtime/clock.ts";
import type { CallId, KeyId, TransferId } from "../../orchestrator/runtime/ids.ts";
import { type Bill, billCall } from "./bill.ts";
import type { FinishedCall } from "./calls.ts";
import { estimateAnswer } from "./estimate.ts";
import { type ExchangeResult, runExchange } from "./exchange.ts";
import type { GatewayDeps, GatewayOptions, GatewayState } from "./gateway.ts";
import { clientHeaders, upstreamHeaders } from "./headers.ts";
import type { Refusal } from "./refusal.ts";
import { type CallRequest, hasUsageChunk, rewriteRequest } from "./request.ts";
import { endReservations, type HeldReservation, heldAmount, type Unit } from "./reservations.ts";
import { type Provider, UPSTREAM_PATHS } from "./upstream.ts";
import type { Usage } from "./usage.ts";

export interface PreparedCall {
  id: CallId;
  keyId: KeyId;
  grant: Grant;
  wire: Wire;
  model: GrantedModel;
  provider: Provider;
  rates: PriceRates;
  request: CallRequest;
  startedAtMs: EpochMs;
  /** Made before it is forwarded. */
  reservations: readonly HeldReservation[];
  inputTokens: number;
  /** Of each answer. */
  outputTokens: number;
}

const compress = promisify(gzip);

/** Forwards a call that is reserved, and answers its client. Never rejects. */
export async function forwardCall(
  deps: GatewayDeps,
  options: GatewayOptions,
  state: GatewayState,
  call: PreparedCall,
  incoming: IncomingMessage,
  response: ServerResponse,
  refuse: (refusal: Refusal) => void,
): Promise<void> {
  const { ledger, clock, ids, log } = deps;
  const { grant, request, wire, provider } = call;
  const remaining = ledger.balance(grant.budget).catch(() => null);
  const result = await runExchange(
    deps,
    {
      upstream: {
        provider,
        path: UPSTREAM_PATHS[wire],
        body: rewriteRequest(request, {
          upstreamName: call.model.upstreamName,
          outputTokens: call.outputTokens,
          provider,
        }),
        headers: upstreamHeaders(incoming.headers, call.id),
      },
      wire,
      isStream: request.isStream,
      withoutUsageChunk: request.isStream && hasUsageChunk(wire) && !request.wantsUsage,
      deadlineMs: options.callTimeoutMs,
      bodyBytesMax: options.answerBytesMax,
      recordBytesMax: options.recordBytesMax,
      streamHead: async (headers) => ({
        ...clientHeaders(headers, call.id),
        "cache-control": "no-cache",
        ...remainingHeader(await remaining),
      }),
    },
    response,
    incoming.socket,
  );

  const held = call.reservations;
  const amountNanos = heldAmount(held, "money");
  const bill = billCall(
    { wire, ...result },
    {
      ...call,
      amountNanos,
      outputTokens:
        (call.outputTokens + (request.isEchoed ? call.inputTokens : 0)) * request.choices,
    },
    () => estimateAnswer(wire, result.recorded, result.isStreamed, result.beyondBytes),
  );
  const isSettled = bill.resolution === "settle";
  const tokens = isSettled ? chargedTokens(bill.usage, heldAmount(held, "tokens")) : null;
  const used = { money: isSettled ? bill.costNanos : null, tokens };
  const refusal = refusalOf(result);
  const finished: FinishedCall = {
    id: call.id,
    trialId: grant.trialId,
    keyId: call.keyId,
    transferId: firstOf(call, "money") as TransferId,
    tokenTransferId: firstOf(call, "tokens"),
    reservations: endReservations(held, used, () => ids.next("transfer")),
    wire,
    side: call.model.side,
    model: call.model.name,
    modelRequested: request.model.slice(0, 200),
    provider: provider.name,
    priceVersion: call.model.price.version,
    reservedNanos: amountNanos,
    status: refusal?.status ?? result.status ?? 499,
    startedAtMs: call.startedAtMs,
    firstByteAtMs: result.firstByteAtMs,
    endedAtMs: clock.now(),
    ...bill,
  };
  const settlement = settle(finished);
  state.keys.settling(call.keyId, settlement);
  const balance = await settlement;
  answer(balance);
  record(finished);

  /** The balance after it; null when the ledger could not be written or read yet. */
  async function settle(ended: FinishedCall): Promise<AccountBalance | null> {
    const done = await state.finisher.finish(ended);
    if (done === null) return null;
    if (done.outcome === "expired") log.warn({ call_id: ended.id }, "reservation had expired");
    return ledger.balance(grant.budget).catch((error: unknown) => {
      log.warn({ err: error, call_id: ended.id }, "balance not read");
      return null;
    });
  }

  function answer(balance: AccountBalance | null): void {
    if (result.ending === "client_gone") return;
    if (result.isStreamed) {
      if (result.ending === "completed") response.end();
      else response.destroy();
      return;
    }
    if (refusal !== null) {
      refuse(refusal);
      return;
    }
    response.writeHead(result.status ?? 200, {
      ...clientHeaders(result.headers, call.id),
      "content-length": result.body.length,
      "x-autocode-cost-nanos": String(bill.costNanos),
      ...remainingHeader(balance),
    });
    response.end(result.body);
  }

  function record(ended: FinishedCall): void {
    log.info(
      {
        call_id: ended.id,
        trial_id: ended.trialId,
        model: ended.model,
        status: ended.status,
        cost_nanos: String(ended.costNanos),
        is_estimated: ended.isEstimated,
        ...(ended.error === null ? {} : { error: ended.error }),
      },
      "call ended",
    );
    countCall(state, grant, ended, bill);
    state.tell("onCall", () => deps.hooks?.onCall?.(ended, grant));
    const kept = keepBodies(request.bytes, result);
    state.background(
      kept.then(([requestGzip, responseGzip]) =>
        deps.calls.attach(ended.id, { requestGzip, responseGzip }),
      ),
    );
    void settlement.then((balance) => {
      if (balance === null) return;
      for (const percent of state.thresholds.passed(balance, ended.costNanos)) {
        state.tell("onThreshold", () => deps.hooks?.onThreshold?.(grant, percent, balance));
      }
    });
  }

  async function keepBodies(sent: Buffer, { recorded, beyondBytes }: ExchangeResult) {
    const isKept = sent.length <= options.recordBytesMax;
    return Promise.all([
      isKept ? compress(sent) : null,
      beyondBytes === 0 ? compress(recorded) : null,
    ]);
  }
}

/** What the client is told in place of an answer that is not fit to pass on; null to pass it on. */
function refusalOf({ status, ending, isStreamed }: ExchangeResult): Refusal | null {
  if (ending === "client_gone" || isStreamed) return null;
  if (status === null || ending !== "completed") {
    const message = "The model server did not finish its answer. Try again.";
    return { status: 502, code: "upstream_failed", message };
  }
  // Its word on our credential or address is not for the worker, whose own key is good.
  if ([401, 402, 403, 404, 407].includes(status) || (status >= 300 && status < 400)) {
    const message = `The model server refused the gateway (status ${status}); see its settings.`;
    return { status: 502, code: "upstream_failed", message, isFinal: true };
  }
  return null;
}

function remainingHeader(balance: AccountBalance | null): Record<string, string> {
  if (balance === null) return {};
  return { "x-autocode-remaining-nanos": String(balance.availableNanos) };
}

function firstOf({ reservations }: PreparedCall, unit: Unit): TransferId | null {
  return reservations.find((held) => held.unit === unit)?.pendingId ?? null;
}

/** What a token budget is charged: every token of input and output, at most what is reserved. */
function chargedTokens(usage: Usage, reserved: bigint): bigint {
  const { inputTokens, cacheReadTokens, cacheWriteTokens, outputTokens } = usage;
  const total = BigInt(inputTokens + cacheReadTokens + cacheWriteTokens + outputTokens);
  return total < reserved ? total : reserved;
}

function countCall(state: GatewayState, grant: Grant, ended: FinishedCall, bill: Bill): void {
  const { metrics } = state;
  const { wire, side, usage } = ended;
  const status = String(ended.status);
  metrics.count("autocode_gateway_calls_total", {
    wire,
    side,
    status,
    resolution: ended.resolution,
    is_estimated: String(bill.isEstimated),
  });
  const kinds = {
    input: usage.inputTokens,
    cache_read: usage.cacheReadTokens,
    cache_write: usage.cacheWriteTokens,
    output: usage.outputTokens,
  };
  for (const [kind, tokens] of Object.entries(kinds)) {
    metrics.count("autocode_gateway_tokens_total", { kind, side }, tokens);
  }
  const { currency } = grant;
  metrics.count("autocode_gateway_cost_nanos_total", { currency }, ended.costNanos);
  metrics.count("autocode_gateway_call_ms_total", { wire }, ended.endedAtMs - ended.startedAtMs);
}

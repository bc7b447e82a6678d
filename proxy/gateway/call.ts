/**
 * A call from its reservation to its record: reserve the ceiling, forward, settle what it cost,
 * answer. Nothing is forwarded before it is reserved, and every reservation is ended here or, if
 * this process dies, by its expiry.
 */
import type { IncomingMessage, ServerResponse } from "node:http";
import { gpuMs } from "../../models/rates.ts";
import type { Nanos } from "../../orchestrator/money.ts";
import type { EpochMs } from "../../orchestrator/runtime/clock.ts";
import type { TransferId } from "../../orchestrator/runtime/ids.ts";
import { attemptCall, type Candidate } from "./attempts.ts";
import { type Bill, billCall, isCounted } from "./bill.ts";
import { endCall } from "./call-end.ts";
import type { FinishedCall } from "./calls.ts";
import { allShut, type Draft } from "./draft.ts";
import { type Estimate, estimateAnswer } from "./estimate.ts";
import { countInput, countText } from "./exact-count.ts";
import {
  type ExchangeRequest,
  type ExchangeResult,
  type ResponseHeaders,
  runExchange,
} from "./exchange.ts";
import { type Answered, captured, readAsked } from "./flow.ts";
import type { GatewayDeps, GatewayOptions, GatewayState } from "./gateway.ts";
import { clientHeaders, upstreamHeaders } from "./headers.ts";
import { QUOTA_WAIT_MS } from "./provider-health.ts";
import { type Refusal, refusalBody, refusalHeaders } from "./refusal.ts";
import { hasUsageChunk, rewriteRequest } from "./request.ts";
import { endReservations, type HeldReservation, heldAmount, type Unit } from "./reservations.ts";
import { createSlices, type ReserveOutput } from "./slices.ts";
import { UPSTREAM_PATHS } from "./upstream.ts";
import { totalTokens, type Usage } from "./usage.ts";

export interface PreparedCall extends Draft {
  /** Made before it is forwarded. */
  reservations: readonly HeldReservation[];
  /** What the trial's budget had left after them. */
  availableNanos: Nanos;
  /** The output that they pay for, of all answers together, and what pays for more of it. */
  paidTokens: number;
  extend: ReserveOutput;
  /** Input that the answers repeat, and that may be counted as output. */
  echoedTokens: number;
}

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
  const { clock, ids, random } = deps;
  const { grant, request, wire } = call;
  const ceilingTokens = call.outputTokens * request.choices;
  const slices =
    call.paidTokens < ceilingTokens
      ? createSlices(call.extend, call.reservations, call.paidTokens, ceilingTokens)
      : null;
  const { socket } = incoming;
  const { result, candidate, attempts, limitedUntilMs } = await attemptCall(
    { health: state.health, clock, random },
    call.candidates,
    {
      timeoutMs: options.callTimeoutMs,
      backoffMs: options.backoffMs,
      isGone: () => socket.destroyed,
    },
    (asked, deadlineMs) => {
      return runExchange(deps, exchangeWith(asked, deadlineMs), response, socket);
    },
  );

  const endedAtMs = performance.now();
  const held = (await slices?.close()) ?? call.reservations;
  const amountNanos = heldAmount(held, "money");
  const facts = { wire, ...result };
  const counted = isCounted(facts)
    ? NOTHING_COUNTED
    : await countAnswer(deps, call, candidate, result);
  const bill = billCall(
    facts,
    {
      rates: candidate.rates,
      inputTokens: counted.inputTokens ?? call.inputTokens,
      amountNanos,
      outputTokens: (slices?.paidTokens() ?? ceilingTokens) + call.echoedTokens,
    },
    () => counted,
  );
  const isSettled = bill.resolution === "settle";
  const tokens = isSettled ? chargedTokens(bill.usage, heldAmount(held, "tokens")) : null;
  const limits = { ...options.keyLimits, ...grant.limits };
  state.limits.used(call.keyId, limits, totalTokens(bill.usage), clock.now());
  const used = { money: isSettled ? bill.costNanos : null, tokens };
  const refusal = limitRefusal(limitedUntilMs) ?? refusalOf(result);
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
    provider: candidate.provider.name,
    priceVersion: candidate.price.version,
    reservedNanos: amountNanos,
    status: refusal?.status ?? result.status ?? 499,
    startedAtMs: call.startedAtMs,
    firstByteAtMs: result.firstByteAtMs,
    endedAtMs: clock.now(),
    gpuMs: gpuMs(bill.usage, candidate.price),
    attempts,
    ...bill,
  };
  endCall(deps, options, state, finished, grant, {
    asked: readAsked(incoming),
    request: request.bytes,
    provider: candidate.provider,
    answered: answeredOf(call, result, refusal, options.recordBytesMax),
  });
  const remainingNanos = remainingAfter(call, bill);
  answer();
  state.metrics.addedAfter(performance.now() - endedAtMs);

  function exchangeWith(asked: Candidate, deadlineMs: number): ExchangeRequest {
    const { provider, upstreamName } = asked;
    const { outputTokens } = call;
    return {
      upstream: {
        provider,
        path: UPSTREAM_PATHS[wire],
        body: rewriteRequest(request, { upstreamName, outputTokens, provider }),
        headers: upstreamHeaders(incoming.headers, call.id),
      },
      wire,
      slices,
      isStream: request.isStream,
      withoutUsageChunk: request.isStream && hasUsageChunk(wire) && !request.wantsUsage,
      deadlineMs,
      bodyBytesMax: options.answerBytesMax,
      recordBytesMax: options.recordBytesMax,
      streamHead: async (headers) => {
        // A server that is being tried serves again: the others need not wait for the stream's end.
        state.health.told(asked, { kind: "well" }, clock.now());
        return streamHead(headers, call);
      },
    };
  }

  /** A wait that is long is told at once to who pauses the trial, and ends the CLI's own tries. */
  function limitRefusal(untilMs: EpochMs | null): Refusal | null {
    const nowMs = clock.now();
    if (untilMs === null || untilMs - nowMs < QUOTA_WAIT_MS) return null;
    return allShut(deps, state, grant, call.candidates, nowMs);
  }

  function answer(): void {
    if (result.ending === "client_gone") return;
    if (result.isStreamed) {
      if (result.ending === "completed" || result.closing !== null) {
        response.write(result.closing?.text(bill.usage, request.wantsUsage) ?? "");
        response.end(result.isBetweenEvents ? costComment(bill, remainingNanos) : "");
      } else {
        response.destroy();
      }
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
      "x-autocode-remaining-nanos": String(remainingNanos),
    });
    response.end(result.body);
  }
}

/** What the client was answered: what the server said, or we in its place. */
function answeredOf(
  { id, wire }: PreparedCall,
  { status, headers, recorded, beyondBytes }: ExchangeResult,
  refusal: Refusal | null,
  keptMax: number,
): Answered | null {
  if (refusal !== null) {
    const envelope = wire === "anthropic.messages" ? "anthropic" : "openai";
    const told = Buffer.from(refusalBody(refusal, envelope, id));
    const body = captured(told, keptMax);
    return { status: refusal.status, headers: refusalHeaders(refusal, id), body };
  }
  if (status === null) return null;
  const body = captured(recorded, keptMax, beyondBytes);
  return { status, headers: clientHeaders(headers, id), body };
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

/**
 * What the trial's budget has left of what it had when this call was reserved: less what calls that
 * were reserved since hold.
 */
function remainingAfter(
  { availableNanos, reservations }: PreparedCall,
  { costNanos }: Bill,
): Nanos {
  const remaining = availableNanos + heldAmount(reservations, "money") - costNanos;
  return remaining < 0n ? 0n : remaining;
}

/** `inputTokens`: null where the bound stands. */
type Counted = Estimate & { inputTokens: number | null };

const NOTHING_COUNTED: Counted = {
  inputTokens: null,
  outputTokens: 0,
  text: null,
  hasOutput: false,
  error: null,
};

/** What passed, where its server does not say: by its tokenizer, or else by our count. */
async function countAnswer(
  { upstream }: GatewayDeps,
  { wire, request, inputTokens }: PreparedCall,
  candidate: Candidate,
  result: ExchangeResult,
): Promise<Counted> {
  const { recorded, isStreamed, beyondBytes, countedTokens } = result;
  const estimate = estimateAnswer(wire, recorded, isStreamed, beyondBytes);
  const { text, hasOutput } = estimate;
  const bound = Math.min(estimate.outputTokens, countedTokens ?? estimate.outputTokens);
  if (!hasOutput) return { ...estimate, outputTokens: bound, inputTokens: null };
  const [input, output] = await Promise.all([
    countInput(upstream, [candidate], request),
    text === null ? null : countText(upstream, candidate, text),
  ]);
  return {
    ...estimate,
    outputTokens: Math.min(bound, output ?? bound),
    inputTokens: input === null ? null : Math.min(input, inputTokens),
  };
}

function streamHead(headers: ResponseHeaders, { id, availableNanos }: PreparedCall) {
  return {
    ...clientHeaders(headers, id),
    "cache-control": "no-cache",
    "x-autocode-remaining-nanos": String(availableNanos),
  };
}

/** Streams have no headers left to say it in; parsers of event streams pass comments over. */
function costComment({ costNanos }: Bill, remainingNanos: Nanos): string {
  return `: autocode cost_nanos=${costNanos} remaining_nanos=${remainingNanos}\n\n`;
}

function firstOf({ reservations }: PreparedCall, unit: Unit): TransferId | null {
  return reservations.find((held) => held.unit === unit)?.pendingId ?? null;
}

/** What a token budget is charged: every token of input and output, at most what is reserved. */
function chargedTokens(usage: Usage, reserved: bigint): bigint {
  const total = BigInt(totalTokens(usage));
  return total < reserved ? total : reserved;
}

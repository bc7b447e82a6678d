/** From a request's bytes to a call that may be reserved: all that needs no ledger. */
import { readRates } from "../../models/rates.ts";
import type { Wire } from "../../orchestrator/contract/agents.ts";
import type { Grant, GrantedModel } from "../../orchestrator/keys/keys.ts";
import type { EpochMs } from "../../orchestrator/runtime/clock.ts";
import type { CallId, KeyId } from "../../orchestrator/runtime/ids.ts";
import type { Candidate } from "./attempts.ts";
import { inputCeiling, outputThatFits } from "./ceiling.ts";
import type { GatewayDeps, GatewayOptions, GatewayState } from "./gateway.ts";
import { ScanError } from "./json-scan.ts";
import { QUOTA_WAIT_MS } from "./provider-health.ts";
import { providerAway, providerBusy, quotaUsedUp, type Refusal, serverFailing } from "./refusal.ts";
import { type CallRequest, checkHosted, RequestError, readRequest } from "./request.ts";
import { resolveModel } from "./resolve-model.ts";

export interface Draft {
  id: CallId;
  keyId: KeyId;
  grant: Grant;
  wire: Wire;
  model: GrantedModel;
  /** Who serves it, in the order in which they are asked; at least one. */
  candidates: readonly Candidate[];
  request: CallRequest;
  startedAtMs: EpochMs;
  inputTokens: number;
  /** Of each answer. */
  outputTokens: number;
}

/** What the gateway may add to a request: the ceiling, the usage wish, a longer model name. */
const REWRITE_BYTES = 512;

/**
 * @param mayWait answers with what to wait for, where the model's own provider is away and comes
 * by itself, though others serve the model too: nobody wakes it but who waits for it.
 */
export function draftCall(
  deps: GatewayDeps,
  options: GatewayOptions,
  state: GatewayState,
  { id, keyId, grant, wire }: { id: CallId; keyId: KeyId; grant: Grant; wire: Wire },
  bytes: Buffer,
  mayWait: boolean,
): Draft | Refusal {
  let request: CallRequest;
  try {
    request = readRequest(wire, bytes);
  } catch (error) {
    return invalid(error);
  }
  const model = resolveModel(grant, request.model);
  if (model === null) {
    const names = grant.models.map(({ name }) => name).join(", ");
    const asked = request.model.slice(0, 100);
    const message = `The model "${asked}" is not of this key; use normal, thinking, ${names}`;
    return { status: 404, code: "model_not_found", message };
  }
  if (!model.wires.includes(wire)) {
    const served = model.wires.join(", ");
    const message = `"${model.name}" is not served over ${wire}, only over ${served}`;
    return { status: 400, code: "invalid_request", message };
  }
  const candidates = candidatesOf(deps, grant, model, mayWait);
  if ("status" in candidates) return candidates;
  if (candidates.some(({ provider }) => provider.isHosted)) {
    try {
      checkHosted(request);
    } catch (error) {
      return invalid(error);
    }
  }
  const startedAtMs = deps.clock.now();
  const shut = allShut(deps, state, grant, candidates, startedAtMs);
  if (shut !== null) return shut;

  const nameBytes = Math.max(...candidates.map(({ upstreamName }) => upstreamName.length));
  const byteCount = bytes.length + REWRITE_BYTES + nameBytes;
  const contextTokens = model.contextTokens * request.inputs;
  const inputTokens = inputCeiling(byteCount, request.hasOutsideInput, contextTokens);
  const fitting = outputThatFits(bytes.length, model, options.outputTokensMin);
  const wished = request.outputTokens ?? options.outputTokensDefault;
  const outputTokens = wire === "openai.embeddings" ? 0 : Math.min(wished, fitting);
  const shape = { id, keyId, grant, wire, model, candidates, request };
  return { ...shape, startedAtMs, inputTokens, outputTokens };
}

/** The providers of the model that this installation has, at prices in the budget's currency. */
function candidatesOf(
  { providers }: Pick<GatewayDeps, "providers">,
  { currency }: Grant,
  model: GrantedModel,
  mayWait: boolean,
): readonly Candidate[] | Refusal {
  const rates = readRates(model.price, currency);
  if (rates === null) {
    const message = `"${model.name}" has no price in ${currency}, so it cannot be used`;
    return { status: 400, code: "unpriced_model", message };
  }
  const usable = [model, ...(model.fallbacks ?? [])].flatMap((one): Candidate[] => {
    const provider = providers(one.provider);
    const oneRates = one === model ? rates : readRates(one.price, currency);
    if (provider === null || oneRates === null) return [];
    return [{ provider, upstreamName: one.upstreamName, price: one.price, rates: oneRates }];
  });
  const [first] = usable;
  const away = first?.provider.away ?? null;
  const isWaitedFor = mayWait && away?.isComing === true;
  const present = usable.filter(({ provider }) => (provider.away ?? null) === null);
  if (present.length > 0 && !isWaitedFor) return present;
  if (first !== undefined && away !== null) return providerAway(first.provider.name, away);
  const message = `The provider "${model.provider}" is not configured on this installation`;
  return { status: 503, code: "unavailable", message, isFinal: true };
}

/** Those that still take calls just before one is sent: an engine may have fallen asleep since. */
export function presentOf(
  { providers }: Pick<GatewayDeps, "providers">,
  candidates: readonly Candidate[],
): readonly Candidate[] | Refusal {
  // Only our own engines have `away` at all.
  const awayNow = ({ provider }: Candidate) =>
    provider.away === undefined ? null : (providers(provider.name)?.away ?? null);
  const [first] = candidates;
  const away = first === undefined ? null : awayNow(first);
  if (first === undefined || away === null) return candidates;
  const present = candidates.filter((candidate) => awayNow(candidate) === null);
  return present.length > 0 ? present : providerAway(first.provider.name, away);
}

/**
 * The refusal when none of them may be asked now; the one that may first says until when, and a
 * quota that is back later than a client can sit out is told of.
 */
export function allShut(
  deps: GatewayDeps,
  state: GatewayState,
  grant: Grant,
  candidates: readonly Candidate[],
  nowMs: EpochMs,
): Refusal | null {
  const shuts = candidates.map((candidate) => {
    const shut = state.health.shut(candidate, nowMs);
    return shut === null ? null : { ...shut, provider: candidate.provider.name };
  });
  const [first] = shuts
    .filter((shut) => shut !== null)
    .toSorted((one, other) => one.untilMs - other.untilMs);
  if (first === undefined || shuts.includes(null)) return null;
  const { provider, untilMs } = first;
  if (first.why === "failing") return serverFailing(untilMs, nowMs);
  if (untilMs - nowMs < QUOTA_WAIT_MS) return providerBusy(provider, untilMs, nowMs);
  state.tell("onQuotaExhausted", () => {
    return deps.hooks?.onQuotaExhausted?.(grant, { provider, untilMs });
  });
  return quotaUsedUp(provider, untilMs, nowMs);
}

function invalid(error: unknown): Refusal {
  if (!(error instanceof ScanError) && !(error instanceof RequestError)) throw error;
  return { status: 400, code: "invalid_request", message: error.message };
}

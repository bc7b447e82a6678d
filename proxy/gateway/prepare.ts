/** From a request's bytes to a reserved call, or to the refusal that says why not. */
import { ratesUpTo, readRates } from "../../models/rates.ts";
import type { Wire } from "../../orchestrator/contract/agents.ts";
import type { Grant } from "../../orchestrator/keys/keys.ts";
import type { AccountId, CallId, KeyId } from "../../orchestrator/runtime/ids.ts";
import type { PreparedCall } from "./call.ts";
import { inputCeiling, outputThatFits } from "./ceiling.ts";
import type { GatewayDeps, GatewayOptions, GatewayState } from "./gateway.ts";
import { holdCall } from "./hold.ts";
import { ScanError } from "./json-scan.ts";
import { BUDGET_BUSY, budgetGone, LEDGER_UNAVAILABLE, type Refusal } from "./refusal.ts";
import { type CallRequest, checkHosted, RequestError, readRequest } from "./request.ts";
import { resolveModel } from "./resolve-model.ts";

export type PrepareResult =
  | { outcome: "prepared"; call: PreparedCall }
  | { outcome: "refused"; refusal: Refusal };

/** What the gateway may add to a request: the ceiling, the usage wish, a longer model name. */
const REWRITE_BYTES = 512;

type Draft = Omit<PreparedCall, "reservations">;

export async function prepareCall(
  deps: GatewayDeps,
  options: GatewayOptions,
  state: GatewayState,
  caller: { id: CallId; keyId: KeyId; grant: Grant; wire: Wire },
  bytes: Buffer,
): Promise<PrepareResult> {
  const draft = draftCall(deps, options, caller, bytes);
  if ("status" in draft) return refused(draft);

  const { keyId, grant, request } = draft;
  const { budgetStopStatus, currency, trialId } = grant;
  const known = state.keys.exhaustion(keyId);
  if (known !== null) {
    const { requiredNanos, availableNanos } = known;
    return refused(budgetGone(budgetStopStatus, requiredNanos, availableNanos, currency));
  }
  await state.keys.settled(keyId);
  const held = await hold(deps, options, state, draft);
  switch (held.outcome) {
    case "held": {
      const { reservations, outputTokens } = held;
      return { outcome: "prepared", call: { ...draft, reservations, outputTokens } };
    }
    case "busy":
      return refused(BUDGET_BUSY);
    case "unavailable":
      return refused(LEDGER_UNAVAILABLE);
    case "budget_gone": {
      const { budget, requiredNanos, availableNanos } = held;
      const facts = { budget, requiredNanos, availableNanos };
      if (state.keys.exhaust(keyId, trialId, facts)) {
        deps.log.info({ trial_id: trialId, model: request.model }, "budget exhausted");
        state.tell("onBudgetExhausted", () => deps.hooks?.onBudgetExhausted?.(grant, facts));
      }
      return refused(budgetGone(budgetStopStatus, requiredNanos, availableNanos, currency));
    }
  }
}

async function hold(
  { ledger, ids, dayAccount, log }: GatewayDeps,
  options: GatewayOptions,
  state: GatewayState,
  { grant, wire, rates, inputTokens, outputTokens, request }: Draft,
) {
  try {
    const day: AccountId | null = grant.hasDailyAllowance ? await dayAccount(grant) : null;
    const within = day === null ? grant.enclosing : [...grant.enclosing, day];
    const { budget, spend } = grant;
    const { choices, isEchoed, inputs } = request;
    const echoedTokens = isEchoed ? inputTokens * (choices / inputs) : 0;
    const outputTokensMin = Math.min(outputTokens, options.outputTokensMin);
    const timeoutMs = options.callTimeoutMs + options.settleGraceMs;
    const wish = { inputTokens, outputTokens, outputTokensMin, choices, echoedTokens, timeoutMs };
    return await holdCall(
      { ledger, ids },
      { budget, within, spend, wire, rates: ratesUpTo(rates, inputTokens), ...wish },
      (pendingId) => state.finisher.forget(pendingId),
    );
  } catch (error) {
    log.error({ err: error, trial_id: grant.trialId }, "ledger did not answer");
    return { outcome: "unavailable" as const };
  }
}

/** All that can be said without the ledger. */
function draftCall(
  { providers, clock }: GatewayDeps,
  options: GatewayOptions,
  { id, keyId, grant, wire }: { id: CallId; keyId: KeyId; grant: Grant; wire: Wire },
  bytes: Buffer,
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
  const rates = readRates(model.price, grant.currency);
  if (rates === null) {
    const message = `"${model.name}" has no price in ${grant.currency}, so it cannot be used`;
    return { status: 400, code: "unpriced_model", message };
  }
  const provider = providers(model.provider);
  if (provider === null) {
    const message = `The provider "${model.provider}" is not configured on this installation`;
    return { status: 503, code: "unavailable", message, isFinal: true };
  }
  if (provider.isHosted) {
    try {
      checkHosted(request);
    } catch (error) {
      return invalid(error);
    }
  }
  const byteCount = bytes.length + REWRITE_BYTES + model.upstreamName.length;
  const contextTokens = model.contextTokens * request.inputs;
  const inputTokens = inputCeiling(byteCount, request.hasOutsideInput, contextTokens);
  const fitting = outputThatFits(bytes.length, model, options.outputTokensMin);
  const wished = request.outputTokens ?? options.outputTokensDefault;
  const outputTokens = wire === "openai.embeddings" ? 0 : Math.min(wished, fitting);
  const startedAtMs = clock.now();
  const shape = { id, keyId, grant, wire, model, provider, rates, request };
  return { ...shape, startedAtMs, inputTokens, outputTokens };
}

function invalid(error: unknown): Refusal {
  if (!(error instanceof ScanError) && !(error instanceof RequestError)) throw error;
  return { status: 400, code: "invalid_request", message: error.message };
}

function refused(refusal: Refusal): PrepareResult {
  return { outcome: "refused", refusal };
}

/** From a request's bytes to a reserved call, or to the refusal that says why not. */
import { ratesUpTo, readRates } from "../../models/rates.ts";
import type { Wire } from "../../orchestrator/contract/agents.ts";
import type { Grant } from "../../orchestrator/keys/keys.ts";
import type { CallId, KeyId } from "../../orchestrator/runtime/ids.ts";
import type { PreparedCall } from "./call.ts";
import { inputCeiling, outputThatFits } from "./ceiling.ts";
import type { GatewayDeps, GatewayOptions, GatewayState } from "./gateway.ts";
import {
  extendHold,
  type HoldDeps,
  type HoldPath,
  type HoldRequest,
  type HoldResult,
  holdCall,
} from "./hold.ts";
import { ScanError } from "./json-scan.ts";
import type { Exhaustion } from "./key-state.ts";
import { BUDGET_BUSY, budgetGone, LEDGER_UNAVAILABLE, type Refusal } from "./refusal.ts";
import { type CallRequest, checkHosted, RequestError, readRequest } from "./request.ts";
import { resolveModel } from "./resolve-model.ts";

export type PrepareResult =
  | { outcome: "prepared"; call: PreparedCall }
  | { outcome: "refused"; refusal: Refusal };

/** What the gateway may add to a request: the ceiling, the usage wish, a longer model name. */
const REWRITE_BYTES = 512;

type Draft = Omit<
  PreparedCall,
  "reservations" | "availableNanos" | "paidTokens" | "extend" | "echoedTokens"
>;

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
  if (known !== null) return refused(budgetGone(budgetStopStatus, known, currency));
  const held = await hold(deps, options, state, draft);
  switch (held.outcome) {
    case "held": {
      const { reservations, availableNanos, hold, outputTokens: paid } = held;
      // A slice that was lowered is all there is: the server itself is to stop there.
      const outputTokens = paid === hold.outputTokens ? draft.outputTokens : paid;
      const paidTokens = paid * request.choices;
      const { echoedTokens } = hold;
      const extend = extendHold(holdDeps(deps, state), hold);
      const call = {
        ...draft,
        reservations,
        availableNanos,
        outputTokens,
        paidTokens,
        extend,
        echoedTokens,
      };
      return { outcome: "prepared", call };
    }
    case "busy":
      return refused(BUDGET_BUSY);
    case "unavailable":
      return refused(LEDGER_UNAVAILABLE);
    case "budget_gone": {
      const { unit, budget, requiredNanos, availableNanos } = held;
      const facts: Exhaustion = { unit, budget, requiredNanos, availableNanos };
      if (state.keys.exhaust(keyId, trialId, facts)) {
        deps.log.info({ trial_id: trialId, model: request.model }, "budget exhausted");
        state.tell("onBudgetExhausted", () => deps.hooks?.onBudgetExhausted?.(grant, facts));
      }
      return refused(budgetGone(budgetStopStatus, facts, currency));
    }
  }
}

async function hold(
  deps: GatewayDeps,
  options: GatewayOptions,
  state: GatewayState,
  draft: Draft,
): Promise<(HoldResult & { hold: HoldRequest }) | { outcome: "unavailable" }> {
  const { grant, wire, rates, inputTokens, request } = draft;
  try {
    const { choices, isEchoed, inputs } = request;
    const echoedTokens = isEchoed ? inputTokens * (choices / inputs) : 0;
    const outputTokens = firstSlice(draft, options);
    const outputTokensMin = Math.min(outputTokens, options.outputTokensMin);
    const timeoutMs = options.callTimeoutMs + options.settleGraceMs;
    const wish = { inputTokens, outputTokens, outputTokensMin, choices, echoedTokens, timeoutMs };
    const paths = await holdPaths(deps, grant);
    const asked = { ...paths, wire, rates: ratesUpTo(rates, inputTokens), ...wish };
    return { ...(await holdCall(holdDeps(deps, state), asked)), hold: asked };
  } catch (error) {
    deps.log.error({ err: error, trial_id: grant.trialId }, "ledger did not answer");
    return { outcome: "unavailable" };
  }
}

/** The budgets of the trial, with those of the day that now is. */
async function holdPaths(
  { dayAccount, tokenDayAccount }: GatewayDeps,
  grant: Grant,
): Promise<HoldPath & { tokens: HoldPath | null }> {
  const { budget, spend, enclosing, tokens: rationed } = grant;
  // Asked for every call: a project may set a daily allowance, or drop it, while keys are used.
  const day = await dayAccount(grant);
  const within = day === null ? enclosing : [...enclosing, day];
  if (rationed === undefined) return { budget, within, spend, tokens: null };
  const tokenDay = (await tokenDayAccount?.(grant)) ?? null;
  const tokens = {
    budget: rationed.budget,
    within: tokenDay === null ? rationed.within : [...rationed.within, tokenDay],
    spend: rationed.spend,
  };
  return { budget, within, spend, tokens };
}

/** What holds and extensions are made with. */
function holdDeps({ ledger, ids }: GatewayDeps, state: GatewayState): HoldDeps {
  return { ledger, ids, onUncertain: (pendingId) => state.finisher.forget(pendingId) };
}

/** How much output is reserved before the call is forwarded: the rest follows while it streams. */
function firstSlice({ request, provider, outputTokens }: Draft, options: GatewayOptions): number {
  const isSliced = request.isStream && provider.hasContinuousUsage && !request.isEchoed;
  return isSliced ? Math.min(outputTokens, options.sliceTokens) : outputTokens;
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

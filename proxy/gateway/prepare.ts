/** From a request's bytes to a reserved call, or to the refusal that says why not. */
import { dearest, ratesUpTo } from "../../models/rates.ts";
import type { Wire } from "../../orchestrator/contract/agents.ts";
import type { Grant } from "../../orchestrator/keys/keys.ts";
import type { AccountId, CallId, KeyId } from "../../orchestrator/runtime/ids.ts";
import type { PreparedCall } from "./call.ts";
import { affordableOutput } from "./ceiling.ts";
import { type Draft, draftCall } from "./draft.ts";
import { countInput } from "./exact-count.ts";
import type { GatewayDeps, GatewayOptions, GatewayState } from "./gateway.ts";
import {
  extendHold,
  type HoldDeps,
  type HoldPath,
  type HoldRequest,
  type HoldResult,
  holdCall,
} from "./hold.ts";
import type { Exhaustion } from "./key-state.ts";
import {
  BUDGET_BUSY,
  budgetGone,
  LEDGER_UNAVAILABLE,
  type Refusal,
  unrecorded,
} from "./refusal.ts";
import { hasUsageChunk } from "./request.ts";

export type PrepareResult =
  | { outcome: "prepared"; call: PreparedCall }
  | { outcome: "refused"; refusal: Refusal };

/**
 * @param mayWait whether a provider that is coming may be waited for: the refusal then says which,
 * in `coming`, before its fallbacks are asked.
 */
export async function prepareCall(
  deps: GatewayDeps,
  options: GatewayOptions,
  state: GatewayState,
  caller: { id: CallId; keyId: KeyId; grant: Grant; wire: Wire },
  bytes: Buffer,
  mayWait: boolean,
): Promise<PrepareResult> {
  const fault = state.recorder.fault();
  if (fault !== null && (await deps.isRecordRequired?.(caller.grant)) === true) {
    return refused(unrecorded(fault));
  }
  const drafted = draftCall(deps, options, state, caller, bytes, mayWait);
  if ("status" in drafted) return refused(drafted);

  const { keyId, grant, request } = drafted;
  const { budgetStopStatus, currency, trialId } = grant;
  const known = state.keys.exhaustion(keyId);
  if (known !== null && !(await isCovered(deps, state, keyId, known))) {
    return refused(budgetGone(budgetStopStatus, known, currency));
  }
  const { held, draft } = await holdCounted(deps, options, state, drafted);
  switch (held.outcome) {
    case "held": {
      const { reservations, availableNanos, hold, outputTokens: paid } = held;
      const outputTokens = ceilingOf(draft, held);
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
      if (state.keys.exhaust(keyId, facts)) {
        deps.log.info({ trial_id: trialId, model: request.model }, "budget exhausted");
        state.tell("onBudgetExhausted", async () => {
          try {
            await deps.hooks?.onBudgetExhausted?.(grant, facts);
          } catch (error) {
            // Whoever stops the agent must hear of it: the next refusal tells again.
            state.keys.restore(keyId);
            throw error;
          }
        });
      }
      return refused(budgetGone(budgetStopStatus, facts, currency));
    }
  }
}

type Held = (HoldResult & { hold: HoldRequest }) | { outcome: "unavailable" };
type HeldCall = Extract<Held, { outcome: "held" }>;

/** By the bound of bytes; where the budget does not cover that, by the provider's own count. */
async function holdCounted(
  deps: GatewayDeps,
  options: GatewayOptions,
  state: GatewayState,
  draft: Draft,
): Promise<{ held: Held; draft: Draft }> {
  let held = await hold(deps, options, state, draft);
  // What a day has left carries into the next at midnight: by now the call may be of that one.
  if (held.outcome === "budget_gone" && isOfDay(draft.grant, held.budget)) {
    held = await hold(deps, options, state, draft);
  }
  if (held.outcome !== "budget_gone" && held.outcome !== "busy") return { held, draft };
  const inputTokens = await countInput(deps.upstream, draft.candidates, draft.request);
  if (inputTokens === null || inputTokens >= draft.inputTokens) return { held, draft };
  const counted = { ...draft, inputTokens };
  return { held: await hold(deps, options, state, counted), draft: counted };
}

async function hold(
  deps: GatewayDeps,
  options: GatewayOptions,
  state: GatewayState,
  draft: Draft,
): Promise<Held> {
  const { grant, wire, candidates, inputTokens, request } = draft;
  try {
    const { choices, isEchoed, inputs } = request;
    const echoedTokens = isEchoed ? inputTokens * (choices / inputs) : 0;
    const outputTokens = firstSlice(draft, options);
    const outputTokensMin = Math.min(outputTokens, options.outputTokensMin);
    const timeoutMs = options.callTimeoutMs + options.settleGraceMs;
    const wish = { inputTokens, outputTokens, outputTokensMin, choices, echoedTokens, timeoutMs };
    const paths = await holdPaths(deps, grant);
    // Whoever answers is covered.
    const rates = dearest(candidates.map((one) => ratesUpTo(one.rates, inputTokens)));
    const asked = { ...paths, wire, rates, ...wish };
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

function isOfDay({ budget, enclosing, tokens }: Grant, gone: AccountId): boolean {
  const lasting = [budget, ...enclosing, ...(tokens?.within ?? [])];
  return gone !== tokens?.budget && !lasting.includes(gone);
}

/** Whether a budget that was gone covers again what it did not: asked once a second. */
async function isCovered(
  { ledger, log }: GatewayDeps,
  { keys }: GatewayState,
  keyId: KeyId,
  { budget, requiredNanos }: Exhaustion,
): Promise<boolean> {
  if (!keys.isDue(keyId)) return false;
  const balance = await ledger.balance(budget).catch((error: unknown) => {
    log.warn({ err: error }, "balance not read");
    return null;
  });
  if (balance === null || balance.availableNanos < requiredNanos) return false;
  keys.restore(keyId);
  return true;
}

/** What holds and extensions are made with. */
function holdDeps({ ledger, ids }: GatewayDeps, state: GatewayState): HoldDeps {
  return { ledger, ids, onUncertain: (pendingId) => state.finisher.forget(pendingId) };
}

/** How much output is reserved before the call is forwarded: the rest follows while it streams. */
function firstSlice({ request, candidates, outputTokens }: Draft, options: GatewayOptions): number {
  const areOwn = candidates.every(({ provider }) => provider.hasContinuousUsage);
  const isSliced = areOwn && request.isStream && !request.isEchoed;
  return isSliced ? Math.min(outputTokens, options.sliceTokens) : outputTokens;
}

/** The output, of each answer, that is written into the request. */
function ceilingOf(
  { wire, request, outputTokens }: Draft,
  { hold: { outputTokens: wished, rates }, outputTokens: paid, availableNanos }: HeldCall,
): number {
  // A slice that was lowered is all there is: the server itself is to stop there.
  if (paid < wished) return paid;
  if (hasUsageChunk(wire)) return outputTokens;
  // Without a running count we would have to cut by bytes: the server stops itself in time.
  return Math.min(outputTokens, paid + affordableOutput(availableNanos, rates, request.choices));
}

function refused(refusal: Refusal): PrepareResult {
  return { outcome: "refused", refusal };
}

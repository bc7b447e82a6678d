/**
 * Reserves what a call may cost, on every budget of its path. Where the ceiling is not affordable
 * it is lowered to what is, down to a floor under which an answer would be of no use.
 */
import type { Rates } from "../../models/rates.ts";
import type { Wire } from "../../orchestrator/contract/agents.ts";
import type { Ledger } from "../../orchestrator/ledger/ledger.ts";
import type { Nanos } from "../../orchestrator/money.ts";
import { tokenCost } from "../../orchestrator/money.ts";
import type { AccountId, Ids, TransferId } from "../../orchestrator/runtime/ids.ts";
import { affordableOutput, inputCost } from "./ceiling.ts";
import type { HeldReservation } from "./reservations.ts";

export interface HoldRequest {
  budget: AccountId;
  /** Outermost first. */
  within: readonly AccountId[];
  spend: AccountId;
  wire: Wire;
  /** The dearest that the call can meet. */
  rates: Rates;
  inputTokens: number;
  /** Of each answer: what is wished for, and the least that is worth a call. */
  outputTokens: number;
  outputTokensMin: number;
  choices: number;
  /** Input that all answers together repeat, and that a server may count as their output. */
  echoedTokens: number;
  timeoutMs: number;
}

export type HoldResult =
  | { outcome: "held"; reservations: HeldReservation[]; outputTokens: number }
  /** What other calls hold now would cover it: worth asking again soon. */
  | { outcome: "busy" }
  | { outcome: "budget_gone"; budget: AccountId; requiredNanos: Nanos; availableNanos: Nanos };

/** Each refusal names one budget of the path, and other calls take from them meanwhile. */
const TRIES_MAX = 12;

/**
 * @param onUncertain told of a reservation that may or may not exist, its statement having failed.
 * @throws what the ledger throws when it cannot answer.
 */
export async function holdCall(
  { ledger, ids }: { ledger: Ledger; ids: Ids },
  request: HoldRequest,
  onUncertain: (pendingId: TransferId) => void,
): Promise<HoldResult> {
  const { budget, within, spend, rates, choices, timeoutMs, outputTokensMin } = request;
  const inputNanos =
    inputCost(request.wire, request.inputTokens, rates) +
    tokenCost(request.echoedTokens, rates.outputNanos);
  const amount = (tokens: number) => inputNanos + tokenCost(tokens * choices, rates.outputNanos);
  let { outputTokens } = request;

  for (let tries = 0; tries < TRIES_MAX; tries++) {
    const pendingId = ids.next("transfer");
    const amountNanos = amount(outputTokens);
    const reservation = { id: pendingId, budget, within, spend, amountNanos, timeoutMs };
    const result = await ledger.reserve(reservation).catch((error: unknown) => {
      onUncertain(pendingId);
      throw error;
    });
    switch (result.outcome) {
      case "reserved":
        return {
          outcome: "held",
          reservations: [{ pendingId, unit: "money", amount: amountNanos }],
          outputTokens,
        };
      case "insufficient_funds": {
        const { availableNanos } = result;
        const affordable = affordableOutput(availableNanos - inputNanos, rates, choices);
        if (affordable >= outputTokensMin && outputTokens > outputTokensMin) {
          outputTokens = Math.max(outputTokensMin, Math.min(outputTokens - 1, affordable));
          break;
        }
        const requiredNanos = amount(outputTokensMin);
        const found = await ledger.balance(result.budget);
        const isHeld =
          found !== null && found.availableNanos + found.reservedNanos >= requiredNanos;
        if (isHeld) return { outcome: "busy" };
        return { outcome: "budget_gone", budget: result.budget, requiredNanos, availableNanos };
      }
      case "already_reserved":
      case "account_not_found":
        throw new Error(`reserve: ${result.outcome}, of accounts that exist and an id just made`);
    }
  }
  return { outcome: "busy" };
}

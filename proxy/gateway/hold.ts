/**
 * Reserves what a call may cost, on every budget of its path: money, and tokens where the trial has
 * such a budget, both or neither. A ceiling that is not affordable is lowered to what is, down
 * to a floor under which an answer would be of no use.
 */
import type { Rates } from "../../models/rates.ts";
import type { Wire } from "../../orchestrator/contract/agents.ts";
import type {
  BudgetBalance,
  InsufficientFunds,
  Ledger,
  Reservation,
  ReserveRefusal,
} from "../../orchestrator/ledger/ledger.ts";
import { type Nanos, tokenCost } from "../../orchestrator/money.ts";
import type { AccountId, Ids, TransferId } from "../../orchestrator/runtime/ids.ts";
import { affordableOutput, inputCost } from "./ceiling.ts";
import type { HeldReservation, Unit } from "./reservations.ts";
import type { ReserveOutput } from "./slices.ts";

/** The budgets that a reservation is made on. */
export interface HoldPath {
  budget: AccountId;
  /** Outermost first. */
  within: readonly AccountId[];
  spend: AccountId;
}

export interface HoldRequest extends HoldPath {
  /** The token budget's path; null where the trial has none. */
  tokens: HoldPath | null;
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
  | {
      outcome: "held";
      reservations: HeldReservation[];
      outputTokens: number;
      /** What the budget that pays has left after it. */
      availableNanos: Nanos;
    }
  /** What other calls hold now would cover it: worth asking again soon. */
  | { outcome: "busy" }
  | BudgetGone;

/** `unit`: what the amounts are, nano-units or tokens. */
export interface BudgetGone {
  outcome: "budget_gone";
  unit: Unit;
  budget: AccountId;
  requiredNanos: Nanos;
  availableNanos: Nanos;
}

export interface HoldDeps {
  ledger: Pick<Ledger, "reserve" | "reserveTogether">;
  ids: Ids;
  /** Told of a reservation that may or may not exist, its statement having failed. */
  onUncertain: (pendingId: TransferId) => void;
}

/** Each refusal names one budget of the path, and other calls take from them meanwhile. */
const TRIES_MAX = 12;

/** @throws what the ledger throws when it cannot answer. */
export async function holdCall(deps: HoldDeps, request: HoldRequest): Promise<HoldResult> {
  const { rates, choices, outputTokensMin } = request;
  const fixedTokens = request.inputTokens + request.echoedTokens;
  const fixedNanos =
    inputCost(request.wire, request.inputTokens, rates) +
    tokenCost(request.echoedTokens, rates.outputNanos);
  const amounts = (outputTokens: number): Record<Unit, bigint> => ({
    money: fixedNanos + tokenCost(outputTokens * choices, rates.outputNanos),
    tokens: BigInt(fixedTokens + outputTokens * choices),
  });
  let { outputTokens } = request;

  for (let tries = 0; tries < TRIES_MAX; tries++) {
    const reserved = await reserveLegs(deps, request, amounts(outputTokens));
    if (reserved.outcome === "reserved") {
      const { reservations, availableNanos } = reserved;
      return { outcome: "held", reservations, outputTokens, availableNanos };
    }
    const { unit, budget, availableNanos, reservedNanos } = reserved;
    const affordable =
      unit === "money"
        ? affordableOutput(availableNanos - fixedNanos, rates, choices)
        : Math.floor((Number(availableNanos) - fixedTokens) / choices);
    if (affordable >= outputTokensMin && outputTokens > outputTokensMin) {
      outputTokens = Math.max(outputTokensMin, Math.min(outputTokens - 1, affordable));
      continue;
    }
    const requiredNanos = amounts(outputTokensMin)[unit];
    if (availableNanos + reservedNanos >= requiredNanos) return { outcome: "busy" };
    return { outcome: "budget_gone", unit, budget, requiredNanos, availableNanos };
  }
  return { outcome: "busy" };
}

/** Reserves more output of a call that is held. What fails is as if it were refused. */
export function extendHold(deps: HoldDeps, request: HoldRequest): ReserveOutput {
  const { rates } = request;
  return async (wantedTokens, leastTokens) => {
    let outputTokens = wantedTokens;
    for (let tries = 0; tries < TRIES_MAX; tries++) {
      const money = tokenCost(outputTokens, rates.outputNanos);
      const amounts = { money, tokens: BigInt(outputTokens) };
      const reserved = await reserveLegs(deps, request, amounts).catch(() => null);
      if (reserved === null) return null;
      if (reserved.outcome === "reserved") {
        return { reservations: reserved.reservations, outputTokens };
      }
      const affordable =
        reserved.unit === "money"
          ? affordableOutput(reserved.availableNanos, rates, 1)
          : Number(reserved.availableNanos);
      outputTokens = Math.min(outputTokens - 1, affordable);
      if (outputTokens < leastTokens) return null;
    }
    return null;
  };
}

type LegsResult =
  | { outcome: "reserved"; reservations: HeldReservation[]; availableNanos: Nanos }
  | (InsufficientFunds & { unit: Unit });

async function reserveLegs(
  { ledger, ids, onUncertain }: HoldDeps,
  { budget, within, spend, tokens, timeoutMs }: HoldRequest,
  amounts: Record<Unit, bigint>,
): Promise<LegsResult> {
  const first = leg("money", { budget, within, spend });
  const legs = tokens === null ? [first] : [first, leg("tokens", tokens)];
  try {
    // The usual call has one leg, and takes the shorter way.
    if (legs.length === 1) {
      const { unit: _, ...reservation } = first;
      const result = await ledger.reserve(reservation);
      return result.outcome === "reserved" ? reserved([result.balance]) : refused(0, result);
    }
    const result = await ledger.reserveTogether(legs.map(({ unit: _, ...one }) => one));
    return result.outcome === "reserved"
      ? reserved(result.balances)
      : refused(result.index, result.refusal);
  } catch (error) {
    for (const { id } of legs) onUncertain(id);
    throw error;
  }

  function leg(unit: Unit, path: HoldPath): Reservation & { unit: Unit } {
    const id = ids.next("transfer");
    return { id, unit, ...path, amountNanos: amounts[unit], timeoutMs };
  }

  function reserved([money]: readonly BudgetBalance[]): LegsResult {
    const reservations = legs.map(({ id: pendingId, unit, amountNanos: amount }) => {
      return { pendingId, unit, amount };
    });
    return { outcome: "reserved", reservations, availableNanos: money?.availableNanos ?? 0n };
  }

  function refused(index: number, refusal: ReserveRefusal): LegsResult {
    if (refusal.outcome !== "insufficient_funds") {
      throw new Error(`reserve: ${refusal.outcome}, of accounts that exist and an id just made`);
    }
    return { ...refusal, unit: legs[index]?.unit ?? "money" };
  }
}

/**
 * Charges a trial's calls again, at other prices. Pure; nothing is moved in the ledger.
 *
 * Invariant: by its own prices a trial costs exactly what it was charged. A call whose charge does
 * not follow from its usage (its reservation had expired, or was exceeded) keeps it then, and is
 * charged for its usage by other prices; both are marked.
 */
import { type PriceRates, readRates, type TokenCounts, usageCost } from "../../models/rates.ts";
import type { Side } from "../contract/agents.ts";
import type { ChargeBasis, RepricedCall, Repricing } from "../contract/repricing.ts";
import type { PriceSnapshot } from "../keys/keys.ts";
import type { Nanos } from "../money.ts";
import { type EpochMs, rfc3339 } from "../runtime/clock.ts";
import type { PriceQuestion } from "./pairs.ts";

export interface ChargedCall {
  id: string;
  side: Side;
  startedAtMs: EpochMs;
  /** When the price it is charged again by is to be in force. */
  atMs: EpochMs;
  counts: TokenCounts;
  costNanos: Nanos;
  isEstimated: boolean;
  priceVersion: string;
  /** The price of its key; null when the key has none of that version. */
  price: PriceSnapshot | null;
}

export type OtherPrice = (question: PriceQuestion) => {
  model: string;
  price: PriceSnapshot | null;
};

export type RepriceResult =
  | { outcome: "repriced"; repricing: Omit<Repricing, "trial_id" | "swap_nanos"> }
  | { outcome: "unpriced"; model: string; atMs: EpochMs };

/** @param other the price to charge a call by; null: by the one it was charged by. */
export function repriceCalls(
  calls: readonly ChargedCall[],
  currency: string,
  other: OtherPrice | null,
): RepriceResult {
  const repriced: RepricedCall[] = [];
  for (const call of calls) {
    const basis = basisOf(call, currency);
    if (other === null) {
      repriced.push(line(call, basis, ownPrice(call, basis)));
      continue;
    }
    const { side, atMs } = call;
    const asked = other({ side, model: modelOf(call.priceVersion), atMs });
    const chosen = otherPrice(call, basis, asked);
    if (chosen === null) return { outcome: "unpriced", model: asked.model, atMs };
    repriced.push(line(call, basis, chosen));
  }
  const charged = sum(repriced.map((each) => BigInt(each.charged.cost_nanos)));
  const again = sum(repriced.map((each) => BigInt(each.repriced.cost_nanos)));
  return {
    outcome: "repriced",
    repricing: {
      currency,
      charged_nanos: String(charged),
      repriced_nanos: String(again),
      difference_nanos: String(again - charged),
      estimated_count: repriced.filter((each) => each.is_estimated).length,
      reservation_count: repriced.filter(({ basis }) => basis === "reservation").length,
      calls: repriced,
    },
  };

  function ownPrice(call: ChargedCall, basis: ChargeBasis): Chosen {
    const { priceVersion: version, costNanos } = call;
    const rates = call.price === null ? null : readRates(call.price, currency);
    const isCounted = basis === "usage" && rates !== null;
    const cost = isCounted ? usageCost(call.counts, rates) : costNanos;
    return { model: modelOf(version), version, costNanos: cost };
  }

  function otherPrice(
    call: ChargedCall,
    basis: ChargeBasis,
    { model, price }: ReturnType<OtherPrice>,
  ): Chosen | null {
    const rates = price === null ? null : readRates(price, currency);
    if (price === null || rates === null) return null;
    const costNanos = basis === "nothing" ? 0n : usageCost(call.counts, rates);
    return { model, version: price.version, costNanos };
  }
}

interface Chosen {
  model: string;
  version: string;
  costNanos: Nanos;
}

function basisOf({ price, counts, costNanos }: ChargedCall, currency: string): ChargeBasis {
  const isUsed = Object.values(counts).some((tokens) => tokens > 0);
  if (!isUsed && costNanos === 0n) return "nothing";
  const rates: PriceRates | null = price === null ? null : readRates(price, currency);
  // Without its price nothing says otherwise.
  return rates === null || usageCost(counts, rates) === costNanos ? "usage" : "reservation";
}

/** A version begins with its entry's model: "m@2026-01-01,USD/CAD@2025-01-01". */
export function modelOf(priceVersion: string): string {
  return priceVersion.split("@", 1)[0] ?? priceVersion;
}

function line(call: ChargedCall, basis: ChargeBasis, again: Chosen): RepricedCall {
  const { counts, costNanos, priceVersion } = call;
  return {
    call_id: call.id,
    side: call.side,
    started_at: rfc3339(call.startedAtMs),
    input_tokens: counts.inputTokens + counts.cacheReadTokens + counts.cacheWriteTokens,
    output_tokens: counts.outputTokens,
    is_estimated: call.isEstimated,
    basis,
    charged: {
      model: modelOf(priceVersion),
      price_version: priceVersion,
      cost_nanos: String(costNanos),
    },
    repriced: {
      model: again.model,
      price_version: again.version,
      cost_nanos: String(again.costNanos),
    },
    difference_nanos: String(again.costNanos - costNanos),
  };
}

function sum(amounts: readonly Nanos[]): Nanos {
  return amounts.reduce((total, amount) => total + amount, 0n);
}

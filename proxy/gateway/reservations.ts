/**
 * What a call has reserved, on its money and on its tokens: the first reservation of each unit is
 * made before the call is forwarded, further ones extend it while its answer grows. Pure.
 */
import type { TransferId } from "../../orchestrator/runtime/ids.ts";

export type Unit = "money" | "tokens";

export interface HeldReservation {
  pendingId: TransferId;
  unit: Unit;
  /** Nano-units, or tokens. */
  amount: bigint;
}

/** What ends a reservation: settled at so much, or released when null. */
export interface EndedReservation {
  pendingId: TransferId;
  unit: Unit;
  resolutionId: TransferId;
  settledAmount: bigint | null;
}

/** What is reserved in a unit, of all reservations together. */
export function heldAmount(held: readonly HeldReservation[], unit: Unit): bigint {
  return held.reduce((sum, one) => (one.unit === unit ? sum + one.amount : sum), 0n);
}

/**
 * Spreads what a call used over what it reserved, oldest first. Null for a unit releases all of it.
 *
 * @throws RangeError when more is to be settled than is reserved: the bill has capped it.
 */
export function endReservations(
  held: readonly HeldReservation[],
  used: Readonly<Record<Unit, bigint | null>>,
  nextId: () => TransferId,
): EndedReservation[] {
  const left = { ...used };
  const begun = new Set<Unit>();
  const ended = held.map(({ pendingId, unit, amount }): EndedReservation => {
    const resolutionId = nextId();
    const open = left[unit];
    const isFirst = !begun.has(unit);
    begun.add(unit);
    // A call that cost nothing is settled all the same, once: it was forwarded.
    if (open === null || (open === 0n && !isFirst)) {
      return { pendingId, unit, resolutionId, settledAmount: null };
    }
    const isEnough = open <= amount;
    left[unit] = isEnough ? 0n : open - amount;
    return { pendingId, unit, resolutionId, settledAmount: isEnough ? open : amount };
  });
  for (const unit of begun) {
    if ((left[unit] ?? 0n) > 0n) throw new RangeError(`endReservations: ${left[unit]} too much`);
  }
  return ended;
}

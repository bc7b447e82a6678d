/**
 * Exact money. An amount is an integer number of nano-units of one currency (1 CAD is
 * 1_000_000_000n), so that no floating point number can stand where an amount is meant.
 */

/** An amount in nano-units. */
export type Nanos = bigint;

export const NANOS_PER_UNIT = 1_000_000_000n;
/** The largest amount a `bigint` column holds. */
export const NANOS_MAX = 2n ** 63n - 1n;

/** Every division of money rounds up, so that a reservation covers its cost. */
export function ceilDiv(dividend: bigint, divisor: bigint): bigint {
  if (dividend < 0n) throw new RangeError("ceilDiv: dividend must not be negative");
  if (divisor <= 0n) throw new RangeError("ceilDiv: divisor must be positive");
  return (dividend + divisor - 1n) / divisor;
}

/** `tokens` at `nanosPerMillion` nano-units for a million tokens, rounded up to 1 nano-unit. */
export function tokenCost(tokens: number, nanosPerMillion: Nanos): Nanos {
  if (!Number.isSafeInteger(tokens) || tokens < 0) throw new RangeError("tokenCost: bad count");
  return ceilDiv(BigInt(tokens) * nanosPerMillion, 1_000_000n);
}

/**
 * Reads a decimal amount of currency units ("12.5", "0.000000001") as nano-units.
 * Null when it is not one: signs, exponents, more than nine decimals, or past a bigint column.
 */
export function parseUnits(text: string): Nanos | null {
  const match = /^(\d{1,10})(?:\.(\d{1,9}))?$/.exec(text);
  if (match === null) return null;
  const [, units = "0", decimals = ""] = match;
  const nanos = BigInt(units) * NANOS_PER_UNIT + BigInt(decimals.padEnd(9, "0"));
  return nanos <= NANOS_MAX ? nanos : null;
}

/** The unit of token budgets: amounts in it are tokens, not nano-units. */
export const TOKEN_UNIT = "TOK";

/**
 * An amount for people: the currency's usual decimals ("12.50 CAD"), and below one unit as many
 * more as show three significant digits ("0.119 CAD", "0.00042 CAD"); cut, never rounded up.
 * Of `TOK` it is a count: "12,345 tokens".
 */
export function formatNanos(nanos: Nanos, currency: string): string {
  const sign = nanos < 0n ? "-" : "";
  const absolute = nanos < 0n ? -nanos : nanos;
  if (currency === TOKEN_UNIT) {
    return `${sign}${absolute.toLocaleString("en")} ${absolute === 1n ? "token" : "tokens"}`;
  }
  const units = absolute / NANOS_PER_UNIT;
  const decimals = String(absolute % NANOS_PER_UNIT).padStart(9, "0");
  const shown = decimals.slice(0, decimalsShown(absolute, currency));
  return `${sign}${units}${shown === "" ? "" : `.${shown}`} ${currency}`;
}

/** Nano-units of the currency's smallest coin: 10,000,000 of a Canadian cent. */
export function minorUnitNanos(currency: string): Nanos {
  return 10n ** BigInt(9 - usualDecimals(currency));
}

function decimalsShown(absolute: Nanos, currency: string): number {
  const usual = usualDecimals(currency);
  if (absolute === 0n || absolute >= NANOS_PER_UNIT) return usual;
  const decimals = String(absolute).padStart(9, "0");
  // A third digit that is zero says nothing: "0.50".
  const significant = decimals.slice(0, decimals.search(/[1-9]/) + 3).replace(/0+$/, "");
  return Math.max(usual, significant.length);
}

function usualDecimals(currency: string): number {
  const format = new Intl.NumberFormat("en", { style: "currency", currency });
  return format.resolvedOptions().maximumFractionDigits ?? 2;
}

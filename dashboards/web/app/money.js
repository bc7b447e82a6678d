/**
 * Exact money in the browser. Amounts arrive as decimal strings of nano-units and stay bigint until
 * they are text: no amount is ever a number. Says the same as orchestrator/money.ts (a test holds
 * the two together).
 */

const NANOS_PER_UNIT = 1_000_000_000n;
const NANOS_MAX = 2n ** 63n - 1n;

/**
 * Reads what a person typed ("12.5") as nano-units; null when it is no amount.
 *
 * @param {string} text
 * @returns {bigint | null}
 */
export function parseUnits(text) {
  const match = /^(\d{1,10})(?:\.(\d{1,9}))?$/.exec(text);
  if (match === null) return null;
  const [, units = "0", decimals = ""] = match;
  const nanos = BigInt(units) * NANOS_PER_UNIT + BigInt(decimals.padEnd(9, "0"));
  return nanos <= NANOS_MAX ? nanos : null;
}

/**
 * The decimals that show an amount: the currency's usual ones, more for a small amount so that two
 * significant digits show.
 *
 * @param {bigint} nanos
 * @param {string} currency
 */
export function decimalsOf(nanos, currency) {
  const usual = usualDecimals(currency);
  const absolute = nanos < 0n ? -nanos : nanos;
  if (absolute === 0n || absolute >= NANOS_PER_UNIT) return usual;
  const leadingZeros = String(absolute).padStart(9, "0").search(/[1-9]/);
  return leadingZeros >= usual - 1 ? Math.min(9, leadingZeros + 2) : usual;
}

/**
 * The decimals of a column in which every amount shows at least two significant digits, so that
 * its numerals line up.
 *
 * @param {readonly (bigint | string)[]} amounts
 * @param {string} currency
 */
export function columnDecimals(amounts, currency) {
  return amounts.reduce(
    (most, amount) => Math.max(most, decimalsOf(BigInt(amount), currency)),
    usualDecimals(currency),
  );
}

/**
 * The digits of an amount, cut, never rounded up: "12.50".
 *
 * @param {bigint} nanos
 * @param {number} decimals from 0 to 9
 */
export function formatDigits(nanos, decimals) {
  const sign = nanos < 0n ? "-" : "";
  const absolute = nanos < 0n ? -nanos : nanos;
  const fraction = String(absolute % NANOS_PER_UNIT)
    .padStart(9, "0")
    .slice(0, decimals);
  return `${sign}${absolute / NANOS_PER_UNIT}${fraction === "" ? "" : `.${fraction}`}`;
}

/**
 * An amount for people: "12.50 CAD", "0.00042 CAD".
 *
 * @param {bigint | string} amount
 * @param {string} currency
 */
export function formatMoney(amount, currency) {
  const nanos = BigInt(amount);
  return `${formatDigits(nanos, decimalsOf(nanos, currency))} ${currency}`;
}

/**
 * How much of `whole` `part` is, from 0 to 100, for the width of a bar.
 *
 * @param {bigint} part
 * @param {bigint} whole
 */
export function percentOf(part, whole) {
  if (whole <= 0n || part <= 0n) return 0;
  return part >= whole ? 100 : Number((part * 10_000n) / whole) / 100;
}

/** @param {readonly (bigint | string)[]} amounts */
export function sumNanos(amounts) {
  return amounts.reduce((/** @type {bigint} */ sum, amount) => sum + BigInt(amount), 0n);
}

/** @param {string} currency */
function usualDecimals(currency) {
  const options = new Intl.NumberFormat("en", { style: "currency", currency }).resolvedOptions();
  return options.maximumFractionDigits ?? 2;
}

/**
 * Exact money in the browser. Amounts arrive as decimal strings of nano-units and stay bigint until
 * they are text: no amount is ever a number. Says the same as orchestrator/money.ts (a test holds
 * the two together).
 */

const NANOS_PER_UNIT = 1_000_000_000n;
const NANOS_MAX = 2n ** 63n - 1n;
/** The unit of token budgets: amounts in it are tokens, not nano-units. */
const TOKEN_UNIT = "TOK";

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
 * The decimals that show an amount: the currency's usual ones, and below one unit as many more as
 * show three significant digits.
 *
 * @param {bigint} nanos
 * @param {string} currency
 */
export function decimalsOf(nanos, currency) {
  const usual = usualDecimals(currency);
  const absolute = nanos < 0n ? -nanos : nanos;
  if (absolute === 0n || absolute >= NANOS_PER_UNIT) return usual;
  const decimals = String(absolute).padStart(9, "0");
  // A third digit that is zero says nothing: "0.50".
  const significant = decimals.slice(0, decimals.search(/[1-9]/) + 3).replace(/0+$/, "");
  return Math.max(usual, significant.length);
}

/**
 * The decimals of a column in which every amount shows its significant digits, so that its
 * numerals line up.
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
 * An amount for people: "12.50 CAD", "0.00042 CAD"; of a token budget, "12,345 tokens".
 *
 * @param {bigint | string} amount
 * @param {string} currency
 */
export function formatMoney(amount, currency) {
  const nanos = BigInt(amount);
  if (isTokens(currency)) {
    const isOne = nanos === 1n || nanos === -1n;
    return `${nanos.toLocaleString("en")} ${isOne ? "token" : "tokens"}`;
  }
  return `${formatDigits(nanos, decimalsOf(nanos, currency))} ${currency}`;
}

/** Whether amounts of it are tokens, not nano-units. @param {string} currency */
export function isTokens(currency) {
  return currency === TOKEN_UNIT;
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

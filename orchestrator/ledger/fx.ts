/**
 * Money from one currency to another, at a dated rate that the caller names.
 *
 * A conversion is a pair of transfers through the two exchange accounts: what is given goes into
 * that of its currency, what it is worth comes out of the other, rounded down to a nano-unit. What
 * a rounding in favour of the payer of record adds or withholds besides is a third transfer, with
 * the currency's rounding account. So in each currency the three add up exactly, always; and all
 * that is in the exchange accounts, valued at the rates it was converted at, differs from zero by
 * less than one nano-unit for each conversion.
 */
import { minorUnitNanos, NANOS_PER_UNIT, type Nanos } from "../money.ts";
import { type AccountId, derivedId } from "../runtime/ids.ts";
import type { Direct } from "./decide.ts";
import type { Conversion, DatedRate } from "./ledger.ts";

export interface Converted {
  /** What the other account pays or gets. */
  convertedNanos: Nanos;
  /** Of it: what the exchange account gives or takes, the exact value rounded down. */
  exchangeNanos: Nanos;
  /** The difference of the two: what a charge adds, or an income leaves. */
  roundingNanos: Nanos;
}

/** Rounded up for a charge and down for an income, to a multiple of `stepNanos`. */
export function convertAmount(
  kind: Conversion["kind"],
  amountNanos: Nanos,
  rateNanos: bigint,
  stepNanos: Nanos = 1n,
): Converted {
  if (amountNanos < 0n) throw new RangeError("convertAmount: amountNanos must not be negative");
  if (rateNanos <= 0n) throw new RangeError("convertAmount: rateNanos must be positive");
  if (stepNanos <= 0n) throw new RangeError("convertAmount: stepNanos must be positive");
  const scaled = amountNanos * rateNanos;
  const exchangeNanos = scaled / NANOS_PER_UNIT;
  const stepScaled = stepNanos * NANOS_PER_UNIT;
  const steps = (kind === "charge" ? scaled + stepScaled - 1n : scaled) / stepScaled;
  const convertedNanos = steps * stepNanos;
  const difference = convertedNanos - exchangeNanos;
  return {
    convertedNanos,
    exchangeNanos,
    roundingNanos: difference < 0n ? -difference : difference,
  };
}

/** What the ledger keeps for itself in a conversion. */
export interface ExchangeAccounts {
  /** Of the currency that the rate is from, and of the one it is to. */
  given: AccountId;
  gotten: AccountId;
  rounding: AccountId;
}

/** The transfers of a conversion, and what they come to. The first has the conversion's id. */
export function conversionLegs(
  conversion: Conversion,
  accounts: ExchangeAccounts,
): Converted & { legs: Direct[] } {
  const { id, kind, from, to, amountNanos, rate, roundTo } = conversion;
  const step = roundTo === "minor" ? minorUnitNanos(rate.to) : 1n;
  const converted = convertAmount(kind, amountNanos, rate.rateNanos, step);
  const note = rateNote(rate);
  const leg = (part: string, between: Pick<Direct, "from" | "to" | "amountNanos">): Direct => ({
    id: part === "given" ? id : derivedId("transfer", "conversion", id, part),
    ...between,
    reason: part === "rounding" ? "rounding" : "conversion",
    note,
  });
  const { given, gotten, rounding } = accounts;
  const { convertedNanos, exchangeNanos, roundingNanos } = converted;
  const legs =
    kind === "charge"
      ? [
          leg("given", { from: given, to, amountNanos }),
          leg("gotten", { from, to: gotten, amountNanos: exchangeNanos }),
          leg("rounding", { from, to: rounding, amountNanos: roundingNanos }),
        ]
      : [
          leg("given", { from, to: given, amountNanos }),
          leg("gotten", { from: gotten, to, amountNanos: convertedNanos }),
          leg("rounding", { from: gotten, to: rounding, amountNanos: roundingNanos }),
        ];
  return { ...converted, legs: legs.filter(({ amountNanos: moved }) => moved > 0n) };
}

/** "USD to CAD at 1.4 of 2025-01-01". */
function rateNote({ from, to, rateNanos, effectiveFrom }: DatedRate): string {
  const decimals = String(rateNanos % NANOS_PER_UNIT)
    .padStart(9, "0")
    .replace(/0+$/, "");
  const rate = `${rateNanos / NANOS_PER_UNIT}${decimals === "" ? "" : `.${decimals}`}`;
  return `${from} to ${to} at ${rate} of ${effectiveFrom}`;
}

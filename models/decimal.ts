/** Decimals of the catalogue's files, held in billionths as amounts are in nano-units. Pure. */
import { NANOS_PER_UNIT, parseUnits } from "../orchestrator/money.ts";

/** Decimal text that its schema has checked. @throws RangeError for any other: a defect. */
export function readDecimal(text: string): bigint {
  const billionths = parseUnits(text);
  if (billionths === null) throw new RangeError(`readDecimal: "${text}" is no decimal`);
  return billionths;
}

/** Every digit of it, at least `decimalsMin` of them after the point: "2.592592593", "3.00". */
export function decimalText(billionths: bigint, decimalsMin = 0): string {
  const units = billionths / NANOS_PER_UNIT;
  const decimals = String(billionths % NANOS_PER_UNIT).padStart(9, "0");
  const shown = decimals.replace(/0+$/, "").padEnd(decimalsMin, "0");
  return shown === "" ? String(units) : `${units}.${shown}`;
}

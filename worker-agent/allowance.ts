/** The text that tells an agent how much money and time it has. Pure. */
import type { Allowance } from "../orchestrator/contract/worker.ts";

const NANOS_PER_UNIT = 1_000_000_000n;
const NANOS_PER_CENT_OF_A_CENT = 100_000n;

/** The instruction with the allowance of `allowance` at `nowMs` appended to it. */
export function withAllowance(instruction: string, allowance: Allowance, nowMs: number): string {
  const { currency, limit_nanos, available_nanos, deadline_at } = allowance;
  const leftMs = Math.max(Date.parse(deadline_at) - nowMs, 0);
  const available = formatMoney(BigInt(available_nanos), currency);
  const limit = formatMoney(BigInt(limit_nanos), currency);
  return [
    instruction.trimEnd(),
    "",
    "---",
    `Your allowance: ${available} of ${limit} for model calls, and ${formatDuration(leftMs)}.`,
    "You are stopped when either runs out, and only the files in the work tree count:",
    "make the change early, keep it small, and do not read more than you need.",
    "",
  ].join("\n");
}

/** Rounded down, so that nobody is told of more than there is: `0.5000 CAD`. */
function formatMoney(nanos: bigint, currency: string): string {
  const whole = nanos / NANOS_PER_UNIT;
  const fraction = (nanos % NANOS_PER_UNIT) / NANOS_PER_CENT_OF_A_CENT;
  return `${whole}.${String(fraction).padStart(4, "0")} ${currency}`;
}

function formatDuration(durationMs: number): string {
  const seconds = Math.floor(durationMs / 1_000);
  if (seconds < 120) return `${seconds} seconds`;
  const minutes = Math.floor(seconds / 60);
  if (minutes < 120) return `${minutes} minutes`;
  return `${Math.floor(minutes / 60)} hours ${minutes % 60} minutes`;
}

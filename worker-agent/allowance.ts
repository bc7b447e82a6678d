/** How an agent is told how much money and time it has: text for it to read, and its file. Pure. */
import type { Allowance } from "../orchestrator/contract/worker.ts";

const NANOS_PER_UNIT = 1_000_000_000n;
const NANOS_PER_CENT_OF_A_CENT = 100_000n;

/** Where an agent finds its allowance as it changes. */
export interface AllowancePlaces {
  /** A JSON file that the agent may read. */
  readonly file: string;
  /** A program that serves it as an MCP tool over its standard streams. */
  readonly server: { readonly command: string; readonly args: readonly string[] };
}

/** The variable of every agent's process that names the file. */
export const ALLOWANCE_VARIABLE = "AUTOCODE_ALLOWANCE_FILE";
/** The MCP server's name, and that of its one tool. */
export const ALLOWANCE_SERVER = "autocode";
export const ALLOWANCE_TOOL = "allowance";

/** The instruction with the allowance of `allowance` at `nowMs` appended to it. */
export function withAllowance(
  instruction: string,
  allowance: Allowance,
  nowMs: number,
  where: { file: string; hasTool: boolean },
): string {
  return [instruction.trimEnd(), "", "---", ...allowanceLines(allowance, nowMs, where), ""].join(
    "\n",
  );
}

/** What is left at `nowMs`, what happens at its end, and where to look again. */
export function allowanceLines(
  allowance: Allowance,
  nowMs: number,
  { file, hasTool }: { file: string; hasTool: boolean },
): string[] {
  const tool = hasTool ? `the tool ${ALLOWANCE_TOOL} or ` : "";
  return [
    `Your allowance: ${whatIsLeft(allowance, nowMs)}.`,
    "You are stopped when either runs out, and only the files in the work tree count:",
    "make the change early, keep it small, and do not read more than you need.",
    `To see what is left later: ${tool}the file ${file}.`,
  ];
}

/** The file's content at `nowMs`: JSON, with one line for people. */
export function allowanceFile(allowance: Allowance, nowMs: number): string {
  const content = {
    summary: `${whatIsLeft(allowance, nowMs)} are left; ${allowance.percent_used} % is used.`,
    ...allowance,
    seconds_left: Math.floor(leftMs(allowance, nowMs) / 1_000),
    as_of: new Date(nowMs).toISOString(),
  };
  return `${JSON.stringify(content, null, 2)}\n`;
}

function whatIsLeft(allowance: Allowance, nowMs: number): string {
  const { currency, limit_nanos, available_nanos, tokens_left } = allowance;
  const available = formatMoney(BigInt(available_nanos), currency);
  const limit = formatMoney(BigInt(limit_nanos), currency);
  const tokens = tokens_left === undefined ? "" : ` (and ${tokens_left} tokens)`;
  const time = formatDuration(leftMs(allowance, nowMs));
  return `${available} of ${limit}${tokens} for model calls, and ${time}`;
}

function leftMs({ deadline_at }: Allowance, nowMs: number): number {
  return Math.max(Date.parse(deadline_at) - nowMs, 0);
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

/** The tables and words in which trials, budgets and times are shown. Pure. */
import type { StatementLine } from "../contract/budgets.ts";
import type { Balance } from "../contract/money.ts";
import type { Experiment, Trial } from "../contract/trials.ts";
import { formatNanos } from "../money.ts";
import type { Column } from "./print.ts";

/** What the user came for: who solved it, for how much. */
export const RESULT_COLUMNS: readonly Column<Trial>[] = [
  { title: "agent", value: ({ agent }) => agent, shrinks: true },
  { title: "pair", value: (trial) => pairName(trial), shrinks: true },
  { title: "task", value: ({ task }) => task, shrinks: true },
  { title: "verdict", value: verdictWord },
  { title: "in", value: ({ usage }) => compact(inputTokens(usage)), align: "right" },
  { title: "out", value: ({ usage }) => compact(usage.output_tokens), align: "right" },
  { title: "cost", value: (trial) => spent(trial), align: "right" },
  { title: "time", value: ({ duration_ms: ms }) => duration(ms), align: "right" },
];

export const LIST_COLUMNS: readonly Column<Trial>[] = [
  { title: "trial", value: ({ id }) => id },
  { title: "agent", value: ({ agent }) => agent, shrinks: true },
  { title: "task", value: ({ task }) => task, shrinks: true },
  { title: "state", value: verdictWord },
  { title: "cost", value: (trial) => spent(trial), align: "right" },
];

export interface CellTotal {
  agent: string;
  pair: string;
  trials: number;
  passed: number;
  inputTokens: number;
  outputTokens: number;
  spentNanos: bigint;
  durationMs: number;
}

/** An experiment's trials, added up for each agent with each pair. */
export function totals({ trials }: Experiment): CellTotal[] {
  const cells = new Map<string, CellTotal>();
  for (const trial of trials) {
    const key = `${trial.agent}\n${trial.pair}`;
    const cell = cells.get(key) ?? emptyCell(trial);
    cells.set(key, cell);
    cell.trials += 1;
    cell.passed += trial.verdict === "passed" ? 1 : 0;
    cell.inputTokens += inputTokens(trial.usage);
    cell.outputTokens += trial.usage.output_tokens;
    cell.spentNanos += BigInt(trial.budget?.spent_nanos ?? "0");
    cell.durationMs += trial.duration_ms ?? 0;
  }
  return [...cells.values()];
}

/** Cost per success is all spending over the successes: failed trials are paid for too. */
export function totalColumns(currency: string): Column<CellTotal>[] {
  const perSuccess = ({ passed, spentNanos }: CellTotal) =>
    passed === 0 ? "-" : formatNanos(spentNanos / BigInt(passed), currency);
  return [
    { title: "agent", value: ({ agent }) => agent, shrinks: true },
    { title: "pair", value: ({ pair }) => pair, shrinks: true },
    { title: "passed", value: ({ passed, trials }) => `${passed}/${trials}`, align: "right" },
    { title: "in", value: (cell) => compact(cell.inputTokens), align: "right" },
    { title: "out", value: (cell) => compact(cell.outputTokens), align: "right" },
    { title: "cost", value: (cell) => formatNanos(cell.spentNanos, currency), align: "right" },
    { title: "per success", value: perSuccess, align: "right" },
    { title: "time", value: (cell) => duration(cell.durationMs), align: "right" },
  ];
}

export function balanceLines(balance: Balance): string[] {
  const { currency } = balance;
  const shown = (nanos: string) => formatNanos(BigInt(nanos), currency);
  return [
    `funded     ${shown(balance.funded_nanos)}`,
    `reserved   ${shown(balance.reserved_nanos)}`,
    `spent      ${shown(balance.spent_nanos)}`,
    `available  ${shown(balance.available_nanos)}`,
  ];
}

/** Whose account it is, in few words: "trial_01j…", "day 2026-11-21", "tokens/project". */
export function ownerWord(owner: string): string {
  const [prefix, rest] = owner.startsWith("tokens/") ? ["tokens/", owner.slice(7)] : ["", owner];
  const [kind = "", id = "", date] = rest.split("/");
  if (kind === "trial") return `${prefix}${id}`;
  return prefix + (date === undefined ? kind : `${kind} ${date}`);
}

/** RFC 4180, a line a movement; text that a spreadsheet would run as a formula is defused. */
export function statementCsv(lines: readonly StatementLine[]): string {
  const names = [
    ...(["transfer_id", "at", "kind", "reason", "debit", "credit"] as const),
    ...(["amount_nanos", "available_nanos", "note", "reverses_id"] as const),
  ];
  const cell = (name: (typeof names)[number], line: StatementLine) => {
    const text = line[name] ?? "";
    const defused = /^[=+\-@\t\r]/.test(text) && !name.endsWith("_nanos") ? `'${text}` : text;
    return /[",\r\n]/.test(defused) ? `"${defused.replaceAll('"', '""')}"` : defused;
  };
  const table = [names, ...lines.map((line) => names.map((name) => cell(name, line)))];
  return table.map((cells) => `${cells.join(",")}\r\n`).join("");
}

/** The verdict where there is one, else the state. */
export function verdictWord({ verdict, state }: Trial): string {
  return verdict === null || state === "cancelled" || state === "paused" ? state : verdict;
}

export function spent({ budget }: Pick<Trial, "budget">): string {
  return budget === null ? "-" : formatNanos(BigInt(budget.spent_nanos), budget.currency);
}

export function inputTokens(usage: Trial["usage"]): number {
  return usage.input_tokens + usage.cache_read_tokens + usage.cache_write_tokens;
}

/** 999, 12.3k, 4.56M: a count of tokens for a narrow column. */
export function compact(count: number): string {
  if (count < 1000) return String(count);
  // 999,500 would round to 1000k.
  const [scaled, unit] = count < 999_500 ? [count / 1000, "k"] : [count / 1_000_000, "M"];
  return `${scaled.toPrecision(3)}${unit}`;
}

export function duration(ms: number | null): string {
  if (ms === null) return "-";
  const seconds = ms / 1000;
  if (seconds < 60) return `${seconds.toFixed(1)} s`;
  const minutes = Math.floor(seconds / 60);
  if (minutes < 60) return `${minutes} min ${Math.floor(seconds % 60)} s`;
  return `${Math.floor(minutes / 60)} h ${minutes % 60} min`;
}

/** A stand-in for a model is labelled wherever it shows; so is a record. */
function pairName({ pair, is_scripted: isScripted, replay_of: replayed }: Trial): string {
  if (replayed !== null) return `${pair} (replay)`;
  return isScripted && !pair.includes("scripted") ? `${pair} (scripted)` : pair;
}

function emptyCell({ agent, pair }: Trial): CellTotal {
  return {
    agent,
    pair,
    trials: 0,
    passed: 0,
    inputTokens: 0,
    outputTokens: 0,
    spentNanos: 0n,
    durationMs: 0,
  };
}

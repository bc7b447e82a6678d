/**
 * Our settled tokens beside what somebody else counted, by model, for one day. Pure.
 *
 * Tolerated is a difference of one in a hundred, or 2,000 tokens, whichever is more: a call that
 * runs over midnight is of the day it began in with us, and of another one with its provider.
 */
import type { UsageCount } from "./usage-counts.ts";

export const TOLERANCE = { tokens: 2_000, parts: 100 } as const;

/** What we settled; calls whose server sent no usage are counted by us. */
export interface SettledCount extends UsageCount {
  readonly callCount: number;
  readonly estimatedCount: number;
}

export interface Compared {
  readonly model: string;
  readonly ours: Pick<UsageCount, "inputTokens" | "outputTokens">;
  readonly theirs: Pick<UsageCount, "inputTokens" | "outputTokens">;
  readonly isMatched: boolean;
  /** For a person: one sentence. */
  readonly detail: string;
}

const NONE = { inputTokens: 0, outputTokens: 0 } as const;

/** A row for each model that either of the two names. */
export function compareCounts(
  ours: readonly SettledCount[],
  theirs: readonly UsageCount[],
): Compared[] {
  const left = [...theirs];
  const rows = ours.map((settled) => {
    const same = left.filter(({ model }) => isSameModel(settled.model, model));
    for (const each of same) left.splice(left.indexOf(each), 1);
    return compare(settled.model, settled, sum(same));
  });
  const unknown = Map.groupBy(left, ({ model }) => model);
  return [
    ...rows,
    ...[...unknown].map(([model, counts]) => compare(model, null, sum(counts))),
  ].toSorted((a, b) => (a.model < b.model ? -1 : 1));
}

/**
 * What a counter that only grows has counted since it was last read. It begins at 0 when its
 * process starts: then all that it shows is new.
 */
export function counterDelta(before: number | null, now: number): number {
  return before === null || now < before ? now : now - before;
}

/** A provider tells the version of a model with its date: `gpt-5-2026-01-01` is `gpt-5`. */
function isSameModel(ours: string, theirs: string): boolean {
  const [a, b] = [ours.toLowerCase(), theirs.toLowerCase()];
  if (a === b || a.split("/").at(-1) === b.split("/").at(-1)) return true;
  return b.startsWith(`${a}-`) && /^\d{4}-?\d{2}-?\d{2}$/.test(b.slice(a.length + 1));
}

function compare(
  model: string,
  settled: SettledCount | null,
  theirs: Pick<UsageCount, "inputTokens" | "outputTokens">,
): Compared {
  const { inputTokens, outputTokens } = settled ?? NONE;
  const ours = { inputTokens, outputTokens };
  const differences = [
    tell("input", ours.inputTokens, theirs.inputTokens),
    tell("output", ours.outputTokens, theirs.outputTokens),
  ].filter((told) => told !== null);
  const isMatched = differences.length === 0;
  const counted = settled === null ? "no call of ours" : `${settled.callCount} calls of ours`;
  const estimated =
    settled !== null && settled.estimatedCount > 0
      ? `, ${settled.estimatedCount} of them counted by us`
      : "";
  const said = isMatched ? "they agree" : differences.join("; ");
  return { model, ours, theirs, isMatched, detail: `${counted}${estimated}: ${said}` };
}

function tell(what: string, ours: number, theirs: number): string | null {
  const difference = theirs - ours;
  const allowed = Math.max(TOLERANCE.tokens, Math.max(ours, theirs) / TOLERANCE.parts);
  if (Math.abs(difference) <= allowed) return null;
  return difference > 0
    ? `they counted ${difference} ${what} tokens more: something was called around the gateway`
    : `we settled ${-difference} ${what} tokens more than they counted`;
}

function sum(counts: readonly UsageCount[]): Pick<UsageCount, "inputTokens" | "outputTokens"> {
  return counts.reduce(
    (total, { inputTokens, outputTokens }) => ({
      inputTokens: total.inputTokens + inputTokens,
      outputTokens: total.outputTokens + outputTokens,
    }),
    NONE as Pick<UsageCount, "inputTokens" | "outputTokens">,
  );
}

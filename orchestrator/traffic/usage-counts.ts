/** What somebody else counted of our use: a provider's report, or an engine's counters. */

/** Tokens of a model on one day, in UTC. */
export interface UsageCount {
  /** As its provider names it. */
  readonly model: string;
  /** All input, with what was read from and put in a cache. */
  readonly inputTokens: number;
  readonly outputTokens: number;
}

export interface UsageCounts {
  /** The provider's name in our calls. */
  readonly provider: string;
  /**
   * What it counted on that day: `2026-11-21`. Null: it cannot be asked, and `fault` says why.
   *
   * @throws Problem `upstream_failed` when it does not answer as it should, in its own words.
   */
  counts(day: string): Promise<readonly UsageCount[] | null>;
  /** Why it cannot be asked; null when it can. */
  fault(): Promise<string | null>;
}

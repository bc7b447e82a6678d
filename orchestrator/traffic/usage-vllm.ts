/**
 * vLLM's own counters (`vllm:prompt_tokens_total`, `vllm:generation_tokens_total` of its
 * `/metrics`), of a server that somebody else started: read every ten seconds, added up by day.
 *
 * What it counted between the last read and its end is not seen: ten seconds of it at most.
 */
import type { Database } from "../db/database.ts";
import { Problem } from "../problem.ts";
import type { BackgroundTask } from "../runtime/background.ts";
import type { Clock } from "../runtime/clock.ts";
import { addCounted, readCounted } from "./counted.ts";
import type { UsageCount, UsageCounts } from "./usage-counts.ts";

export interface VllmUsage extends UsageCounts {
  /** A duty. */
  readonly task: BackgroundTask;
}

const PERIOD_MS = 10_000;
const TIMEOUT_MS = 10_000;
const METRICS_BYTES_MAX = 8 * 1024 * 1024;
const SAMPLE =
  /^vllm:(prompt|generation)_tokens(?:_total)?\{([^}]*)\}\s+([0-9.eE+-]+)(?:\s+\d+)?\s*$/;

/**
 * @param baseUrl of its API, with or without `/v1`.
 * @param observe takes all that its `/metrics` said.
 */
export function createVllmUsage(
  {
    db,
    clock,
    observe = async () => {},
  }: { db: Pick<Database, "sql">; clock: Clock; observe?: (text: string) => Promise<unknown> },
  { provider, baseUrl }: { provider: string; baseUrl: string },
): VllmUsage {
  const url = `${baseUrl.replace(/\/+$/, "").replace(/\/v1$/, "")}/metrics`;
  let lastFault: string | null = null;
  return {
    provider,
    counts: (day) => readCounted(db, provider, day),
    fault: async () => lastFault,
    task: { name: `count_${provider}_tokens`, periodMs: PERIOD_MS, activate },
  };

  async function activate(): Promise<{ models: number }> {
    try {
      const text = await ask();
      const counted = readCounters(text);
      const known = { provider, startedAtMs: null };
      for (const each of counted) await addCounted(db, { ...known, ...each }, clock.now());
      lastFault = null;
      await observe(text);
      return { models: counted.length };
    } catch (error) {
      lastFault = `its counters were not read: ${(error as Error).message}`;
      throw error;
    }
  }

  async function ask(): Promise<string> {
    const response = await fetch(url, { signal: AbortSignal.timeout(TIMEOUT_MS) }).catch(
      (cause: unknown) => {
        throw new Problem("upstream_failed", `${provider} does not answer at ${url}`, { cause });
      },
    );
    const text = await response.text();
    if (response.ok && text.length <= METRICS_BYTES_MAX) return text;
    throw new Problem("upstream_failed", `${provider}: ${url} answers ${response.status}`);
  }
}

/** The counters of all models and all of its engines, in Prometheus' text format. Pure. */
export function readCounters(text: string): UsageCount[] {
  const found = new Map<string, { inputTokens: number; outputTokens: number }>();
  for (const line of text.split("\n")) {
    const [, kind, labels = "", value] = SAMPLE.exec(line) ?? [];
    const model = /(?:^|,)\s*model_name="((?:[^"\\]|\\.)*)"/.exec(labels)?.[1];
    const count = Number(value);
    if (kind === undefined || model === undefined || !Number.isFinite(count)) continue;
    const sums = found.get(model) ?? { inputTokens: 0, outputTokens: 0 };
    if (kind === "prompt") sums.inputTokens += Math.round(count);
    else sums.outputTokens += Math.round(count);
    found.set(model, sums);
  }
  return [...found].map(([model, sums]) => ({ model, ...sums }));
}

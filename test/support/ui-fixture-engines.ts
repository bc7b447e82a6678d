/** What the UI's fixture says of the engine that answered: three of four calls, and its samples. */
import type { Call } from "../../orchestrator/contract/calls.ts";
import type { TrialEngine } from "../../orchestrator/contract/engines.ts";
import { type EngineSample, engineShares } from "../../orchestrator/trials/engine-share.ts";

const PROVIDER = "served/qwen3-coder-next/normal";

/** The first call went to a hosted provider; the others to an engine of ours, and streamed. */
export function fixtureEngines(calls: readonly Call[]): TrialEngine[] {
  const own = calls.map((call, index) =>
    index === 0
      ? call
      : { ...call, provider: PROVIDER, gpu_ms: call.usage.output_tokens * 3, duration_ms: 5_800 },
  );
  const startMs = Date.parse(calls[0]?.started_at ?? "");
  const samples = Array.from({ length: 24 }, (_, index): EngineSample => {
    const wave = Math.sin(index / 3);
    return {
      ...{ provider: PROVIDER, model: "qwen3-coder-next", gpus: 2 },
      ...{ atMs: startMs + index * 1_000, startedAtMs: startMs - 3_600_000 },
      ...{ runningMean: 4 + 3 * wave, runningMax: Math.round(6 + 3 * wave) },
      ...{ waitingMean: Math.max(0, 2 * wave), waitingMax: wave > 0.5 ? 3 : 0 },
      kvCacheUsageMax: 0.45 + 0.3 * wave,
      ...{ promptTokens: 90_000 + index * 2_600, cachedTokens: 40_000 + index * 1_500 },
      ...{ generationTokens: 20_000 + index * 240, preemptions: index > 12 ? 1 : 0 },
      ...{ queueMs: index * 90, queuedCalls: index, firstTokenMs: index * 310 },
      firstTokenCalls: index,
    };
  });
  return engineShares(own, samples);
}

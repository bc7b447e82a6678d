/** What a trial got from its model servers, in lines of 80 columns. Pure. */
import type { TrialEngine } from "../contract/engines.ts";

/** Nothing of the scripted model: it is no server, and fast as no server is. */
export function engineLines(engines: readonly TrialEngine[]): string[] {
  return engines.filter(({ provider }) => provider !== "scripted").flatMap(linesOf);
}

function linesOf({ provider, model, calls, load }: TrialEngine): string[] {
  const first = calls.first_token_ms;
  const share = load?.gpu_share ?? null;
  const gpuTime = calls.gpu_ms === null ? [] : [`${seconds(calls.gpu_ms)} of GPU time`];
  const speed = calls.output_tokens_per_second;
  const { call_count: count, failed_count: failed } = calls;
  const lines = [
    `${model} at ${provider}`,
    `  its calls  ${count}, ${failed} failed, busy for ${seconds(calls.busy_ms)}`,
    `  speed      ${speed === null ? "nothing was streamed" : `${speed} output tokens/s`}${
      first === null
        ? ""
        : `, first token after ${seconds(first.median)} (95 % by ${seconds(first.p95)})`
    }`,
    `  tokens     ${calls.input_tokens - calls.cached_tokens} prefilled, ${calls.cached_tokens} ` +
      `from cache (${percent(calls.cached_share)}), ${calls.output_tokens} out`,
    ...gpuTime.map(
      (time) => `  GPUs       ${time}${share === null ? "" : `, ${percent(share)} of all it had`}`,
    ),
  ];
  if (load === null) return lines;
  const queue = load.queue_ms === null ? "" : `, ${seconds(load.queue_ms)} a call`;
  return [
    ...lines,
    `  meanwhile  ${load.running_mean} ran (${load.running_max} at most), ` +
      `${load.waiting_mean} in line (${load.waiting_max} at most${queue})`,
    `             cache ${percent(load.kv_cache_usage_max)} full at most, ` +
      `${load.preemptions} preemptions, ${load.output_tokens_per_second} tokens/s for all`,
  ];
}

function seconds(ms: number): string {
  return ms < 1_000 ? `${Math.round(ms)} ms` : `${(ms / 1_000).toFixed(1)} s`;
}

function percent(share: number | null): string {
  return share === null ? "none" : `${Math.round(share * 100)} %`;
}

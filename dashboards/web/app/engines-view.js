/** What a trial got from each model server, and how loaded that was meanwhile. */
import { html } from "/vendor/htm-preact.js";
import { getJson } from "./api.js";
import { EngineChart } from "./engine-chart.js";
import { formatCount, formatDuration, visible } from "./format.js";
import { useLive } from "./live.js";
import { useBatched, useLoad } from "./loading.js";
import { Empty, Failure, ScriptedLabel, Skeleton } from "./parts.js";
import { isActive } from "./trial-facts.js";

/** @typedef {import("../../../orchestrator/contract/engines.ts").TrialEngine} TrialEngine */
/** @typedef {import("../../../orchestrator/contract/engines.ts").EngineLoad} EngineLoad */

/** @param {{ trial: import("./trial-facts.js").Trial }} props */
export function EnginesView({ trial }) {
  const { id } = trial;
  const path = `/trials/${encodeURIComponent(id)}/engines`;
  const { data, error, reload } = useLoad((signal) => getJson(path, signal), [id]);
  const readAgain = useBatched(() => void reload(), 1_000);
  useLive(
    (event) => {
      if (event.trial_id === id && event.type.startsWith("call.")) readAgain();
    },
    readAgain,
    [id, readAgain],
  );
  if (data === null && error !== null) return html`<${Failure} error=${error} onRetry=${reload} />`;
  if (data === null) return html`<${Skeleton} lines=${6} label="Loading engines" />`;
  if (data.engines.length === 0) {
    return html`<${Empty} title=${isActive(trial) ? "No calls yet" : "The agent made no calls"} />`;
  }
  return data.engines.map(
    (/** @type {TrialEngine} */ engine) => html`<${Engine}
      key=${`${engine.provider} ${engine.model}`} engine=${engine} />`,
  );
}

/** @param {{ engine: TrialEngine }} props */
function Engine({ engine }) {
  const { provider, model, sides, calls, load, timeline } = engine;
  return html`<section class="card engine" aria-label=${`${model} at ${provider}`}>
    <h2>${model} ${sides.map((side) => html`<span class="tag" key=${side}>${side}</span> `)}
      ${provider === "scripted" && html`<${ScriptedLabel} />`}
      <span class="muted small">${visible(provider)}</span></h2>
    <${Own} calls=${calls} load=${load} />
    ${
      load === null
        ? html`<p class="muted small">No figures of the server itself: autocode scrapes engines that
            it started, and the one at VLLM_BASE_URL, every ten seconds.</p>`
        : html`<h3>The engine meanwhile, whoever called it</h3>
            <${Load} load=${load} />
            <${EngineChart} timeline=${timeline} peak=${load.running_max + load.waiting_max} />`
    }
  </section>`;
}

/** @param {{ calls: TrialEngine["calls"], load: EngineLoad | null }} props */
function Own({ calls, load }) {
  const { first_token_ms: first, gpu_ms: gpuMs, failed_count: failed } = calls;
  const share = load?.gpu_share ?? null;
  const callNote =
    failed > 0 ? `${formatCount(failed)} failed` : `in ${formatDuration(calls.busy_ms)}`;
  return html`<dl class="figures">
    <${Figure} title="Calls" text=${formatCount(calls.call_count)} note=${callNote} />
    <${Figure} title="Output tokens/s" text=${rate(calls.output_tokens_per_second)}
      note=${`${formatCount(calls.output_tokens)} in all`} />
    <${Figure} title="First token" text=${first === null ? "–" : formatDuration(first.median)}
      note=${first === null ? "nothing was streamed" : `95 % by ${formatDuration(first.p95)}`} />
    <${Figure} title="Prefill tokens" text=${formatCount(calls.input_tokens - calls.cached_tokens)}
      note=${`of ${formatCount(calls.input_tokens)} in`} />
    <${Figure} title="From cache" text=${percent(calls.cached_share)} note="of its input" />
    <${Figure} title="GPU time" text=${gpuMs === null ? "–" : formatDuration(gpuMs)}
      note=${share === null ? "" : `${percent(share)} of its GPUs' meanwhile`} />
  </dl>`;
}

/** @param {{ load: EngineLoad }} props */
function Load({ load }) {
  const most = (/** @type {number} */ count) => `${formatCount(count)} at most`;
  const { token_share: part } = load;
  const own = part === null ? "" : `${percent(part)} of its tokens are this trial's`;
  return html`<dl class="figures">
    <${Figure} title="Running" text=${rate(load.running_mean)} note=${most(load.running_max)} />
    <${Figure} title="In line" text=${rate(load.waiting_mean)} note=${most(load.waiting_max)} />
    <${Figure} title="Queued for" text=${duration(load.queue_ms)} note="a call, on the average" />
    <${Figure} title="Cache in use" text=${percent(load.kv_cache_usage_max)} note="at most" />
    <${Figure} title="Preemptions" text=${formatCount(load.preemptions)} note="" />
    <${Figure} title="Output tokens/s" text=${rate(load.output_tokens_per_second)} note=${own} />
  </dl>`;
}

/** @param {{ title: string, text: string, note: string }} props */
function Figure({ title, text, note }) {
  return html`<div><dt>${title}</dt><dd>${text}</dd>
    ${note !== "" && html`<dd class="note">${note}</dd>`}</div>`;
}

/** @param {number | null} share */
function percent(share) {
  return share === null ? "–" : `${Math.round(share * 100)} %`;
}

/** @param {number | null} value */
function rate(value) {
  return value === null ? "–" : formatCount(Math.round(value * 10) / 10);
}

/** @param {number | null} ms */
function duration(ms) {
  return ms === null ? "–" : formatDuration(ms);
}

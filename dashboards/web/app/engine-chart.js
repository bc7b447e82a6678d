/** How loaded an engine was while a trial used it: sequences over time, its own in front. */
import { html } from "/vendor/htm-preact.js";
import { formatDuration, formatMoment } from "./format.js";

/** @typedef {import("../../../orchestrator/contract/engines.ts").TrialEngine} TrialEngine */
/** @typedef {TrialEngine["timeline"][number]} Point */

const WIDTH = 720;
const HEIGHT = 120;
/** The lowest top of the scale: one sequence is not a full chart. */
const LEAST = 4;

/** @param {{ timeline: readonly Point[], peak: number }} props */
export function EngineChart({ timeline, peak }) {
  const [first, last] = [timeline[0], timeline.at(-1)];
  if (first === undefined || last === undefined) return null;
  const most = Math.max(LEAST, ...timeline.map(({ running, waiting }) => running + waiting));
  const startMs = Date.parse(first.from);
  const lengthMs = Math.max(1, Date.parse(last.to) - startMs);
  const at = (/** @type {string} */ time) => ((Date.parse(time) - startMs) * WIDTH) / lengthMs;
  const area = (/** @type {(point: Point) => number} */ of) =>
    timeline
      .map((point) => {
        const height = (of(point) * HEIGHT) / most;
        const [from, to] = [at(point.from).toFixed(1), at(point.to).toFixed(1)];
        return `M${from} ${HEIGHT}V${(HEIGHT - height).toFixed(1)}H${to}V${HEIGHT}Z`;
      })
      .join("");
  const cache = timeline
    .map(({ from, to, kv_cache_usage: usage }) => {
      const y = (HEIGHT - usage * HEIGHT).toFixed(1);
      return `M${at(from).toFixed(1)} ${y}H${at(to).toFixed(1)}`;
    })
    .join("");
  const said =
    `Sequences of the engine from ${formatMoment(first.from)} on, for ` +
    `${formatDuration(lengthMs)}: at most ${peak} at once`;
  const scale = `${formatDuration(lengthMs)} · top: ${Math.ceil(most)} sequences`;
  return html`<figure class="engine-chart">
    <svg viewBox=${`0 0 ${WIDTH} ${HEIGHT}`} preserveAspectRatio="none" role="img"
      aria-label=${said}>
      <path class="waiting" d=${area(({ running, waiting }) => running + waiting)} />
      <path class="running" d=${area(({ running }) => running)} />
      <path class="own" d=${area(({ own_running: own, running }) => Math.min(own, running))} />
      <path class="cache" d=${cache} />
    </svg>
    <figcaption>
      <span><span class="key own"></span> this trial</span>
      <span><span class="key running"></span> all that ran</span>
      <span><span class="key waiting"></span> in line</span>
      <span><span class="key cache"></span> cache in use, of the whole height</span>
      <span class="engine-scale">${scale}</span>
    </figcaption>
  </figure>`;
}

/** What a plan of a pair on GPUs says, in words and as bars. Pure. */
import { formatCount } from "./format.js";

/** @typedef {import("../../../orchestrator/contract/models.ts").PairPlan} PairPlan */
/** @typedef {import("../../../orchestrator/contract/models.ts").ModelPlan} ModelPlan */
/** @typedef {import("../../../orchestrator/contract/models.ts").MemoryPart} MemoryPart */

/**
 * What one or more GPUs of a plan hold, all alike.
 *
 * @typedef {{
 *   label: string, engines: ModelPlan[], usedBytes: number, freeBytes: number, overBytes: number,
 *   lacksCache: boolean,
 * }} FitBar
 */

/** What takes memory, in the order of the bars. */
export const PARTS = [
  { part: "weights", title: "Weights" },
  { part: "kv_cache", title: "KV cache" },
  { part: "activations", title: "Activations" },
  { part: "cuda_graphs", title: "CUDA graphs" },
  { part: "framework", title: "Framework" },
];

/** The wish fields of the address, beside `pair` and `gpu`, as the API names them. */
export const WISHES = {
  count: "gpu_count",
  context: "context_tokens",
  concurrency: "concurrency",
  rate: "rate_per_gpu_hour",
  utilisation: "utilisation",
};
const DECIMALS = new Set(["rate", "utilisation"]);

/**
 * What is asked of the planner. What is no number is sent as it was typed: the server names the
 * field that is wrong.
 *
 * @param {Record<string, string>} wish by the names of the address
 * @param {string} rateCurrency what `rate` is in
 */
export function planRequest({ pair, gpu, ...wish }, rateCurrency) {
  /** @type {Record<string, unknown>} */
  const request = { pair, gpu, gpu_count: 1 };
  for (const [name, field] of Object.entries(WISHES)) {
    const text = wish[name] ?? "";
    if (text === "") continue;
    request[field] = DECIMALS.has(name) || !/^\d{1,9}$/.test(text) ? text : Number(text);
  }
  if (request["rate_per_gpu_hour"] !== undefined) request["currency"] = rateCurrency;
  return request;
}

/**
 * What a line of advice changes about the wish, by the options of the command line that it names;
 * null: it cannot be followed here.
 *
 * @param {string} text
 * @returns {Record<string, string> | null}
 */
export function adviceWish(text) {
  const [, pair] = /^the smaller pair ([a-z0-9.-]+):/.exec(text) ?? [];
  if (pair !== undefined) return { pair };
  const [, count, gpu] = /\(--gpu (\d+)x([a-z0-9-]+)\)/.exec(text) ?? [];
  if (count !== undefined && gpu !== undefined) return { count, gpu };
  const [, option, value] = /\(--(context|concurrency) (\d+)\)/.exec(text) ?? [];
  return option === undefined || value === undefined ? null : { [option]: value };
}

/**
 * A bar for each set of GPUs that hold the same. Where models take turns, and where they do not
 * fit, each has a bar of its own: their memory never adds up.
 *
 * @param {PairPlan} plan
 * @returns {FitBar[]}
 */
export function fitBars(plan) {
  const { residency, models, gpu_count: count, gpu_memory_bytes: memory } = plan;
  if (residency === "alternate" || residency === "none") {
    const when = (/** @type {string} */ side) =>
      residency === "alternate" ? `while ${side} works` : `if ${side} is alone`;
    return models.map((model) =>
      bar(`${gpusText(model.gpus, count)}, ${when(model.side)}`, [model], memory),
    );
  }
  /** @type {Map<string, { gpus: number[], engines: ModelPlan[] }>} */
  const alike = new Map();
  for (let gpu = 0; gpu < count; gpu++) {
    const engines = models.filter(({ gpus }) => gpus.includes(gpu));
    const key = engines.map(({ side }) => side).join();
    const known = alike.get(key);
    if (known === undefined) alike.set(key, { gpus: [gpu], engines });
    else known.gpus.push(gpu);
  }
  return [...alike.values()].map(({ gpus, engines }) =>
    bar(gpusText(gpus, count), engines, memory),
  );
}

/** @param {string} label @param {ModelPlan[]} engines @param {number} memory @returns {FitBar} */
function bar(label, engines, memory) {
  const usedBytes = engines
    .flatMap((each) => each.memory)
    .reduce((sum, { bytes }) => sum + bytes, 0);
  return {
    ...{ label, engines, usedBytes },
    freeBytes: Math.max(0, memory - usedBytes),
    overBytes: Math.max(0, usedBytes - memory),
    // What does not fit has room for no cache, though some memory may be left.
    lacksCache: engines.some((each) => partBytes(each.memory, "kv_cache") === 0),
  };
}

/** "GPU 0", "GPUs 0–3, each". @param {readonly number[]} gpus @param {number} count */
export function gpusText(gpus, count) {
  if (gpus.length === 0) return count === 1 ? "The GPU" : "Each GPU";
  const runs = [];
  for (const gpu of gpus) {
    const last = runs.at(-1);
    if (last !== undefined && last[1] === gpu - 1) last[1] = gpu;
    else runs.push([gpu, gpu]);
  }
  const said = runs.map(([from, to]) => (from === to ? `${from}` : `${from}–${to}`)).join(", ");
  return gpus.length === 1 ? `GPU ${said}` : `GPUs ${said}, each`;
}

/** The sum of a bar in one sentence, for who does not see it. @param {FitBar} bar */
export function barText(bar) {
  const { label, engines } = bar;
  const held = engines.map(({ side, memory }) => {
    const parts = PARTS.flatMap(({ part, title }) => {
      const bytes = partBytes(memory, part);
      return bytes === 0 ? [] : [`${title.replace(/^[A-Z](?=[a-z])/, lower)} ${gib(bytes)}`];
    });
    return `${side}: ${parts.join(", ")}`;
  });
  return `${label}: ${[...held, roomText(bar)].join("; ")}`;
}

/** What is left of a bar, or lacks. @param {FitBar} bar */
export function roomText({ freeBytes, overBytes, lacksCache }) {
  if (overBytes > 0) return `${gib(overBytes)} too much`;
  return `${gib(freeBytes)} ${lacksCache ? "left for its cache: too little" : "free"}`;
}

/** @param {readonly MemoryPart[]} memory @param {string} part */
export function partBytes(memory, part) {
  return memory.reduce((sum, each) => sum + (each.part === part ? each.bytes : 0), 0);
}

/** GPU memory is told in GiB, as drivers and vLLM do: "27.5 GiB". @param {number} bytes */
export function gib(bytes) {
  return `${(bytes / 2 ** 30).toFixed(1)} GiB`;
}

/** "4,210", "51.3". @param {number} perSecond */
export function speedText(perSecond) {
  return perSecond < 100 ? String(Math.round(perSecond * 10) / 10) : wholeText(perSecond);
}

/** @param {number} count */
function wholeText(count) {
  return formatCount(Math.round(count));
}

/** How the two models share the GPUs. @param {PairPlan} plan */
export function residencyText({ residency, models, gpu_count: count }) {
  const onOne = count === 1;
  switch (residency) {
    case "together":
      return `Both models stay loaded, side by side on ${onOne ? "the GPU" : "the same GPUs"}`;
    case "apart":
      return `Both models stay loaded, on GPUs of their own: ${models
        .map(({ side, gpus }) => `${side} on ${gpusText(gpus, count).replace(", each", "")}`)
        .join(", ")}`;
    case "alternate":
      return "Each fits alone: one sleeps while the other works";
    default:
      return "At least one of the models does not fit";
  }
}

/** @param {string} letter */
function lower(letter) {
  return letter.toLowerCase();
}

/** The planner: what a pair would take on GPUs of a kind, asked for in the address. */
import { html, useEffect, useRef, useState } from "/vendor/htm-preact.js";
import { getJson, postJson, query } from "./api.js";
import { useLoad } from "./loading.js";
import { Empty, Failure, Skeleton } from "./parts.js";
import { gib, planRequest, WISHES } from "./plan-facts.js";
import { PlanView } from "./plan-view.js";
import { navigate } from "./router.js";

/** @typedef {import("../../../orchestrator/contract/models.ts").HardwareList} HardwareList */
/** @typedef {HardwareList["gpus"][number]} Gpu */
/** @typedef {import("../../../orchestrator/contract/models.ts").PairPlan} PairPlan */

const TYPING_MS = 400;
const NAMES = ["pair", "gpu", ...Object.keys(WISHES)];

/** @param {{ search: URLSearchParams }} props */
export function PlanPanel({ search }) {
  const choices = useLoad(readChoices, []);
  if (choices.error) {
    return html`<${Failure} error=${choices.error} onRetry=${choices.reload} />`;
  }
  if (choices.data === null) return html`<${Skeleton} lines=${8} label="Loading the planner" />`;
  const { pairs, gpus, own } = choices.data;
  const [firstPair] = pairs;
  const firstGpu = gpus.find(({ name }) => name === own?.gpu) ?? gpus[0];
  if (firstPair === undefined || firstGpu === undefined) {
    return html`<${Empty} title="There is nothing to plan with">
      <p>The catalogue has no pair of models of our own, or knows no GPU.</p>
    <//>`;
  }
  const wish = {
    ...{ pair: firstPair, gpu: firstGpu.name },
    // Of this machine's own GPUs, all of them, unless others are asked about.
    ...(own && !search.has("gpu") ? { count: String(own.gpu_count) } : {}),
    ...Object.fromEntries(
      NAMES.flatMap((name) => (search.get(name) ? [[name, search.get(name) ?? ""]] : [])),
    ),
  };
  return html`<${WishForm} wish=${wish} pairs=${pairs} gpus=${gpus} />
    <${Answer} wish=${wish} gpus=${gpus} />`;
}

/** @param {AbortSignal} signal */
async function readChoices(signal) {
  const [{ pairs }, { gpus, own }] = await Promise.all([
    getJson("/pairs", signal),
    getJson("/hardware", signal),
  ]);
  const ours = pairs.filter((/** @type {{ provider: string }} */ pair) => pair.provider === "vllm");
  return { pairs: ours.map((/** @type {{ name: string }} */ { name }) => name), gpus, own };
}

/**
 * @param {{ wish: Record<string, string>, pairs: string[], gpus: Gpu[] }} props
 */
function WishForm({ wish, pairs, gpus }) {
  const [typed, setTyped] = useState(wish);
  const timer = useRef(/** @type {ReturnType<typeof setTimeout> | undefined} */ (undefined));
  const address = query(wish);
  useEffect(() => setTyped(wish), [address]);
  useEffect(() => () => clearTimeout(timer.current), []);
  const go = (/** @type {Record<string, string>} */ next) => {
    clearTimeout(timer.current);
    navigate(`/models/plan${query(next)}`, { isReplacing: true });
  };
  const change = (
    /** @type {string} */ name,
    /** @type {string} */ value,
    /** @type {boolean} */ isAtOnce,
  ) => {
    const next = { ...typed, [name]: value };
    setTyped(next);
    clearTimeout(timer.current);
    if (isAtOnce) go(next);
    else timer.current = setTimeout(() => go(next), TYPING_MS);
  };
  const choice = (
    /** @type {string} */ name,
    /** @type {string} */ title,
    /** @type {{ value: string, text: string }[]} */ options,
  ) => html`<label><span>${title}</span>
    <select name=${name} value=${typed[name]} onChange=${(
      /** @type {{ target: HTMLSelectElement }} */ { target },
    ) => change(name, target.value, true)}>
      ${withUnknown(options, typed[name] ?? "").map(
        ({ value, text }) =>
          html`<option key=${value} value=${value} selected=${value === typed[name]}>${text}</option>`,
      )}
    </select></label>`;
  const field = (
    /** @type {string} */ name,
    /** @type {string} */ title,
    /** @type {string} */ hint,
  ) => html`<label><span>${title}</span>
    <input name=${name} value=${typed[name] ?? ""} placeholder=${hint} autocomplete="off"
      inputmode="decimal" onInput=${(/** @type {{ target: HTMLInputElement }} */ { target }) =>
        change(name, target.value.trim(), false)} /></label>`;
  const gpu = gpus.find(({ name }) => name === typed["gpu"]) ?? gpus[0];
  return html`<form class="card plan-wish" aria-label="Plan for"
    onSubmit=${(/** @type {Event} */ event) => {
      event.preventDefault();
      go(typed);
    }}>
    ${choice(
      "pair",
      "Pair",
      pairs.map((name) => ({ value: name, text: name })),
    )}
    ${choice(
      "gpu",
      "GPU",
      gpus.map((each) => ({
        value: each.name,
        text: `${each.title}, ${gib(each.memory_bytes)}`,
      })),
    )}
    ${field("count", "How many GPUs", "1")}
    ${field("context", "Context, tokens", "by its card")}
    ${field("concurrency", "Sequences at once", "up to 8")}
    ${field("rate", `${gpu?.currency ?? ""} per GPU-hour`, gpu?.rate_per_hour ?? "")}
    ${field("utilisation", "Utilisation", "0.5")}
  </form>`;
}

/**
 * What an address names stays chosen though we do not know it: the server says what is wrong.
 *
 * @param {{ value: string, text: string }[]} options
 * @param {string} chosen
 */
function withUnknown(options, chosen) {
  if (options.some(({ value }) => value === chosen)) return options;
  return [{ value: chosen, text: chosen }, ...options];
}

/** @param {{ wish: Record<string, string>, gpus: Gpu[] }} props */
function Answer({ wish, gpus }) {
  const gpu = gpus.find(({ name }) => name === wish["gpu"]);
  const request = planRequest(
    /** @type {{ pair: string, gpu: string }} */ (wish),
    gpu?.currency ?? "USD",
  );
  const asked = JSON.stringify(request);
  const plan = useLoad(async () => ({ plan: await postJson("/models/plan", request) }), [asked]);
  /** The last plan stays in sight while the next is made, so that nothing jumps. */
  const shown = useRef(/** @type {{ plan: PairPlan, request: object } | null} */ (null));
  if (plan.data !== null) shown.current = { plan: plan.data.plan, request };
  if (plan.error) return html`<${Failure} error=${plan.error} onRetry=${plan.reload} />`;
  if (shown.current === null) return html`<${Skeleton} lines=${10} label="Planning" />`;
  return html`<div class="plan" aria-live="polite" aria-busy=${plan.isLoading}>
    <${PlanView} plan=${shown.current.plan} request=${shown.current.request}
      gpuTitle=${gpus.find(({ name }) => name === shown.current?.plan.gpu)?.title ?? wish["gpu"]}
      isOld=${plan.isLoading} wish=${wish} />
  </div>`;
}

/** Model pairs as a table: each one's two models, how their engines are, and what they cost. */
import { html, useState } from "/vendor/htm-preact.js";
import { query } from "./api.js";
import { DownButton } from "./down-button.js";
import { FitBars } from "./fit-bars.js";
import { formatAgo, formatCount, formatDuration, visible } from "./format.js";
import { columnDecimals } from "./money.js";
import { Icon, Money, ScriptedLabel, Time } from "./parts.js";
import { speedText } from "./plan-facts.js";
import { PriceSteps } from "./price-steps.js";
import { serverNow } from "./server-clock.js";

/** @typedef {import("../../../orchestrator/contract/system.ts").PairStatus} PairStatus */
/** @typedef {import("../../../orchestrator/contract/models.ts").ServedPair} ServedPair */
/** @typedef {import("../../../orchestrator/contract/models.ts").EngineStatus} EngineStatus */
/** @typedef {import("../../../orchestrator/contract/prices.ts").ModelPrice} ModelPrice */

const TONES = {
  ready: "good",
  sleeping: "idle",
  starting: "busy",
  draining: "warn",
  failed: "bad",
};
/** What a pair is when its engines differ: the first of these that one of them is. */
const WORST_FIRST = ["failed", "starting", "draining", "ready", "sleeping"];
const WORDS = { ready: "loaded" };
const SOUNDNESS = {
  sound: { class: "passed", icon: "check" },
  limited: { class: "error", icon: "bang" },
  unsound: { class: "failed", icon: "cross" },
};
const COLUMNS = 8;

/**
 * @param {{
 *   pairs: PairStatus[], served: Map<string, ServedPair>, prices: Map<string, ModelPrice>,
 *   onChange: () => void,
 * }} props
 */
export function PairTable({ pairs, served, prices, onChange }) {
  const shown = pairs
    .flatMap(({ normal, thinking }) => [normal, thinking])
    .flatMap((model) => prices.get(model) ?? []);
  const currency = shown[0]?.currency ?? "";
  const decimals = columnDecimals(
    shown.flatMap((price) => [price.input_nanos_per_million, price.output_nanos_per_million]),
    currency || "USD",
  );
  return html`<table class="pairs" role="table">
    <caption class="unseen">Model pairs, those that are served first</caption>
    <thead role="rowgroup">
      <tr role="row">
        <th role="columnheader" scope="col" class="m-model">Model</th>
        <th role="columnheader" scope="col" class="m-engine">Engine</th>
        <th role="columnheader" scope="col" class="m-speed num">Tokens/s in</th>
        <th role="columnheader" scope="col" class="m-speed num">out</th>
        <th role="columnheader" scope="col" class="m-cache">KV cache</th>
        <th role="columnheader" scope="col" class="m-price num">${currency} / 1M in</th>
        <th role="columnheader" scope="col" class="m-price num">out</th>
        <th role="columnheader" scope="col" class="m-why"><span class="unseen">The sum</span></th>
      </tr>
    </thead>
    ${pairs.map(
      (pair) => html`<${PairRows} key=${pair.name} pair=${pair} prices=${prices}
        served=${served.get(pair.name) ?? null} decimals=${decimals} onChange=${onChange} />`,
    )}
  </table>`;
}

/**
 * @param {{
 *   pair: PairStatus, served: ServedPair | null, prices: Map<string, ModelPrice>,
 *   decimals: number, onChange: () => void,
 * }} props
 */
function PairRows({ pair, served, prices, decimals, onChange }) {
  const sides = /** @type {const} */ (["normal", "thinking"]);
  return html`<tbody role="rowgroup" class="pair" data-pair=${pair.name}>
    <tr role="row" class="pair-head">
      <th role="rowheader" scope="rowgroup" colspan=${COLUMNS}>
        <div class="pair-title">
          <span class="pair-name">${pair.name}</span>
          <${PairState} pair=${pair} served=${served} />
          <span class="tag">${pair.provider}</span>
          ${pair.is_scripted && html`<${ScriptedLabel} />`}
          <span class="pair-actions">
            ${
              pair.provider === "vllm" &&
              html`<a class="button small" href=${planHref(pair.name, served)}
                aria-label=${`Plan ${pair.name}`}>Plan</a>`
            }
            ${served?.is_wanted && html`<${DownButton} served=${served} onDone=${onChange} />`}
          </span>
        </div>
        <p class="pair-note">${served === null ? visible(pair.detail) : queueText(served)}</p>
      </th>
    </tr>
    ${sides.map(
      (side) => html`<${ModelRows} key=${side} pair=${pair.name} side=${side} model=${pair[side]}
        price=${prices.get(pair[side]) ?? null} decimals=${decimals}
        engine=${served?.engines.find((each) => each.side === side) ?? null} />`,
    )}
    ${
      (served?.plan || pair.agents.length > 0) &&
      html`<tr role="row" class="detail-row"><td role="cell" colspan=${COLUMNS} class="pair-more">
        ${pair.agents.length > 0 && html`<${Agents} agents=${pair.agents} />`}
        ${
          served?.plan &&
          html`<details><summary>What its GPUs hold</summary>
            <${FitBars} plan=${served.plan} /></details>`
        }</td></tr>`
    }
  </tbody>`;
}

/**
 * Which agents work with the pair, and why others do less well.
 *
 * @param {Pick<PairStatus, "agents">} props
 */
function Agents({ agents }) {
  const counts = ["sound", "limited", "unsound"].flatMap((verdict) => {
    const count = agents.filter((each) => each.verdict === verdict).length;
    return count === 0 ? [] : [`${count} ${verdict}`];
  });
  return html`<details><summary>Agents: ${counts.join(", ")}</summary>
    <dl class="steps">${agents.map(
      ({ agent, verdict, reasons }) => html`<div key=${agent}>
        <dt>${agent}</dt>
        <dd><span class=${`verdict ${SOUNDNESS[verdict].class}`}><${Icon}
          name=${SOUNDNESS[verdict].icon} />${verdict}</span>${reasons.map(
            ({ kind, detail }) =>
              html`<span class="step-source" key=${kind}>${visible(detail)}</span>`,
          )}</dd>
      </div>`,
    )}</dl></details>`;
}

/**
 * To the plan that is served, or a new one.
 *
 * @param {string} pair
 * @param {ServedPair | null} served
 */
function planHref(pair, served) {
  if (!served?.plan) return `/models/plan${query({ pair })}`;
  const { gpu, gpu_count: count, concurrency } = served.plan;
  return `/models/plan${query({ pair, gpu, count, concurrency })}`;
}

/** @param {{ pair: PairStatus, served: ServedPair | null }} props */
function PairState({ pair, served }) {
  const { tone, word } = pairState(pair, served);
  return html`<span class=${`state ${tone}`}><span class="dot"></span>${word}</span>`;
}

/** @param {PairStatus} pair @param {ServedPair | null} served */
function pairState(pair, served) {
  if (served === null) {
    return pair.is_available
      ? { tone: "good", word: "usable" }
      : { tone: "idle", word: "not set up" };
  }
  if (!served.is_wanted) return { tone: "warn", word: "being taken down" };
  const worst = WORST_FIRST.find((state) => served.engines.some((each) => each.state === state));
  if (worst === undefined) return { tone: "busy", word: "starting" };
  return { tone: TONES[worst], word: WORDS[worst] ?? worst };
}

/** Who waits for it. @param {ServedPair} served */
function queueText({ queued_trials: queued, forecast_wait_ms: waitMs }) {
  if (queued === 0) return "No trial is waiting for it";
  const trials = `${formatCount(queued)} ${queued === 1 ? "trial waits" : "trials wait"} for it`;
  if (waitMs === null) return `${trials}; nothing is known yet to tell how long`;
  return `${trials}; the next starts in about ${formatDuration(waitMs)}`;
}

/**
 * @param {{
 *   pair: string, side: "normal" | "thinking", model: string, engine: EngineStatus | null,
 *   price: ModelPrice | null, decimals: number,
 * }} props
 */
function ModelRows({ pair, side, model, engine, price, decimals }) {
  const [isOpen, setOpen] = useState(false);
  const metrics = engine?.metrics ?? null;
  const none = html`<span class="muted">–</span>`;
  const amount = (/** @type {string} */ nanos) =>
    html`<${Money} nanos=${nanos} currency=${price?.currency} decimals=${decimals} isBare />`;
  return html`<tr role="row" class=${`model-row ${engine === null ? "" : "is-served"}`}>
      <th role="rowheader" scope="row" class="m-model"><span class="side">${side}</span>
        <span class="model-name">${model}</span></th>
      <td role="cell" class="m-engine">${engine !== null && html`<${Engine} pair=${pair} engine=${engine} />`}</td>
      <td role="cell" class="m-speed num" data-label="tokens/s in">${
        metrics === null ? engine && none : speedText(metrics.prompt_tokens_per_second)
      }</td>
      <td role="cell" class="m-speed num" data-label="tokens/s out">${
        metrics === null ? engine && none : speedText(metrics.generation_tokens_per_second)
      }</td>
      <td role="cell" class="m-cache" data-label="KV cache">${
        metrics === null ? engine && none : html`<${CacheUse} usage=${metrics.kv_cache_usage} />`
      }</td>
      <td role="cell" class="m-price num" data-label="1M in">${
        price === null ? none : amount(price.input_nanos_per_million)
      }</td>
      <td role="cell" class="m-price num" data-label="1M out">${
        price === null ? none : amount(price.output_nanos_per_million)
      }</td>
      <td role="cell" class="m-why">${
        price !== null &&
        html`<button type="button" class="why" aria-expanded=${isOpen}
          aria-label=${`The sum behind the price of ${model}`}
          onClick=${() => setOpen(!isOpen)}>sum</button>`
      }</td>
    </tr>
    ${
      engine?.state === "failed" &&
      html`<tr role="row" class="detail-row"><td role="cell" colspan=${COLUMNS}>
        <pre class="command last-line">${visible(engine.detail)}</pre></td></tr>`
    }
    ${
      isOpen &&
      html`<tr role="row" class="detail-row"><td role="cell" colspan=${COLUMNS}>
        <${PriceSteps} model=${model} /></td></tr>`
    }`;
}

/** @param {{ pair: string, engine: EngineStatus }} props */
function Engine({ pair, engine }) {
  const { state, side, restarts } = engine;
  const log = `/api/v1/models/${encodeURIComponent(pair)}/logs?side=${side}`;
  return html`<span class=${`state ${TONES[state]}`}><span class="dot"></span>${state}</span>
    <span class="engine-facts muted"><${EngineFacts} engine=${engine} />${
      restarts > 0 &&
      html` <span class="tag warn">${`${restarts} ${restarts === 1 ? "restart" : "restarts"}`}</span>`
    }${" "}<a href=${log} target="_blank" rel="noreferrer"
      aria-label=${`The log of ${engine.model}`}>log</a></span>`;
}

/** Its load, what its change waits for, or since when. @param {{ engine: EngineStatus }} props */
function EngineFacts({ engine: { state, since, metrics, detail } }) {
  if (state === "ready" && metrics !== null) {
    return `${formatCount(metrics.running)} running, ${formatCount(metrics.waiting)} waiting`;
  }
  if ((state === "starting" || state === "draining") && detail !== "") return visible(detail);
  return html`<${Time} at=${since} text=${formatAgo(since, serverNow())} />`;
}

/** @param {{ usage: number }} props of 0 to 1 */
function CacheUse({ usage }) {
  const percent = Math.round(usage * 100);
  const tone = percent >= 95 ? "full" : percent >= 80 ? "high" : "";
  return html`<span class="cache"><span class=${`bar ${tone}`} role="img"
      aria-label=${`${percent} % of the KV cache is used`}><span class="spent"
      style=${{ width: `${percent}%` }}></span></span><span class="num"
      aria-hidden="true">${`${percent} %`}</span></span>`;
}

/** A plan: whether it fits, what each GPU holds, how fast it would be and what a token costs. */
import { html } from "/vendor/htm-preact.js";
import { query } from "./api.js";
import { FitBars } from "./fit-bars.js";
import { formatCount, formatDuration, visible } from "./format.js";
import { Icon, Money } from "./parts.js";
import { adviceWish, residencyText, speedText } from "./plan-facts.js";
import { Steps } from "./price-steps.js";
import { UpButton } from "./up-button.js";

/** @typedef {import("../../../orchestrator/contract/models.ts").PairPlan} PairPlan */
/** @typedef {import("../../../orchestrator/contract/models.ts").ModelPlan} ModelPlan */

/**
 * @param {{
 *   plan: PairPlan, request: object, gpuTitle: string, isOld: boolean,
 *   wish: Record<string, string>,
 * }} props
 */
export function PlanView({ plan, request, gpuTitle, isOld, wish }) {
  const { pair, gpu_count: count, fits, residency, swap_ms: swapMs } = plan;
  const machine = `${count} × ${gpuTitle}`;
  return html`<section class="card fit" aria-label="Whether it fits">
      <div class="fit-head">
        <h2>${pair} on ${machine}</h2>
        <span class=${`verdict ${fits ? "passed" : "failed"}`}><${Icon}
          name=${fits ? "check" : "cross"} />${fits ? "fits" : "does not fit"}</span>
        ${
          fits &&
          html`<span class="fit-action"><${UpButton} plan=${plan} request=${request}
          machine=${machine} isOld=${isOld} /></span>`
        }
      </div>
      <p>${plan.refusal === null ? `${residencyText(plan)}.` : visible(plan.refusal)}${
        residency === "alternate" &&
        swapMs !== null &&
        ` Waking the one that sleeps takes about ${formatDuration(swapMs)}.`
      }</p>
      ${plan.advice.length > 0 && html`<${Advice} advice=${plan.advice} wish=${wish} />`}
      <${FitBars} plan=${plan} />
    </section>
    <section class="card" aria-label="Figures"><${Figures} plan=${plan} /></section>
    <${AllSteps} plan=${plan} />`;
}

/** @param {{ advice: readonly string[], wish: Record<string, string> }} props */
function Advice({ advice, wish }) {
  return html`<div class="advice">
    <h3>What would work, the nearest first</h3>
    <ol>${advice.map((text) => {
      const changes = adviceWish(text);
      const href = `/models/plan${query({ ...wish, ...changes })}`;
      return html`<li key=${text}>${
        changes === null ? visible(text) : html`<a href=${href}>${visible(text)}</a>`
      }</li>`;
    })}</ol>
  </div>`;
}

/** @param {{ plan: PairPlan }} props */
function Figures({ plan }) {
  const { models, fits } = plan;
  const split = ({ tensor_parallel: tensor, pipeline_parallel: pipeline }) =>
    [
      ...(tensor > 1 ? [`${tensor} tensor-parallel`] : []),
      ...(pipeline > 1 ? [`${pipeline} pipeline stages`] : []),
    ].join(", ") || "none";
  const currency = models.find(({ price }) => price !== null)?.price?.currency;
  /** @type {[string, (model: ModelPlan) => unknown][]} */
  const rows = [
    ["Quantisation", ({ quantisation }) => quantisation],
    ["Split over GPUs", split],
    ["Context, tokens", (model) => formatCount(model.context_tokens)],
    ["Tokens the cache holds", (model) => formatCount(model.kv_tokens)],
    ["Sequences at once, at most", (model) => formatCount(model.max_sequences)],
    ...(fits ? speedRows(plan.concurrency) : []),
    ...(currency === undefined ? [] : priceRows(currency)),
    [
      "Licence",
      ({ licence }) => html`<a href=${licence.url} rel="noreferrer"
      target="_blank">${licence.id}</a>`,
    ],
  ];
  return html`<table class="plan-figures" role="table">
    <caption class="unseen">The plan of each model, predicted</caption>
    <thead role="rowgroup"><tr role="row">
      <td role="cell"></td>
      ${models.map(
        ({ side, model }) => html`<th role="columnheader" scope="col" key=${side}>
          <span class="side">${side}</span><span class="model-name">${model}</span></th>`,
      )}
    </tr></thead>
    <tbody role="rowgroup">${rows.map(
      ([title, figure]) => html`<tr role="row" key=${title}>
        <th role="rowheader" scope="row">${title}</th>
        ${models.map((model) => html`<td role="cell" key=${model.side}>${figure(model)}</td>`)}
      </tr>`,
    )}</tbody>
  </table>`;
}

/** @param {number} concurrency @returns {[string, (model: ModelPlan) => unknown][]} */
function speedRows(concurrency) {
  return [
    ["Output tokens/s, one alone", (model) => speedText(model.decode_tokens_per_second_alone)],
    [
      `Output tokens/s, ${formatCount(concurrency)} at once`,
      (model) => speedText(model.decode_tokens_per_second),
    ],
    ["Input tokens/s", (model) => speedText(model.prefill_tokens_per_second)],
  ];
}

/** @param {string} currency @returns {[string, (model: ModelPlan) => unknown][]} */
function priceRows(currency) {
  const row =
    (/** @type {"input_nanos_per_million" | "output_nanos_per_million"} */ key) =>
    ({ price }) =>
      price === null ? "–" : html`<${Money} nanos=${price[key]} currency=${currency} isBare />`;
  return [
    [`${currency} for 1M input`, row("input_nanos_per_million")],
    [`${currency} for 1M output`, row("output_nanos_per_million")],
  ];
}

/** @param {{ plan: PairPlan }} props */
function AllSteps({ plan }) {
  const parts = [
    { title: "The pair", steps: plan.steps },
    ...plan.models.map(({ side, model, steps }) => ({ title: `${model} (${side})`, steps })),
  ].filter(({ steps }) => steps.length > 0);
  if (parts.length === 0) return null;
  return html`<details class="card plan-steps">
    <summary>How it is worked out, step by step</summary>
    ${parts.map(
      ({ title, steps }) => html`<section key=${title}><h3>${title}</h3>
        <${Steps} steps=${steps} /></section>`,
    )}
  </details>`;
}

/** How a price, or a plan, comes about: steps that a person can follow with a calculator. */
import { html } from "/vendor/htm-preact.js";
import { getJson, query } from "./api.js";
import { visible } from "./format.js";
import { useLoad } from "./loading.js";
import { Failure, Skeleton } from "./parts.js";

/** The sum behind a model's price, read when it is shown. @param {{ model: string }} props */
export function PriceSteps({ model }) {
  const path = `/prices/explain${query({ model })}`;
  const report = useLoad((signal) => getJson(path, signal), [path]);
  if (report.error) return html`<${Failure} error=${report.error} onRetry=${report.reload} />`;
  if (report.data === null) return html`<${Skeleton} lines=${3} label="Loading the sum" />`;
  return html`<${Steps} steps=${report.data.steps} />`;
}

/**
 * @param {{ steps: readonly { what: string, calculation: string, source: string | null }[] }} props
 */
export function Steps({ steps }) {
  return html`<dl class="steps">
    ${steps.map(
      ({ what, calculation, source }, index) => html`<div key=${index}>
        <dt>${visible(what)}</dt>
        <dd>${visible(calculation)}${
          source !== null && html`<span class="step-source">${visible(source)}</span>`
        }</dd>
      </div>`,
    )}
  </dl>`;
}

/** What each GPU of a plan holds: stacked bars, and the same as a table, which is their legend. */
import { html } from "/vendor/htm-preact.js";
import { barText, fitBars, gib, PARTS, partBytes, roomText } from "./plan-facts.js";

/** @typedef {import("../../../orchestrator/contract/models.ts").PairPlan} PairPlan */
/** @typedef {import("./plan-facts.js").FitBar} FitBar */

/** @param {{ plan: PairPlan }} props */
export function FitBars({ plan }) {
  const bars = fitBars(plan);
  // All to one scale, and wide enough for what does not fit.
  const whole = Math.max(plan.gpu_memory_bytes, ...bars.map(({ usedBytes }) => usedBytes));
  return html`<div class="fit-bars">
    ${bars.map((bar) => html`<${Bar} key=${bar.label} bar=${bar} whole=${whole} plan=${plan} />`)}
    <${Legend} plan=${plan} />
  </div>`;
}

/** @param {{ bar: FitBar, whole: number, plan: PairPlan }} props */
function Bar({ bar, whole, plan }) {
  const { label, engines, overBytes, lacksCache } = bar;
  const memory = plan.gpu_memory_bytes;
  return html`<div class="fit-bar">
    <p class="fit-label"><span>${label}</span><span
      class=${overBytes > 0 || lacksCache ? "bad-text" : "muted"}>${roomText(bar)}${
        overBytes === 0 && !lacksCache && ` of ${gib(memory)}`
      }</span></p>
    <div class="fit-track" role="img" aria-label=${barText(bar)}>
      <div class="fit-room" style=${{ width: percent(memory, whole) }}></div>
      ${engines.map(
        (engine) => html`<${Engine} key=${engine.side} engine=${engine} whole=${whole} />`,
      )}
      ${
        overBytes > 0 &&
        html`<div class="fit-over" style=${{ left: percent(memory, whole) }}></div>`
      }
    </div>
  </div>`;
}

/** @param {{ engine: PairPlan["models"][number], whole: number }} props */
function Engine({ engine: { side, memory }, whole }) {
  const total = memory.reduce((sum, { bytes }) => sum + bytes, 0);
  return html`<div class="fit-engine" style=${{ width: percent(total, whole) }}>
    <div class="fit-parts">${PARTS.map(({ part, title }) => {
      const bytes = partBytes(memory, part);
      return (
        bytes > 0 &&
        html`<span key=${part} class=${`part ${side} ${part}`}
          style=${{ width: percent(bytes, total) }}
          title=${`${side}: ${title}, ${gib(bytes)}`}></span>`
      );
    })}</div>
    <span class="fit-side">${side}</span>
  </div>`;
}

/** @param {number} part @param {number} whole */
function percent(part, whole) {
  return `${(100 * part) / whole}%`;
}

/** @param {{ plan: PairPlan }} props */
function Legend({ plan: { models } }) {
  return html`<table class="fit-legend" role="table">
    <caption class="unseen">Memory on the fullest GPU of each model</caption>
    <thead role="rowgroup"><tr role="row">
      <th role="columnheader" scope="col">On the fullest GPU of each</th>
      ${models.map(
        ({ side }) =>
          html`<th role="columnheader" scope="col" class="num" key=${side}>${side}</th>`,
      )}
    </tr></thead>
    <tbody role="rowgroup">
      ${PARTS.map(
        ({ part, title }) => html`<tr role="row" key=${part}>
          <th role="rowheader" scope="row">${title}</th>
          ${models.map(
            ({ side, memory }) => html`<td role="cell" class="num" key=${side}><span
              class=${`part key ${side} ${part}`} aria-hidden="true"></span>${gib(
                partBytes(memory, part),
              )}</td>`,
          )}
        </tr>`,
      )}
      <tr role="row">
        <th role="rowheader" scope="row">All of it</th>
        ${models.map(
          ({ side, memory }) =>
            html`<td role="cell" class="num" key=${side}>${gib(
              memory.reduce((sum, { bytes }) => sum + bytes, 0),
            )}</td>`,
        )}
      </tr>
    </tbody>
  </table>`;
}

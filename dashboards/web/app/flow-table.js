/** Flows as rows (cards on a phone), and as a strip of time above them. */
import { html } from "/vendor/htm-preact.js";
import { flowTone, outcomeOf, pathOf, placeOf, spansOf } from "./flow-facts.js";
import { formatBytes, formatCount, formatDuration, formatMoment, visible } from "./format.js";
import { Money, Time } from "./parts.js";

/** @typedef {import("../../../orchestrator/contract/flows.ts").FlowSummary} FlowSummary */

const SPANS = 60;

/** @param {{ flows: readonly FlowSummary[], caption: string }} props */
export function FlowTable({ flows, caption }) {
  return html`<table class="flows" role="table">
    <caption class="unseen">${caption}</caption>
    <thead role="rowgroup"><tr role="row">
      <th role="columnheader" scope="col" class="f-at">Time</th>
      <th role="columnheader" scope="col" class="f-outcome">Outcome</th>
      <th role="columnheader" scope="col" class="f-method">Method</th>
      <th role="columnheader" scope="col" class="f-place">Host and path</th>
      <th role="columnheader" scope="col" class="f-cost num">Cost</th>
      <th role="columnheader" scope="col" class="f-bytes num">Received</th>
      <th role="columnheader" scope="col" class="f-time num">Took</th>
    </tr></thead>
    <tbody role="rowgroup">
      ${flows.map((flow) => html`<${FlowRow} key=${flow.id} flow=${flow} />`)}
    </tbody>
  </table>`;
}

/** @param {{ flow: FlowSummary }} props */
function FlowRow({ flow }) {
  const { cost } = flow;
  return html`<tr role="row" data-flow=${flow.id}>
    <td role="cell" class="f-at num"><${Time} at=${flow.started_at}
      text=${formatMoment(flow.started_at).slice(-8)} /></td>
    <td role="cell" class="f-outcome"><${Outcome} flow=${flow} /></td>
    <td role="cell" class="f-method mono">${visible(
      flow.method ?? flow.packets?.transport ?? flow.kind,
    )}</td>
    <td role="cell" class="f-place">
      <a class="row-link flow-place" href=${`/traffic/${flow.id}`} title=${`${placeOf(flow)}${pathOf(flow)}`}>
        <span>${placeOf(flow)}</span><span class="muted">${pathOf(flow)}</span>
      </a>
    </td>
    <td role="cell" class="f-cost num">${
      cost !== null && html`<${Money} nanos=${cost.amount_nanos} currency=${cost.currency} />`
    }</td>
    <td role="cell" class="f-bytes num">${
      flow.packets === undefined
        ? formatBytes(flow.received_bytes)
        : `${formatCount(flow.packets.count)} dropped`
    }</td>
    <td role="cell" class="f-time num">${formatDuration(flow.duration_ms)}</td>
  </tr>`;
}

/** @param {{ flow: FlowSummary }} props */
export function Outcome({ flow }) {
  return html`<span class=${`outcome-tag ${flowTone(flow)}`}
    title=${visible(flow.decision.detail)}>${outcomeOf(flow)}</span>`;
}

/** What was allowed, refused and failed, over the time of what is shown. */
export function FlowStrip(/** @type {{ flows: readonly FlowSummary[] }} */ { flows }) {
  const spans = flows.length === 0 ? [] : spansOf(flows, SPANS);
  const most = Math.max(1, ...spans.map(({ good, warn, bad, idle }) => good + warn + bad + idle));
  const refused = spans.reduce((sum, { bad }) => sum + bad, 0);
  const first = spans[0];
  const said = `${formatCount(flows.length)} flows shown, ${formatCount(refused)} refused`;
  return html`<div class="card strip">
    <div class="strip-bars" role="img" aria-label=${said}>
      ${spans.map(
        (span) => html`<span class="strip-bar" key=${span.startMs} title=${spanTitle(span)}>
          ${["idle", "good", "warn", "bad"].map(
            (tone) =>
              span[tone] > 0 &&
              html`<span class=${tone}
                style=${{ height: `${Math.max(6, (span[tone] / most) * 100)}%` }}></span>`,
          )}
        </span>`,
      )}
    </div>
    <div class="strip-legend muted small">
      <span>${first === undefined ? "" : formatMoment(new Date(first.startMs).toISOString())}</span>
      <span class="strip-keys">
        <span class="strip-key good">answered</span>
        <span class="strip-key warn">error or warning</span>
        <span class="strip-key bad">refused</span>
        <span class="strip-key idle">passed through</span>
      </span>
      <span>${flows[0] === undefined ? "" : formatMoment(flows[0].started_at)}</span>
    </div>
  </div>`;
}

/** @param {ReturnType<typeof spansOf>[number]} span */
function spanTitle({ startMs, good, warn, bad, idle }) {
  const at = formatMoment(new Date(startMs).toISOString());
  return `${at}: ${good} answered, ${warn} errors or warnings, ${bad} refused, ${idle} passed through`;
}

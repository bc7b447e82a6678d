/** A trial's traffic: what it was refused, with a way to ask for it, totals, and every flow. */
import { html } from "/vendor/htm-preact.js";
import { AllowThis } from "./allow-this.js";
import { getJson, query } from "./api.js";
import { isAskable, isViolation, outcomeOf, pathOf, placeOf } from "./flow-facts.js";
import { useFlows } from "./flow-list.js";
import { FlowStrip, FlowTable, Outcome } from "./flow-table.js";
import { formatBytes, formatCount, visible } from "./format.js";
import { useLoad } from "./loading.js";
import { sumNanos } from "./money.js";
import { Empty, Failure, Money, Skeleton } from "./parts.js";
import { RuleApprovals, useRuleApprovals } from "./rule-approval.js";
import { More } from "./traffic-page.js";
import { isActive } from "./trial-facts.js";

/** @typedef {import("../../../orchestrator/contract/flows.ts").FlowSummary} FlowSummary */

const VIOLATIONS_SHOWN = 20;

/** @param {{ trial: import("./trial-facts.js").Trial }} props */
export function TrialTraffic({ trial }) {
  const { list, more } = useFlows({ trial_id: trial.id });
  const { data, error } = list;
  const rules = useRuleApprovals(trial.id);
  if (data === null && error !== null) {
    return html`<${Failure} error=${error} onRetry=${list.reload} />`;
  }
  // Drawn once both are there, so that nothing moves as the second arrives.
  if (data === null || rules.isLoading) {
    return html`<${Skeleton} lines=${6} label="Loading traffic" />`;
  }
  if (data.flows.length === 0) {
    return html`<${Empty} title=${isActive(trial) ? "No traffic yet" : "No traffic was recorded"} />`;
  }
  return html`
    <${Totals} trial=${trial} flows=${data.flows} isWhole=${data.cursor === null} />
    <${RuleApprovals} rules=${rules} />
    <${Violations} flows=${data.flows} />
    <${FlowStrip} flows=${data.flows} />
    <section class="card" aria-label="Flows">
      <${FlowTable} flows=${data.flows} caption="Flows of the trial, the newest first" />
    </section>
    <${More} cursor=${data.cursor} more=${more} shown=${data.flows.length} />
  `;
}

/** @param {{ trial: { id: string }, flows: readonly FlowSummary[], isWhole: boolean }} props */
function Totals({ trial, flows, isWhole }) {
  const totals = useLoad(
    (signal) => getJson(`/flows/totals${query({ by: "trial", trial_id: trial.id })}`, signal),
    [trial.id, flows.length],
  );
  const total = totals.data?.groups[0];
  const costs = flows.flatMap(({ cost }) => cost ?? []);
  const currency = costs[0]?.currency;
  return html`<dl class="card figures traffic-figures">
    <div><dt>Flows</dt><dd>${formatCount(total?.flow_count ?? flows.length)}</dd></div>
    <div><dt>Refused</dt><dd
      class=${(total?.refused_count ?? 0) > 0 ? "bad-text" : ""}>${known(
        total?.refused_count,
        formatCount,
      )}</dd></div>
    <div><dt>Errors</dt><dd>${known(total?.error_count, formatCount)}</dd></div>
    <div><dt>Sent / received</dt><dd>${known(total?.sent_bytes, formatBytes)}<span
      class="of"> / ${known(total?.received_bytes, formatBytes)}</span></dd></div>
    ${
      currency !== undefined &&
      html`<div><dt>Cost of its calls</dt><dd><${Money}
      nanos=${sumNanos(costs.map(({ amount_nanos: nanos }) => nanos))}
      currency=${currency} /></dd>${!isWhole && html`<dd class="note">of those shown</dd>`}</div>`
    }
  </dl>`;
}

/**
 * A figure that has not come yet is no zero.
 *
 * @param {number | undefined} figure
 * @param {(figure: number) => string} format
 */
function known(figure, format) {
  return figure === undefined ? "–" : format(figure);
}

/**
 * Each kind of refusal once, however often it was tried.
 *
 * @param {{ flows: readonly FlowSummary[] }} props
 */
function Violations({ flows }) {
  const groups = Map.groupBy(flows.filter(isViolation), (flow) =>
    [outcomeOf(flow), flow.method, placeOf(flow), flow.decision.reason].join(" "),
  );
  if (groups.size === 0) return null;
  const shown = [...groups].slice(0, VIOLATIONS_SHOWN);
  return html`<section class="card violations" aria-label="Refused by the policy">
    <h2>Refused, or warned of</h2>
    <ul>
      ${shown.map(([key, [flow, ...others]]) => {
        const how = flow.method ?? flow.packets?.transport ?? flow.kind;
        const what = `${how} ${placeOf(flow)}${pathOf(flow)}`;
        return html`<li key=${key}>
          <${Outcome} flow=${flow} />
          <div>
            <p><a class="mono" href=${`/traffic/${flow.id}`}>${what}</a>${
              others.length > 0 &&
              html` <span class="count">${formatCount(others.length + 1)} ×</span>`
            }</p>
            <p class="muted small">${visible(flow.decision.detail)}</p>
          </div>
          ${isAskable(flow) && html`<${AllowThis} flowId=${flow.id} place=${what} />`}
        </li>`;
      })}
    </ul>
    ${
      groups.size > shown.length &&
      html`<p class="muted small">${formatCount(groups.size - shown.length)} more below</p>`
    }
  </section>`;
}

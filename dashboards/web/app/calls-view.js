/** A trial's model calls, what each took and cost, and their sum. */
import { html } from "/vendor/htm-preact.js";
import { getJson } from "./api.js";
import {
  asWords,
  formatCount,
  formatDuration,
  formatOffset,
  inputTokens,
  visible,
} from "./format.js";
import { useLive } from "./live.js";
import { useBatched, useLoad } from "./loading.js";
import { columnDecimals, percentOf, sumNanos } from "./money.js";
import { Empty, Failure, Money, ScriptedLabel, Skeleton, Time } from "./parts.js";
import { RepriceView } from "./reprice-view.js";
import { isActive } from "./trial-facts.js";

/** @typedef {import("../../../orchestrator/contract/calls.ts").Call} Call */
/** @typedef {import("./trial-facts.js").Trial} Trial */

/** @param {{ trial: Trial }} props */
export function CallsView({ trial }) {
  const { id } = trial;
  const calls = useLoad(
    (signal) => getJson(`/trials/${encodeURIComponent(id)}/calls`, signal),
    [id],
  );
  const readAgain = useBatched(() => void calls.reload(), 300);
  useLive(
    (event) => {
      if (event.trial_id === id && event.type.startsWith("call.")) readAgain();
    },
    readAgain,
    [id, readAgain],
  );
  if (calls.data === null && calls.error) {
    return html`<${Failure} error=${calls.error} onRetry=${calls.reload} />`;
  }
  if (calls.data === null) return html`<${Skeleton} lines=${6} label="Loading calls" />`;
  if (calls.data.calls.length === 0) {
    return html`<${Empty} title=${isActive(trial) ? "No calls yet" : "The agent made no calls"} />`;
  }
  return html`<${CallTable} calls=${calls.data.calls} trial=${trial} />
    <${RepriceView} trial=${trial} />`;
}

/** @param {{ calls: Call[], trial: Trial }} props */
function CallTable({ calls, trial }) {
  const currency = trial.budget?.currency ?? "XXX";
  const costs = calls.map(({ cost_nanos }) => cost_nanos);
  const totalNanos = sumNanos(costs);
  const decimals = columnDecimals(costs, currency);
  const mostNanos = costs.reduce((most, cost) => (BigInt(cost) > most ? BigInt(cost) : most), 0n);
  const startMs = Date.parse(trial.started_at ?? trial.created_at);
  const title = `Total of ${formatCount(calls.length)} ${calls.length === 1 ? "call" : "calls"}`;
  return html`<div class="card"><table class="calls" role="table">
    <caption class="unseen">Model calls of the trial, costs in ${currency}</caption>
    <thead role="rowgroup"><tr role="row">
      <th role="columnheader" scope="col" class="k-at num">At</th>
      <th role="columnheader" scope="col" class="k-model">Model</th>
      <th role="columnheader" scope="col" class="k-status">Status</th>
      <th role="columnheader" scope="col" class="k-time num">Time</th>
      <th role="columnheader" scope="col" class="k-in num">In</th>
      <th role="columnheader" scope="col" class="k-cached num">Cached</th>
      <th role="columnheader" scope="col" class="k-out num">Out</th>
      <th role="columnheader" scope="col" class="k-cost num">Cost, ${currency}</th>
    </tr></thead>
    <tbody role="rowgroup">
      ${calls.map((call) => {
        const share = percentOf(BigInt(call.cost_nanos), mostNanos);
        return html`<${CallRow} key=${call.id} call=${call} share=${share} decimals=${decimals}
          currency=${currency} startMs=${startMs} isScripted=${trial.is_scripted} />`;
      })}
    </tbody>
    <tfoot role="rowgroup"><tr role="row">
      <th role="rowheader" scope="row" class="k-model"
        colspan="4">${title}</th>
      <td role="cell" class="k-in num"
        data-label="in">${formatCount(sum(calls, ({ usage }) => inputTokens(usage)))}</td>
      <td role="cell" class="k-cached num"
        data-label="cached">${formatCount(sum(calls, ({ usage }) => usage.cache_read_tokens))}</td>
      <td role="cell" class="k-out num"
        data-label="out">${formatCount(sum(calls, ({ usage }) => usage.output_tokens))}</td>
      <td role="cell" class="k-cost num"><${Money} nanos=${totalNanos} currency=${currency}
        decimals=${decimals} isBare /></td>
    </tr></tfoot>
  </table></div>`;
}

/**
 * @param {{
 *   call: Call, share: number, decimals: number, currency: string, startMs: number,
 *   isScripted: boolean,
 * }} props
 */
function CallRow({ call, share, decimals, currency, startMs, isScripted }) {
  const { usage } = call;
  const { cache_read_tokens: cached, reasoning_tokens: reasoned } = usage;
  const reasoning = reasoned > 0 ? `${formatCount(reasoned)} of reasoning` : "";
  const firstByte =
    call.first_byte_ms === null ? "" : `first byte after ${formatDuration(call.first_byte_ms)}`;
  const isBad = call.status >= 400 || call.error !== null;
  return html`<tr role="row">
    <td role="cell" class="k-at num"><${Time} at=${call.started_at}
      text=${formatOffset(Date.parse(call.started_at) - startMs)} /></td>
    <td role="cell" class="k-model">
      <span class="call-model">${call.model}</span> <span class="tag">${call.side}</span>
      ${(isScripted || call.provider === "scripted") && html` <${ScriptedLabel} />`}
      ${
        call.is_estimated &&
        html` <span class="tag warn"
        title="The model server sent no usage: counted by autocode">estimated</span>`
      }
      <p class="call-price" title="The price it was charged by">${priceText(call)}</p>
      ${
        call.attempts.length > 0 &&
        html`<p class="call-price">asked first: ${call.attempts
          .map(
            ({ provider, status, error }) =>
              `${visible(provider)} (${visible(error ?? String(status))})`,
          )
          .join(", ")}</p>`
      }
      ${call.error !== null && html`<p class="call-error">${asWords(call.error)}</p>`}
    </td>
    <td role="cell" class="k-status"><span
      class=${isBad ? "bad-text num" : "num muted"}>${call.status}</span></td>
    <td role="cell" class="k-time num"
      title=${firstByte}>${formatDuration(call.duration_ms)}</td>
    <td role="cell" class="k-in num" data-label="in">${formatCount(inputTokens(usage))}</td>
    <td role="cell" class="k-cached num muted"
      data-label="cached">${cached === 0 ? "–" : formatCount(cached)}</td>
    <td role="cell" class="k-out num" data-label="out"
      title=${reasoning}>${formatCount(usage.output_tokens)}</td>
    <td role="cell" class="k-cost num">
      <${Money} nanos=${call.cost_nanos} currency=${currency} decimals=${decimals} isBare />
      <span class="share" aria-hidden="true"><span style=${{ width: `${share}%` }}></span></span>
    </td>
  </tr>`;
}

/** @param {Call} call */
function priceText({ price_version: version, gpu_ms: gpuMs }) {
  return gpuMs === null ? version : `${version} · ${formatDuration(gpuMs)} of GPU time`;
}

/** @param {Call[]} calls @param {(call: Call) => number} count */
function sum(calls, count) {
  return calls.reduce((total, call) => total + count(call), 0);
}

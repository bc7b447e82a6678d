/** Trials as rows; on a narrow screen each row is a card. */
import { html } from "/vendor/htm-preact.js";
import { asWords, formatCount, formatDuration, inputTokens } from "./format.js";
import { columnDecimals } from "./money.js";
import { BalanceBar, Money, ReplayLabel, ScriptedLabel, State, Verdict } from "./parts.js";
import { durationOf, spentOf } from "./trial-facts.js";

/** @typedef {import("./trial-facts.js").Trial} Trial */

/**
 * @param {{ trials: Trial[], nowMs: number, caption: string }} props
 */
export function TrialTable({ trials, nowMs, caption }) {
  const decimals = decimalsByCurrency(trials);
  return html`<table class="trials" role="table">
    <caption class="unseen">${caption}</caption>
    <thead role="rowgroup">
      <tr role="row">
        <th role="columnheader" scope="col" class="c-state">State</th>
        <th role="columnheader" scope="col" class="c-task">Task</th>
        <th role="columnheader" scope="col" class="c-agent">Agent</th>
        <th role="columnheader" scope="col" class="c-pair">Model pair</th>
        <th role="columnheader" scope="col" class="c-verdict">Verdict</th>
        <th role="columnheader" scope="col" class="c-tokens num">Tokens in / out</th>
        <th role="columnheader" scope="col" class="c-cost num">Cost</th>
        <th role="columnheader" scope="col" class="c-time num">Time</th>
      </tr>
    </thead>
    <tbody role="rowgroup">
      ${trials.map((trial) => {
        return html`<${TrialRow} key=${trial.id} trial=${trial} nowMs=${nowMs}
          decimals=${decimals.get(trial.budget?.currency ?? "")} />`;
      })}
    </tbody>
  </table>`;
}

/** @param {{ trial: Trial, nowMs: number, decimals: number | undefined }} props */
function TrialRow({ trial, nowMs, decimals }) {
  const durationMs = durationOf(trial, nowMs);
  const { budget, usage } = trial;
  return html`<tr role="row" data-trial=${trial.id}>
    <td role="cell" class="c-state"><${State} trial=${trial} /></td>
    <td role="cell" class="c-task">
      <a class="row-link" href=${`/trials/${trial.id}`}><span class="clamp"
        title=${trial.task}>${trial.task}</span></a>
      ${trial.attempt > 1 && html` <span class="muted">#${trial.attempt}</span>`}
      ${trial.flags.map((flag) => html` <span class="tag warn">${asWords(flag)}</span>`)}
    </td>
    <td role="cell" class="c-agent"><span class="clamp" title=${trial.agent}>${trial.agent}</span>
      </td>
    <td role="cell" class="c-pair">
      <span class="clamp"
        title=${trial.pair}>${trial.pair}</span>${trial.is_scripted && html` <${ScriptedLabel} />`}
      ${trial.replay_of !== null && html` <${ReplayLabel} of=${trial.replay_of} />`}
    </td>
    <td role="cell" class="c-verdict"><${Verdict} verdict=${trial.verdict} /></td>
    <td role="cell" class="c-tokens num">
      ${formatCount(inputTokens(usage))}<span class="slash"> / </span
      >${formatCount(usage.output_tokens)}
    </td>
    <td role="cell" class="c-cost num">
      ${
        budget === null
          ? html`<span class="muted">–</span>`
          : html`<${Money} nanos=${spentOf(trial)} currency=${budget.currency}
            decimals=${decimals} />
              <${BalanceBar} balance=${budget} label="Allowance" isThin />`
      }
    </td>
    <td role="cell" class="c-time num">
      ${durationMs === null ? html`<span class="muted">–</span>` : formatDuration(durationMs)}
    </td>
  </tr>`;
}

/** @param {Trial[]} trials @returns {Map<string, number>} */
function decimalsByCurrency(trials) {
  const byCurrency = Map.groupBy(
    trials.filter(({ budget }) => budget !== null),
    (trial) => trial.budget?.currency ?? "",
  );
  return new Map(
    [...byCurrency].map(([currency, group]) => [
      currency,
      columnDecimals(group.map(spentOf), currency),
    ]),
  );
}

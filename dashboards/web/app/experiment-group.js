/** An experiment in the list: what it is, its matrix of agents × pairs, and its trials. */
import { html, useState } from "/vendor/htm-preact.js";
import { formatCount } from "./format.js";
import { columnDecimals } from "./money.js";
import { Icon, Money, ScriptedLabel, Time } from "./parts.js";
import { matrixOf, toneOf, totalsOf } from "./trial-facts.js";
import { TrialTable } from "./trial-table.js";

/** @typedef {import("./trial-facts.js").Trial} Trial */
/** @typedef {import("./trial-facts.js").Experiment} Experiment */

/** A larger experiment keeps its rows folded: its matrix says the most in the least room. */
const ROWS_SHOWN = 12;
/** A cell with more trials than this shows counts alone. */
const MARKS_SHOWN = 12;

/**
 * @param {{ experiment: Experiment, trials: Trial[], nowMs: number }} props
 *   `trials`: those that fit the filter
 */
export function ExperimentGroup({ experiment, trials, nowMs }) {
  const [isOpen, setOpen] = useState(trials.length <= ROWS_SHOWN);
  const totals = totalsOf(experiment.trials);
  const total = Math.max(experiment.trial_count, experiment.trials.length);
  const rowsId = `rows-${experiment.id}`;
  return html`<section class="card experiment" aria-label=${`Experiment ${experiment.name}`}>
    <header class="experiment-head">
      <div class="experiment-name">
        <h2>${experiment.name}</h2>
        <p class="muted">
          Experiment in ${experiment.project} · <${Time} at=${experiment.created_at} />
          ${` · seed ${experiment.seed}`}
          ${experiment.assignment === "random" && " · random assignment"}
        </p>
      </div>
      <dl class="figures">
        <div><dt>Passed</dt><dd>${formatCount(totals.passed)}<span
          class="of"> / ${formatCount(total)}</span></dd></div>
        <div><dt>Ended</dt><dd>${formatCount(totals.ended)}<span
          class="of"> / ${formatCount(total)}</span></dd></div>
        <div><dt>Cost</dt><dd><${Money} nanos=${totals.spentNanos}
          currency=${experiment.currency} /></dd></div>
      </dl>
    </header>
    <${Matrix} trials=${experiment.trials} currency=${experiment.currency} />
    <button type="button" class="fold" aria-expanded=${isOpen} aria-controls=${rowsId}
      onClick=${() => setOpen(!isOpen)}>
      <${Icon}
        name="arrow" />${formatCount(trials.length)} ${trials.length === 1 ? "trial" : "trials"}
    </button>
    <div id=${rowsId} hidden=${!isOpen}>
      ${
        isOpen &&
        html`<${TrialTable} trials=${trials} nowMs=${nowMs}
        caption=${`Trials of ${experiment.name}`} />`
      }
    </div>
  </section>`;
}

/** @param {{ trials: Trial[], currency: string }} props */
function Matrix({ trials, currency }) {
  const { agents, pairs, cells } = matrixOf(trials);
  if (trials.length === 0) return null;
  const spent = cells.flat().map((cell) => totalsOf(cell).spentNanos);
  const decimals = columnDecimals(spent, currency);
  const scripted = new Set(trials.filter((trial) => trial.is_scripted).map(({ pair }) => pair));
  return html`<div class="scroll-x" tabindex="0" role="group"
    aria-label="Verdicts by agent and model pair">
    <table class="matrix">
      <thead>
        <tr>
          <td></td>
          ${pairs.map((pair) => {
            return html`<th
              scope="col">${pair}${scripted.has(pair) && html` <${ScriptedLabel} />`}</th>`;
          })}
        </tr>
      </thead>
      <tbody>
        ${agents.map(
          (agent, row) => html`<tr>
            <th scope="row">${agent}</th>
            ${cells[row]?.map(
              (cell) => html`<${Cell} trials=${cell} currency=${currency}
              decimals=${decimals} />`,
            )}
          </tr>`,
        )}
      </tbody>
    </table>
  </div>`;
}

/** @param {{ trials: Trial[], currency: string, decimals: number }} props */
function Cell({ trials, currency, decimals }) {
  if (trials.length === 0) return html`<td class="muted">–</td>`;
  const { passed, spentNanos } = totalsOf(trials);
  return html`<td>
    ${
      trials.length <= MARKS_SHOWN &&
      html`<span class="marks">${trials.map(
        (trial) => html`<${Mark} key=${trial.id}
        trial=${trial} />`,
      )}</span>`
    }
    <span class="cell-figures">
      <span>${passed}/${trials.length} passed</span>
      <${Money} nanos=${spentNanos} currency=${currency} decimals=${decimals} isBare />
    </span>
  </td>`;
}

/** @param {{ trial: Trial }} props */
function Mark({ trial }) {
  const said = `${trial.task}, attempt ${trial.attempt}: ${trial.verdict ?? trial.state}`;
  const icon = { passed: "check", failed: "cross", error: "bang" }[trial.verdict ?? ""];
  return html`<a class=${`mark ${toneOf(trial)}`} href=${`/trials/${trial.id}`} title=${said}
    aria-label=${said}>
    ${icon !== undefined && html`<${Icon} name=${icon} />`}
  </a>`;
}

/** What came of the money: income less cost, and what a success costs, by agent, pair and so on. */
import { html, useState } from "/vendor/htm-preact.js";
import { getJson, query } from "./api.js";
import { formatCount } from "./format.js";
import { useLoad } from "./loading.js";
import { columnDecimals, percentOf } from "./money.js";
import { Empty, Failure, Money, Skeleton } from "./parts.js";

/** @typedef {import("../../../orchestrator/contract/budgets.ts").ProfitReport} ProfitReport */
/** @typedef {import("../../../orchestrator/contract/budgets.ts").CostReport} CostReport */

const GROUPS = [
  { value: "agent_pair", title: "agent and pair" },
  { value: "agent", title: "agent" },
  { value: "pair", title: "pair" },
  { value: "task", title: "task" },
  { value: "phase", title: "phase" },
];

/** @param {{ name: string }} props */
export function ResultsView({ name }) {
  const encoded = encodeURIComponent(name);
  const [by, setBy] = useState("agent_pair");
  const costs = useLoad(
    (signal) => getJson(`/budgets/${encoded}/costs${query({ by })}`, signal),
    [encoded, by],
  );
  const profit = useLoad((signal) => getJson(`/budgets/${encoded}/profit`, signal), [encoded]);
  const onGroup = (/** @type {Event} */ event) =>
    setBy(/** @type {HTMLSelectElement} */ (event.currentTarget).value);
  return html`<div class="results">
    <section aria-label="Cost of a success">
      <div class="section-head">
        <h2>Cost of a success</h2>
        <label class="by"><span class="muted">by</span>
          <select value=${by} onChange=${onGroup}>
            ${GROUPS.map(({ value, title }) => html`<option value=${value}>${title}</option>`)}
          </select>
        </label>
      </div>
      <${Loaded} of=${costs} label="Loading costs">${(/** @type {CostReport} */ data) => html`
        <${Costs} report=${data} />`}<//>
    </section>
    <section aria-label="Profit and loss">
      <h2 class="section-title">Profit and loss</h2>
      <${Loaded} of=${profit} label="Loading results">${(/** @type {ProfitReport} */ data) => html`
        <${Profit} report=${data} />`}<//>
    </section>
  </div>`;
}

/**
 * @template Data
 * @param {{
 *   of: ReturnType<typeof useLoad<Data>>, label: string, children: (data: Data) => unknown,
 * }} props
 */
function Loaded({ of, label, children }) {
  if (of.error) return html`<${Failure} error=${of.error} onRetry=${of.reload} />`;
  if (of.data === null) return html`<${Skeleton} lines=${4} label=${label} />`;
  return children(of.data);
}

/** @param {{ report: CostReport }} props */
function Costs({ report }) {
  const { currency, rows } = report;
  if (rows.length === 0) {
    return html`<${Empty} title="No trial has cost anything yet"><p>
      All spending over the trials that passed stands here: failed ones are paid for too.</p><//>`;
  }
  const each = rows.flatMap((row) => row.cost_per_success_nanos ?? []);
  const costs = columnDecimals([report.cost_nanos, ...rows.map((row) => row.cost_nanos)], currency);
  const successes = columnDecimals(each, currency);
  const most = each.reduce((found, cost) => (BigInt(cost) > found ? BigInt(cost) : found), 0n);
  return html`<div class="card"><table class="result-table" role="table">
    <caption class="unseen">Cost and cost of a success, in ${currency}</caption>
    <thead role="rowgroup"><tr role="row">
      <th role="columnheader" scope="col" class="r-group">Group</th>
      <th role="columnheader" scope="col" class="num">Passed</th>
      <th role="columnheader" scope="col" class="num">Tokens</th>
      <th role="columnheader" scope="col" class="num">Cost, ${currency}</th>
      <th role="columnheader" scope="col" class="num">A success costs</th>
    </tr></thead>
    <tbody role="rowgroup">
      ${rows.map((row) => {
        const cost = row.cost_per_success_nanos;
        const share = cost === null ? 0 : percentOf(BigInt(cost), most);
        return html`<tr role="row" key=${row.group}>
          <th role="rowheader" scope="row" class="r-group">${row.group}</th>
          <td role="cell" class="num" data-label="passed">${formatCount(row.passed)}<span
            class="of"> / ${formatCount(row.trials)}</span></td>
          <td role="cell" class="num" data-label="tokens">${BigInt(row.tokens).toLocaleString("en")}</td>
          <td role="cell" class="num" data-label="cost"><${Money} nanos=${row.cost_nanos}
            currency=${currency} decimals=${costs} isBare /></td>
          <td role="cell" class="num r-success" data-label="a success">${
            cost === null
              ? html`<span class="muted" title="None passed">–</span>`
              : html`<${Money} nanos=${cost} currency=${currency} decimals=${successes} isBare />
                <span class="share" aria-hidden="true"><span
                  style=${{ width: `${share}%` }}></span></span>`
          }</td>
        </tr>`;
      })}
    </tbody>
    <tfoot role="rowgroup"><tr role="row">
      <th role="rowheader" scope="row" class="r-group">All trials</th>
      <td role="cell" class="num" data-label="passed">${formatCount(report.passed)}<span
        class="of"> / ${formatCount(report.trials)}</span></td>
      <td role="cell"></td>
      <td role="cell" class="num" data-label="cost"><${Money} nanos=${report.cost_nanos}
        currency=${currency} decimals=${costs} isBare /></td>
      <td role="cell" class="num" data-label="a success">${
        report.cost_per_success_nanos === null
          ? html`<span class="muted" title="None passed">–</span>`
          : html`<${Money} nanos=${report.cost_per_success_nanos} currency=${currency}
            decimals=${successes} isBare />`
      }</td>
    </tr></tfoot>
  </table></div>`;
}

/** @param {{ report: ProfitReport }} props */
function Profit({ report }) {
  const { currency, rows } = report;
  const amounts = rows.flatMap((row) => [row.income_nanos, row.cost_nanos, row.result_nanos]);
  const decimals = columnDecimals(amounts, currency);
  const figures = [
    { title: "Income", nanos: report.income_nanos },
    { title: "Cost", nanos: report.cost_nanos },
    { title: "Result", nanos: report.result_nanos },
  ];
  return html`<div class="card">
    <dl class="figures profit-figures">${figures.map(
      ({ title, nanos }) => html`<div key=${title}>
        <dt>${title}</dt>
        <dd class=${signOf(nanos)}><${Money} nanos=${nanos} currency=${currency} /></dd>
      </div>`,
    )}</dl>
    ${
      rows.length === 0
        ? html`<p class="muted small profit-none">Nothing was earned or spent yet.</p>`
        : html`<table class="result-table" role="table">
      <caption class="unseen">Income, cost and result, in ${currency}</caption>
      <thead role="rowgroup"><tr role="row">
        <th role="columnheader" scope="col" class="r-group">Agent and pair</th>
        <th role="columnheader" scope="col" class="num">Passed</th>
        <th role="columnheader" scope="col" class="num">Income, ${currency}</th>
        <th role="columnheader" scope="col" class="num">Cost</th>
        <th role="columnheader" scope="col" class="num">Result</th>
      </tr></thead>
      <tbody role="rowgroup">
        ${rows.map(
          (row) => html`<tr role="row" key=${`${row.agent}/${row.pair}`}>
            <th role="rowheader" scope="row" class="r-group">${
              row.agent === null ? "Of no one trial" : `${row.agent} · ${row.pair ?? ""}`
            }</th>
            <td role="cell" class="num" data-label="passed">${formatCount(row.passed)}<span
              class="of"> / ${formatCount(row.trials)}</span></td>
            ${[
              ["income", row.income_nanos],
              ["cost", row.cost_nanos],
              ["result", row.result_nanos],
            ].map(
              ([label, nanos]) => html`<td role="cell" data-label=${label}
                class=${`num ${label === "result" ? signOf(nanos) : ""}`}><${Money} nanos=${nanos}
                currency=${currency} decimals=${decimals} isBare /></td>`,
            )}
          </tr>`,
        )}
      </tbody>
    </table>`
    }
  </div>`;
}

/** @param {string} nanos */
function signOf(nanos) {
  return nanos.startsWith("-") ? "bad-text" : "";
}

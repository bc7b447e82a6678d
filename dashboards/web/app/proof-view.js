/** The proof: no budget was ever exceeded, and the journal that says so was not changed. */
import { html, useCallback, useState } from "/vendor/htm-preact.js";
import { getJson, query } from "./api.js";
import { asWords, formatCount } from "./format.js";
import { useLoad } from "./loading.js";
import { formatMoney } from "./money.js";
import { ownerText } from "./owner-text.js";
import { Empty, Failure, Icon, Skeleton, Time } from "./parts.js";

/** @typedef {import("../../../orchestrator/contract/projects.ts").Project} Project */
/** @typedef {import("../../../orchestrator/contract/budgets.ts").AdherenceReport} Adherence */
/** @typedef {import("../../../orchestrator/contract/ledger.ts").LedgerReport} LedgerReport */
/** @typedef {import("../../../orchestrator/contract/ledger.ts").LedgerStatus} LedgerStatus */

const PAGE = 50;

/** @param {{ project: Project }} props */
export function ProofView({ project }) {
  const path = `/budgets/${encodeURIComponent(project.name)}/adherence`;
  const adherence = useLoad(
    (signal) => getJson(`${path}${query({ limit: PAGE })}`, signal),
    [path],
  );
  const more = useCallback(async () => {
    const page = await getJson(
      `${path}${query({ limit: PAGE, before: adherence.data?.next_cursor })}`,
    );
    adherence.setData((data) => ({ ...page, rows: [...data.rows, ...page.rows] }));
  }, [path, adherence.data?.next_cursor]);
  const { data, error } = adherence;
  return html`<div class="results">
    <section aria-label="Journal">
      <h2 class="section-title">Journal</h2>
      <${Journal} seal=${data?.journal ?? null} />
    </section>
    <section aria-label="Limits kept">
      <h2 class="section-title">Limits kept</h2>
      ${error && html`<${Failure} error=${error} onRetry=${adherence.reload} />`}
      ${data === null && error === null && html`<${Skeleton} label="Recomputing every budget" />`}
      ${data?.rows.length === 0 && html`<${Empty} title="No budget has a limit yet" />`}
      ${
        data !== null &&
        data.rows.length > 0 &&
        html`<${LimitTable} report=${data} project=${project} onMore=${more} />`
      }
    </section>
  </div>`;
}

/** @param {{ seal: Adherence["journal"] }} props */
function Journal({ seal }) {
  const status = useLoad((signal) => getJson("/ledger", signal), []);
  const [check, setCheck] = useState(
    /** @type {{ report: LedgerReport | null, error: Error | null, isBusy: boolean }} */ ({
      report: null,
      error: null,
      isBusy: false,
    }),
  );
  const verify = async () => {
    setCheck({ report: null, error: null, isBusy: true });
    try {
      setCheck({ report: await getJson("/ledger/verify"), error: null, isBusy: false });
    } catch (error) {
      setCheck({ report: null, error: /** @type {Error} */ (error), isBusy: false });
    }
  };
  if (status.error) return html`<${Failure} error=${status.error} onRetry=${status.reload} />`;
  if (status.data === null) return html`<${Skeleton} lines=${3} label="Loading the journal" />`;
  return html`<div class="card budget">
    <${Sealed} status=${status.data} seal=${seal} />
    <div class="journal-actions">
      <button type="button" class="button primary" disabled=${check.isBusy}
        onClick=${verify}>${check.isBusy ? "Verifying…" : "Verify now"}</button>
      <a class="button" href="/api/v1/ledger/export" download="ledger.ndjson"><${Icon}
        name="download" />Ledger export</a>
      <span class="muted small">Anyone can check the export:${" "}
        <code>autocode ledger verify ledger.ndjson</code></span>
    </div>
    <div aria-live="polite">
      ${check.error && html`<${Failure} error=${check.error} onRetry=${verify} />`}
      ${check.report !== null && html`<${Checked} report=${check.report} />`}
    </div>
  </div>`;
}

/** @param {{ status: LedgerStatus, seal: Adherence["journal"] }} props */
function Sealed({ status, seal }) {
  const waiting = status.unsealed > 0 ? `, ${formatCount(status.unsealed)} about to be` : "";
  const facts = [
    ["Transfers sealed", `${formatCount(status.sealed)}${waiting}`],
    ["Signed checkpoints", formatCount(status.checkpoints)],
    ["Signing key", html`<span class="mono">${status.key.fingerprint}</span>`],
    [
      "Last signed",
      status.last_signed_at === null ? "not yet" : html`<${Time} at=${status.last_signed_at} />`,
    ],
  ];
  if (seal !== null) {
    const covered = `${formatCount(seal.covered_transfers)} of ${formatCount(seal.all_transfers)}`;
    facts.push(["Of this project, signed", `${covered} transfers`]);
    facts.push(["Chain", html`<span class="mono hash">${seal.chain}</span>`]);
  }
  return html`<dl class="facts">${facts.map(
    ([name, value]) => html`<div key=${name}><dt>${name}</dt><dd>${value}</dd></div>`,
  )}</dl>`;
}

/** @param {{ report: LedgerReport }} props */
function Checked({ report }) {
  const { fault } = report;
  if (fault === null) {
    return html`<div class="notice good"><p><strong>Intact.</strong>${" "}
      ${`${formatCount(report.sealed)} sealed transfers and ${formatCount(report.checkpoints)} `}
      ${"signatures agree with the ledger as it is now."}</p></div>`;
  }
  const at = fault.transfer_id === null ? "" : ` (${fault.transfer_id})`;
  return html`<div class="notice bad" role="alert"><p><strong>${asWords(fault.what)}</strong>${at}:
    ${` ${fault.detail}`}</p></div>`;
}

/** @param {{ report: Adherence, project: Project, onMore: () => Promise<void> }} props */
function LimitTable({ report, project, onMore }) {
  const [error, setError] = useState(/** @type {Error | null} */ (null));
  const more = () => {
    setError(null);
    onMore().catch(setError);
  };
  const said = report.is_within
    ? `${formatCount(report.budget_count)} budgets, none of them ever exceeded`
    : "A budget was exceeded";
  return html`
    <p class=${`adherence-said ${report.is_within ? "good" : "bad"}`}><${Icon}
      name=${report.is_within ? "check" : "cross"} />${said}</p>
    <div class="card"><table class="result-table" role="table">
      <caption class="unseen">Each budget’s limit and the most it was ever used</caption>
      <thead role="rowgroup"><tr role="row">
        <th role="columnheader" scope="col" class="r-group">Budget</th>
        <th role="columnheader" scope="col" class="num">Limit</th>
        <th role="columnheader" scope="col" class="num">Most used</th>
        <th role="columnheader" scope="col" class="num">Least left</th>
        <th role="columnheader" scope="col" class="num">Most used at</th>
        <th role="columnheader" scope="col">Within</th>
      </tr></thead>
      <tbody role="rowgroup">
        ${report.rows.map((row) => {
          const { text, href } = ownerText(row.owner, project);
          return html`<tr role="row" key=${`${row.owner}/${row.currency}`}>
            <th role="rowheader" scope="row" class="r-group" title=${row.owner}>${
              href === null ? text : html`<a href=${href}>${text}</a>`
            }</th>
            <td role="cell" class="num"
              data-label="limit">${formatMoney(row.limit_nanos, row.currency)}</td>
            <td role="cell" class="num"
              data-label="most used">${formatMoney(row.peak_nanos, row.currency)}</td>
            <td role="cell" class="num"
              data-label="least left">${formatMoney(row.least_available_nanos, row.currency)}</td>
            <td role="cell" class="num muted" data-label="at">${
              row.peak_at === null ? "–" : html`<${Time} at=${row.peak_at} />`
            }</td>
            <td role="cell" class="r-within" data-label="within"><span
              class=${row.is_within ? "good-text" : "bad-text"}>${row.is_within ? "yes" : "no"}</span></td>
          </tr>`;
        })}
      </tbody>
    </table></div>
    ${error && html`<${Failure} error=${error} onRetry=${more} />`}
    ${
      report.next_cursor !== null &&
      html`<p class="more"><button type="button" class="button" onClick=${more}>Show more</button>
        <span class="muted">${formatCount(report.rows.length)} shown</span></p>`
    }`;
}

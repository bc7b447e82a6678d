/** `/budgets/<project>`: its balance, today's allowance, a top-up and what moved. */
import { html, useCallback, useState } from "/vendor/htm-preact.js";
import { getJson, query } from "./api.js";
import { BalanceFigures } from "./balance-figures.js";
import { asWords, formatCount } from "./format.js";
import { useLive } from "./live.js";
import { useBatched, useLoad } from "./loading.js";
import { columnDecimals } from "./money.js";
import { BalanceBar, Empty, Failure, Icon, Money, Skeleton, Time } from "./parts.js";
import { TopUpForm } from "./top-up-form.js";

/** @typedef {import("../../../orchestrator/contract/projects.ts").Project} Project */
/** @typedef {import("../../../orchestrator/contract/budgets.ts").Statement} Statement */

const PAGE = 50;
/** A transfer's kind in the words of the budget. */
const KINDS = { direct: "moved", pending: "reserved", post: "settled", void: "released" };

/** @param {{ name: string }} props */
export function BudgetPage({ name }) {
  const encoded = encodeURIComponent(name);
  const project = useLoad((signal) => getJson(`/projects/${encoded}`, signal), [name]);
  const statement = useLoad(
    (signal) => getJson(`/budgets/${encoded}/statement${query({ limit: PAGE })}`, signal),
    [name],
  );
  const readAgain = useBatched(() => {
    void project.reload();
    // A reader who went back in time keeps what is read; the newest lines come with a reload.
    if ((statement.data?.lines.length ?? 0) <= PAGE) void statement.reload();
  }, 1_000);
  useLive(
    (event) => {
      if (/^(call|budget|trial)\./.test(event.type)) readAgain();
    },
    readAgain,
    [name, readAgain],
  );
  if (project.data === null) {
    return html`<main class="page">
      ${
        project.error
          ? html`<${Failure} error=${project.error}
        onRetry=${project.reload} />`
          : html`<${Skeleton} lines=${6} label="Loading the budget" />`
      }
    </main>`;
  }
  const onFunded = () => {
    void project.reload();
    void statement.reload();
  };
  return html`<main class="page">
    <div class="page-head">
      <div>
        <p class="crumbs"><a href="/budgets">Budgets</a> <span aria-hidden="true">/</span></p>
        <h1>${name}</h1>
      </div>
      <a class="button" href=${`/api/v1/budgets/${encoded}/export?format=csv`}
        download=${`${name}-spend.csv`}><${Icon} name="download" />Export CSV</a>
    </div>
    ${project.error && html`<${Failure} error=${project.error} onRetry=${project.reload} />`}
    <${Overview} project=${project.data} onFunded=${onFunded} />
    <${StatementLines} name=${name} statement=${statement} />
  </main>`;
}

/** @param {{ project: Project, onFunded: () => void }} props */
function Overview({ project, onFunded }) {
  const { balance, today } = project;
  return html`<div class="budget-grid">
    <section class="card budget" aria-label="Balance">
      <h2>Balance</h2>
      <${BalanceBar} balance=${balance} label="Budget" />
      <${BalanceFigures} balance=${balance} />
      ${
        today !== null &&
        html`<div class="today">
          <h2>Today’s allowance</h2>
          <${BalanceBar} balance=${today} label="Today’s allowance" />
          <${BalanceFigures} balance=${today} />
          <p class="muted small">A new day begins at midnight in ${project.time_zone}.</p>
        </div>`
      }
    </section>
    <section class="card budget" aria-label="Top up">
      <h2>Top up</h2>
      <p class="muted small">Adds to what ${project.name} may spend in all.</p>
      <${TopUpForm} name=${project.name} currency=${project.currency} onDone=${onFunded} />
    </section>
  </div>`;
}

/** @param {{ name: string, statement: ReturnType<typeof useLoad<Statement>> }} props */
function StatementLines({ name, statement }) {
  const [isReading, setReading] = useState(false);
  const [error, setError] = useState(/** @type {Error | null} */ (null));
  const more = useCallback(async () => {
    setReading(true);
    setError(null);
    try {
      const after = query({ limit: PAGE, before: statement.data?.next_cursor });
      const page = await getJson(`/budgets/${encodeURIComponent(name)}/statement${after}`);
      statement.setData((data) => ({ ...page, lines: [...data.lines, ...page.lines] }));
    } catch (caught) {
      setError(/** @type {Error} */ (caught));
    }
    setReading(false);
  }, [name, statement.data?.next_cursor]);
  const { data } = statement;
  return html`<section aria-label="Statement">
    <h2 class="section-title">Statement</h2>
    ${statement.error && html`<${Failure} error=${statement.error} onRetry=${statement.reload} />`}
    ${
      data === null &&
      statement.error === null &&
      html`<${Skeleton} lines=${6}
      label="Loading the statement" />`
    }
    ${data?.lines.length === 0 && html`<${Empty} title="Nothing has moved yet" />`}
    ${data !== null && data.lines.length > 0 && html`<${LineTable} statement=${data} />`}
    ${error && html`<${Failure} error=${error} onRetry=${more} />`}
    ${
      data !== null &&
      data.next_cursor !== null &&
      html`<p class="more">
        <button type="button" class="button" disabled=${isReading}
          onClick=${more}>${isReading ? "Loading…" : "Show older lines"}</button>
        <span class="muted">${formatCount(data.lines.length)} shown</span>
      </p>`
    }
  </section>`;
}

/** @param {{ statement: Statement }} props */
function LineTable({ statement }) {
  const { currency } = statement.balance;
  const decimals = columnDecimals(
    statement.lines.map(({ amount_nanos }) => amount_nanos),
    currency,
  );
  return html`<div class="card"><table class="statement" role="table">
    <caption class="unseen">What moved, newest first, in ${currency}</caption>
    <thead role="rowgroup"><tr role="row">
      <th role="columnheader" scope="col" class="s-at">When</th>
      <th role="columnheader" scope="col" class="s-reason">What for</th>
      <th role="columnheader" scope="col" class="s-kind">Kind</th>
      <th role="columnheader" scope="col" class="s-from">From → to</th>
      <th role="columnheader" scope="col" class="s-amount num">Amount, ${currency}</th>
    </tr></thead>
    <tbody role="rowgroup">
      ${statement.lines.map(
        (line) => html`<tr role="row" key=${line.transfer_id}>
          <td role="cell" class="s-at num"><${Time} at=${line.at} /></td>
          <td role="cell" class="s-reason">${asWords(line.reason)}</td>
          <td role="cell" class="s-kind"><span class="tag"
            title=${line.kind}>${KINDS[line.kind] ?? asWords(line.kind)}</span></td>
          <td role="cell" class="s-from mono"><span>${line.debit}</span> <span class="muted"
            aria-label="to">→</span> <span>${line.credit}</span></td>
          <td role="cell" class="s-amount num"><${Money} nanos=${line.amount_nanos}
            currency=${currency} decimals=${decimals} isBare /></td>
        </tr>`,
      )}
    </tbody>
  </table></div>`;
}

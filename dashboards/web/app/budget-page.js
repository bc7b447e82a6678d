/** `/budgets/<project>`: its balances, and in tabs what moved, what came of it, and the proof. */
import { html } from "/vendor/htm-preact.js";
import { getJson } from "./api.js";
import { BudgetEvents } from "./budget-events.js";
import { BudgetLevels } from "./budget-levels.js";
import { useLive } from "./live.js";
import { useBatched, useLoad } from "./loading.js";
import { Empty, Failure, Icon, Skeleton } from "./parts.js";
import { ProofView } from "./proof-view.js";
import { ResultsView } from "./results-view.js";
import { useServerNow } from "./server-clock.js";
import { StatementView } from "./statement-view.js";
import { TopUpForm } from "./top-up-form.js";

/** @typedef {import("../../../orchestrator/contract/projects.ts").Project} Project */
/** @typedef {import("../../../orchestrator/contract/budgets.ts").BudgetReport} BudgetReport */

const TABS = [
  { name: "overview", title: "Overview" },
  { name: "statement", title: "Statement" },
  { name: "results", title: "Results" },
  { name: "proof", title: "Proof" },
];

/** @param {{ name: string, tab: string }} props */
export function BudgetPage({ name, tab }) {
  const encoded = encodeURIComponent(name);
  const project = useLoad((signal) => getJson(`/projects/${encoded}`, signal), [name]);
  const report = useLoad((signal) => getJson(`/budgets/${encoded}`, signal), [name]);
  const readAgain = useBatched(() => {
    void project.reload();
    void report.reload();
  }, 1_000);
  useLive(
    (event) => {
      if (/^(call|budget|trial)\./.test(event.type)) readAgain();
    },
    readAgain,
    [name, readAgain],
  );
  const error = report.error ?? project.error;
  if (project.data === null || report.data === null) {
    return html`<main class="page"><${NotShown} error=${error} onRetry=${readAgain} /></main>`;
  }
  return html`<main class="page">
    <div class="page-head">
      <div>
        <p class="crumbs"><a href="/budgets">Budgets</a> <span aria-hidden="true">/</span></p>
        <h1>${name}</h1>
      </div>
      <p class="downloads">
        <${Download} href=${`/api/v1/budgets/${encoded}/export?format=csv`}
          file=${`${name}-spend.csv`} title="Export CSV" />
        <${Download} href=${`/api/v1/budgets/${encoded}/export?format=json`}
          file=${`${name}-spend.json`} title="JSON" />
      </p>
    </div>
    ${error && html`<${Failure} error=${error} onRetry=${readAgain} />`}
    <nav class="tabs" aria-label="Views of the budget">
      ${TABS.map(
        ({ name: view, title }) => html`<a
          href=${`/budgets/${encoded}${view === "overview" ? "" : `/${view}`}`}
          aria-current=${view === tab ? "page" : undefined}>${title}</a>`,
      )}
    </nav>
    <${TabBody} tab=${tab} project=${project.data} report=${report.data} onFunded=${readAgain} />
  </main>`;
}

/** @param {{ error: Error | null, onRetry: () => void }} props */
function NotShown({ error, onRetry }) {
  if (error === null) return html`<${Skeleton} lines=${6} label="Loading the budget" />`;
  if (!("status" in error) || error.status !== 404) {
    return html`<${Failure} error=${error} onRetry=${onRetry} />`;
  }
  return html`<${Empty} title="There is no such budget">
    <p>${error.message}</p>
    <p><a href="/budgets">Show all budgets</a></p>
  <//>`;
}

/** @param {{ href: string, file: string, title: string }} props */
function Download({ href, file, title }) {
  return html`<a class="button" href=${href} download=${file}><${Icon} name="download" />${title}</a>`;
}

/**
 * @param {{ tab: string, project: Project, report: BudgetReport, onFunded: () => void }} props
 */
function TabBody({ tab, project, report, onFunded }) {
  switch (tab) {
    case "statement":
      return html`<${StatementView} project=${project} />`;
    case "results":
      return html`<${ResultsView} name=${project.name} />`;
    case "proof":
      return html`<${ProofView} project=${project} />`;
    default:
      return html`<${Overview} project=${project} report=${report} onFunded=${onFunded} />`;
  }
}

/** @param {{ project: Project, report: BudgetReport, onFunded: () => void }} props */
function Overview({ project, report, onFunded }) {
  const nowMs = useServerNow(true);
  return html`<div class="budget-grid">
    <${BudgetLevels} report=${report} nowMs=${nowMs}
      allowanceNanos=${project.daily_allowance_nanos} />
    <div class="budget-side">
      <section class="card budget" aria-label="Top up">
        <h2>Top up</h2>
        <p class="muted small">Adds to what ${project.name} may spend in all.</p>
        <${TopUpForm} name=${project.name} currency=${project.currency} onDone=${onFunded} />
      </section>
      <${BudgetEvents} project=${project} />
    </div>
  </div>`;
}

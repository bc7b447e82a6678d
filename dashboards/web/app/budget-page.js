/** `/budgets/<project or trial>`: its balances; in tabs what moved, what came of it, the proof. */
import { html } from "/vendor/htm-preact.js";
import { getJson } from "./api.js";
import { BudgetEvents } from "./budget-events.js";
import { BudgetLevels } from "./budget-levels.js";
import { useLive } from "./live.js";
import { useBatched, useLoad } from "./loading.js";
import { shortId } from "./owner-text.js";
import { Empty, Failure, Icon, Skeleton } from "./parts.js";
import { ProofView } from "./proof-view.js";
import { ResultsView } from "./results-view.js";
import { useServerNow } from "./server-clock.js";
import { StatementView } from "./statement-view.js";
import { TopUpForm } from "./top-up-form.js";

/** @typedef {import("../../../orchestrator/contract/projects.ts").Project} Project */
/** @typedef {import("../../../orchestrator/contract/budgets.ts").BudgetReport} BudgetReport */

const TABS = [
  { name: "overview", title: "Overview", isOfTrials: true },
  { name: "statement", title: "Statement", isOfTrials: true },
  { name: "results", title: "Results", isOfTrials: false },
  { name: "proof", title: "Proof", isOfTrials: false },
];

/** @param {{ name: string, tab: string }} props `name`: a project's name, or a trial's id */
export function BudgetPage({ name, tab }) {
  const encoded = encodeURIComponent(name);
  const report = useLoad((signal) => getJson(`/budgets/${encoded}`, signal), [name]);
  const owner = report.data?.project ?? null;
  const project = useLoad(
    async (signal) =>
      owner === null ? null : await getJson(`/projects/${encodeURIComponent(owner)}`, signal),
    [owner],
  );
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
  const isTrial = name !== project.data.name;
  const tabs = TABS.filter(({ isOfTrials }) => isOfTrials || !isTrial);
  return html`<main class="page">
    <${Head} name=${name} project=${project.data} isTrial=${isTrial} />
    ${error && html`<${Failure} error=${error} onRetry=${readAgain} />`}
    <nav class="tabs" aria-label="Views of the budget">
      ${tabs.map(
        ({ name: view, title }) => html`<a
          href=${`/budgets/${encoded}${view === "overview" ? "" : `/${view}`}`}
          aria-current=${view === tab ? "page" : undefined}>${title}</a>`,
      )}
    </nav>
    <${TabBody} tab=${tab} project=${project.data} report=${report.data} onFunded=${readAgain} />
  </main>`;
}

/** @param {{ name: string, project: Project, isTrial: boolean }} props */
function Head({ name, project, isTrial }) {
  const exported = `/api/v1/budgets/${encodeURIComponent(project.name)}/export`;
  return html`<div class="page-head">
    <div>
      <p class="crumbs"><a href="/budgets">Budgets</a> <span aria-hidden="true">/</span>${
        isTrial &&
        html` <a href=${`/budgets/${encodeURIComponent(project.name)}`}>${project.name}</a>${" "}
          <span aria-hidden="true">/</span>`
      }</p>
      <h1>${isTrial ? `trial …${shortId(name)}` : name}</h1>
    </div>
    ${
      isTrial
        ? html`<a class="button" href=${`/trials/${encodeURIComponent(name)}`}>To the trial</a>`
        : html`<p class="downloads">
        <${Download} href=${`${exported}?format=csv`} file=${`${name}-spend.csv`}
          title="Export CSV" />
        <${Download} href=${`${exported}?format=json`} file=${`${name}-spend.json`} title="JSON" />
      </p>`
    }
  </div>`;
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
      return html`<${StatementView} name=${report.name} project=${project} />`;
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
        <p class="muted small">${
          report.name === project.name
            ? `Adds to what ${project.name} may spend in all.`
            : "Raises what this trial may spend."
        }</p>
        <${TopUpForm} name=${report.name} currency=${project.currency} onDone=${onFunded} />
      </section>
      <${BudgetEvents} name=${report.name} />
    </div>
  </div>`;
}

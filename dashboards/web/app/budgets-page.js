/** `/budgets`: what each project was given, holds, has spent and has left. */
import { html } from "/vendor/htm-preact.js";
import { getJson } from "./api.js";
import { BalanceFigures } from "./balance-figures.js";
import { formatCount } from "./format.js";
import { useLive } from "./live.js";
import { useBatched, useLoad } from "./loading.js";
import { formatMoney } from "./money.js";
import { BalanceBar, Empty, Failure, Skeleton } from "./parts.js";

/** @typedef {import("../../../orchestrator/contract/projects.ts").Project} Project */

export function BudgetsPage() {
  const projects = useLoad((signal) => getJson("/projects", signal), []);
  const readAgain = useBatched(() => void projects.reload(), 1_000);
  useLive(
    (event) => {
      if (/^(call|budget|trial)\./.test(event.type)) readAgain();
    },
    readAgain,
    [readAgain],
  );
  return html`<main class="page">
    <div class="page-head"><h1>Budgets</h1></div>
    ${projects.error && html`<${Failure} error=${projects.error} onRetry=${projects.reload} />`}
    ${
      projects.data === null &&
      projects.error === null &&
      html`<${Skeleton} lines=${5}
      label="Loading budgets" />`
    }
    ${
      projects.data?.projects.length === 0 &&
      html`<${Empty} title="No projects yet">
      <p>A project and its budget are made from its file, <code>autocode.yaml</code>.</p><//>`
    }
    ${projects.data?.projects.map(
      (project) => html`<${ProjectBudget} key=${project.id}
      project=${project} />`,
    )}
  </main>`;
}

/** @param {{ project: Project }} props */
function ProjectBudget({ project }) {
  const { balance, today } = project;
  const count = Object.values(project.trial_counts).reduce((sum, each) => sum + each, 0);
  const facts = [
    `${formatCount(count)} ${count === 1 ? "trial" : "trials"}`,
    `at most ${formatMoney(project.per_trial_nanos, project.currency)} a trial`,
  ];
  return html`<section class="card budget" aria-label=${`Budget of ${project.name}`}>
    <header class="budget-head">
      <h2><a class="row-link"
        href=${`/budgets/${encodeURIComponent(project.name)}`}>${project.name}</a></h2>
      <p class="muted">${facts.join(" · ")}</p>
    </header>
    <${BalanceBar} balance=${balance} label=${`Budget of ${project.name}`} />
    <${BalanceFigures} balance=${balance} />
    ${
      today !== null &&
      html`<p class="today-line"><span>Today</span> <${BalanceBar} balance=${today}
        label="Today’s allowance" isThin />
        <span class="muted num">
          ${formatMoney(today.available_nanos, today.currency)}
          ${` of ${formatMoney(today.funded_nanos, today.currency)} left`}
        </span></p>`
    }
  </section>`;
}

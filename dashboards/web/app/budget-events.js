/** What happened to a budget beside its calls: marks passed, allowances that began and lapsed. */
import { html } from "/vendor/htm-preact.js";
import { getJson, query } from "./api.js";
import { useLive } from "./live.js";
import { useBatched, useLoad } from "./loading.js";
import { formatMoney } from "./money.js";
import { Failure, Skeleton, Time } from "./parts.js";

/** @typedef {import("../../../orchestrator/contract/budgets.ts").BudgetEvent} BudgetEvent */

const SHOWN = 8;
const SCOPES = { organisation: "the organisation", project: "the project", day: "the day" };

/** @param {{ name: string }} props */
export function BudgetEvents({ name }) {
  const path = `/budgets/${encodeURIComponent(name)}/events${query({ limit: SHOWN })}`;
  const events = useLoad((signal) => getJson(path, signal), [path]);
  const readAgain = useBatched(() => void events.reload(), 1_000);
  useLive(
    (event) => {
      if (event.type.startsWith("budget.")) readAgain();
    },
    readAgain,
    [readAgain],
  );
  return html`<section class="card budget" aria-label="Lately">
    <h2>Lately</h2>
    ${events.error && html`<${Failure} error=${events.error} onRetry=${events.reload} />`}
    ${events.data === null && events.error === null && html`<${Skeleton} lines=${3} />`}
    ${
      events.data?.events.length === 0 &&
      html`<p class="muted small">No mark was passed and no allowance has begun yet.</p>`
    }
    ${
      events.data !== null &&
      events.data.events.length > 0 &&
      html`<ol class="budget-events">${events.data.events.map(
        (event) => html`<li key=${event.seq} class=${toneOf(event)}>
          <span class="dot" aria-hidden="true"></span>
          <p>${textOf(event)}</p>
          <p class="muted small"><${Time} at=${event.at} /></p>
        </li>`,
      )}</ol>`
    }
  </section>`;
}

/** @param {BudgetEvent} event */
function toneOf({ kind, percent }) {
  if (kind === "replenished") return "good";
  if (kind === "lapsed") return "idle";
  return (percent ?? 0) >= 95 ? "bad" : "warn";
}

/** @param {BudgetEvent} event */
function textOf({ kind, scope, percent, currency, funded_nanos, spent_nanos }) {
  const of = SCOPES[scope] ?? "a trial";
  const funded = formatMoney(funded_nanos, currency);
  const spent = formatMoney(spent_nanos, currency);
  const left = formatMoney(BigInt(funded_nanos) - BigInt(spent_nanos), currency);
  switch (kind) {
    case "threshold":
      return `${percent} % of ${of} is spent: ${spent} of ${funded}`;
    case "replenished":
      return `${funded} for ${of}`;
    case "lapsed":
      return `What was left of ${of} lapsed: ${left}`;
  }
}

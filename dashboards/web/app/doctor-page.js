/** `/doctor`: what is in force on this installation, what is missing, and what to do about it. */
import { html } from "/vendor/htm-preact.js";
import { getJson } from "./api.js";
import { useLoad } from "./loading.js";
import { Empty, Failure, Icon, Skeleton } from "./parts.js";

/** @typedef {import("../../../orchestrator/contract/system.ts").Finding} Finding */

const ORDER = ["missing", "warn", "ok"];
const LOOKS = {
  missing: { icon: "cross", word: "missing" },
  warn: { icon: "bang", word: "attention" },
  ok: { icon: "check", word: "in force" },
};

export function DoctorPage() {
  const report = useLoad((signal) => getJson("/doctor", signal), []);
  const { data, error } = report;
  return html`<main class="page">
    <div class="page-head">
      <h1>Doctor</h1>
      <button type="button" class="button" disabled=${report.isLoading}
        onClick=${() => void report.reload()}>Check again</button>
    </div>
    ${error && html`<${Failure} error=${error} onRetry=${report.reload} />`}
    ${data === null && error === null && html`<${Skeleton} lines=${6} label="Checking" />`}
    ${data !== null && html`<${Findings} findings=${data.findings} />`}
  </main>`;
}

/** @param {{ findings: Finding[] }} props */
function Findings({ findings }) {
  if (findings.length === 0) return html`<${Empty} title="Nothing to report" />`;
  const worstFirst = findings.toSorted((a, b) => ORDER.indexOf(a.status) - ORDER.indexOf(b.status));
  const counts = Object.groupBy(findings, ({ status }) => status);
  return html`
    <p class="doctor-sum">
      ${ORDER.filter((status) => counts[status] !== undefined).map(
        (status) =>
          html`<span class=${`finding-status ${status}`}>
            ${`${counts[status].length} ${LOOKS[status].word}`}
          </span>`,
      )}
    </p>
    <ul class="card findings">
      ${worstFirst.map(
        ({ part, status, detail, next_step }) => html`<li key=${part} class=${status}>
          <span class=${`finding-icon ${status}`} title=${LOOKS[status].word}><${Icon}
            name=${LOOKS[status].icon} /><span class="unseen">${LOOKS[status].word}</span></span>
          <div>
            <strong>${part}</strong>
            <p>${detail}</p>
            ${
              next_step !== null &&
              html`<p class="next-step"><span
              class="muted">Next: </span>${next_step}</p>`
            }
          </div>
        </li>`,
      )}
    </ul>
  `;
}

/** A trial's events from first to last, each beside the time since its start. */
import { html, useState } from "/vendor/htm-preact.js";
import { eventText } from "./event-text.js";
import { formatCount, formatOffset } from "./format.js";
import { Empty, Failure, Icon, Money, Skeleton, Time } from "./parts.js";
import { isActive } from "./trial-facts.js";

/** @typedef {import("./trial-facts.js").Trial} Trial */
/** @typedef {import("./event-text.js").EventText} EventText */

/** Rows drawn at once; a long trial shows its newest and offers the rest. */
const ROWS = 400;
const KINDS = [
  { name: "", title: "Everything" },
  { name: "agent", title: "Agent" },
  { name: "money", title: "Money" },
  { name: "system", title: "System" },
];

/**
 * @param {{
 *   trial: Trial, events: ReturnType<typeof import("./trial-events.js").useTrialEvents>,
 * }} props
 */
export function TimelineView({ trial, events }) {
  const [kind, setKind] = useState("");
  const [rows, setRows] = useState(ROWS);
  if (!events.isLoaded && events.events.length === 0)
    return html`<${Skeleton} lines=${8} label="Loading events" />`;
  const currency = trial.budget?.currency ?? "XXX";
  const told = events.events.map((event) => ({ event, text: eventText(event, currency) }));
  const fitting = told.filter(({ text }) => kind === "" || text.kind === kind);
  const shown = fitting.slice(-rows);
  const startMs = Date.parse(trial.started_at ?? trial.created_at);
  return html`
    ${events.error && html`<${Failure} error=${events.error} onRetry=${events.reload} />`}
    <div class="segments" role="group" aria-label="Show">
      ${KINDS.map(
        ({ name, title }) =>
          html`<button type="button" aria-pressed=${kind === name}
            onClick=${() => setKind(name)}>${title}</button>`,
      )}
    </div>
    ${
      fitting.length === 0
        ? html`<${Empty}
          title=${events.events.length === 0 ? "Nothing has happened yet" : "No such events"}>
            ${isActive(trial) && html`<p>Events appear here as they happen.</p>`}
          <//>`
        : html`<div class="card">
            ${
              shown.length < fitting.length &&
              html`<p class="more">
                <button type="button" class="button"
                  onClick=${() => setRows(rows + ROWS)}>Show earlier events</button>
                <span class="muted">${formatCount(fitting.length - shown.length)} not shown</span>
              </p>`
            }
            <ol class="timeline">
              ${shown.map(
                ({ event, text }) => html`<${Row} key=${event.seq} at=${event.at}
                type=${event.type} text=${text} startMs=${startMs} currency=${currency} />`,
              )}
              ${
                isActive(trial) &&
                html`<li class="ev busy waiting"><span class="ev-at"></span>
                <span class="ev-dot"></span><span class="muted">${trial.state}…</span></li>`
              }
            </ol>
          </div>`
    }
  `;
}

/**
 * @param {{ at: string, type: string, text: EventText, startMs: number, currency: string }} props
 */
function Row({ at, type, text, startMs, currency }) {
  const isMajor = type === "trial.state" || type === "verify.ended";
  return html`<li class=${`ev ${text.tone} ${isMajor ? "major" : ""}`} data-type=${type}>
    <span class="ev-at num"><${Time} at=${at} text=${formatOffset(Date.parse(at) - startMs)} />
      </span>
    <span class="ev-dot" aria-hidden="true"></span>
    <div class="ev-body"><${Told} text=${text} currency=${currency} /></div>
  </li>`;
}

/** @param {{ text: EventText, currency: string }} props */
function Told({ text, currency }) {
  const line = html`<span class="ev-title">${text.title}</span>
    ${text.detail && html`<span class="ev-detail">${text.detail}</span>`}
    ${
      (text.aside || text.cost !== undefined) &&
      html`<span class="ev-aside num">
        ${text.aside}${
          text.cost !== undefined &&
          html` <${Money} nanos=${text.cost}
          currency=${currency} />`
        }
      </span>`
    }`;
  const body = text.body && html`<pre class=${text.isCode ? "code" : "prose"}>${text.body}</pre>`;
  // What its first line already says needs no fold.
  const isFolded = text.isFolded && text.body?.trim() !== text.detail;
  if (!body || (text.isFolded && !isFolded)) return html`<div class="ev-line">${line}</div>`;
  if (!isFolded) return html`<div class="ev-line">${line}</div>${body}`;
  return html`<details>
    <summary class="ev-line">${line}<span class="ev-fold"><${Icon} name="arrow" /></span></summary>
    ${body}
  </details>`;
}

/** What the trial's newest worker-agent printed: our own program's words, not the agent's. */
import { html } from "/vendor/htm-preact.js";
import { getText } from "./api.js";
import { formatCount, visible } from "./format.js";
import { useLoad } from "./loading.js";
import { Empty, Failure, Icon, Skeleton } from "./parts.js";
import { isActive } from "./trial-facts.js";

/** Lines drawn: the newest, as of any log. */
const LINES_DRAWN = 1_000;

/** @param {{ trial: import("./trial-facts.js").Trial }} props */
export function WorkerLogView({ trial }) {
  const path = `/trials/${encodeURIComponent(trial.id)}/worker-log`;
  const log = useLoad((signal) => getText(path, signal), [trial.id, trial.state, trial.tries]);
  const status = log.error !== null && "status" in log.error ? log.error.status : null;
  if (log.error !== null && (status === 404 || status === 409)) {
    const title = isActive(trial) ? "The worker has printed nothing yet" : "No log is kept";
    return html`<${Empty} title=${title}><p>${log.error.message}</p><//>`;
  }
  if (log.error) return html`<${Failure} error=${log.error} onRetry=${log.reload} />`;
  if (log.data === null) return html`<${Skeleton} lines=${8} label="Loading the worker’s log" />`;
  const lines = log.data.trimEnd().split("\n");
  const drawn = lines.slice(-LINES_DRAWN);
  return html`
    <p class="after-list">
      <button type="button" class="button quiet" onClick=${log.reload}>Read again</button>${" "}
      <a href=${`/api/v1${path}`} download=${`${trial.id}.worker.log`}>
        <${Icon} name="download" />The whole log
      </a>
      ${
        drawn.length < lines.length &&
        html`<span class="muted">${
          ` the newest ${formatCount(drawn.length)} of ` + `${formatCount(lines.length)} lines`
        }</span>`
      }
    </p>
    <pre class="code" tabindex="0" aria-label="The worker’s log">${drawn
      .map(visible)
      .join("\n")}</pre>
  `;
}

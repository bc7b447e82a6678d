/** What a trial left behind, to download. */
import { html } from "/vendor/htm-preact.js";
import { getJson } from "./api.js";
import { formatBytes } from "./format.js";
import { useLoad } from "./loading.js";
import { Empty, Failure, Icon, Skeleton, Time } from "./parts.js";
import { isActive } from "./trial-facts.js";

/** @typedef {import("../../../orchestrator/contract/artefacts.ts").Artefact} Artefact */

const MEANINGS = {
  "changes.patch": "What the agent changed",
  "terminal.cast": "What its terminal showed (asciicast)",
};

/** @param {{ trial: import("./trial-facts.js").Trial }} props */
export function ArtefactsView({ trial }) {
  const base = `/trials/${encodeURIComponent(trial.id)}`;
  const found = useLoad((signal) => getJson(`${base}/artefacts`, signal), [trial.id, trial.state]);
  if (found.error) return html`<${Failure} error=${found.error} onRetry=${found.reload} />`;
  if (found.data === null) return html`<${Skeleton} lines=${4} label="Loading artefacts" />`;
  /** @type {Artefact[]} */
  const newest = newestOfName(found.data.artefacts);
  return html`
    ${
      newest.length === 0 &&
      html`<${Empty}
      title=${isActive(trial) ? "Nothing collected yet" : "It left nothing behind"} />`
    }
    ${
      newest.length > 0 &&
      html`<ul class="card artefacts">
        ${newest.map(
          ({ name, byte_count, updated_at }) => html`<li key=${name}>
            <a href=${`/api/v1${base}/artefacts/${encodeURIComponent(name)}`} download=${name}>
              <${Icon} name="download" /><span class="mono">${name}</span>
            </a>
            <span class="muted artefact-meaning">${MEANINGS[name] ?? ""}</span>
            <span class="muted artefact-at"><${Time} at=${updated_at} /></span>
            <span class="num artefact-size">${formatBytes(byte_count)}</span>
          </li>`,
        )}
      </ul>`
    }
    <p class="after-list">
      <a href=${`/api/v1${base}/trajectory`} download=${`${trial.id}.trajectory.json`}>
        <${Icon} name="download" />Trajectory (ATIF)
      </a>
      <span class="muted"> built from the gateway’s own records</span>
    </p>
  `;
}

/**
 * The download's address names no allocation: it gives the newest.
 *
 * @param {Artefact[]} artefacts
 */
function newestOfName(artefacts) {
  /** @type {Map<string, Artefact>} */
  const byName = new Map();
  for (const artefact of artefacts) {
    const known = byName.get(artefact.name);
    if (known === undefined || known.updated_at < artefact.updated_at) {
      byName.set(artefact.name, artefact);
    }
  }
  return [...byName.values()];
}

/** What was kept of a trial: the tree that it stands in, and a fork from any point of it. */
import { html, useEffect, useRef, useState } from "/vendor/htm-preact.js";
import { getJson, newIdempotencyKey, postJson } from "./api.js";
import { treeRows } from "./checkpoint-rows.js";
import { asWords, formatBytes, formatCount } from "./format.js";
import { useLoad } from "./loading.js";
import { Empty, Failure, Icon, Skeleton, State, Time, Verdict } from "./parts.js";
import { navigate } from "./router.js";
import { isActive } from "./trial-facts.js";

/** @typedef {import("./checkpoint-rows.js").Checkpoint} Checkpoint */
/** @typedef {import("./checkpoint-rows.js").TreeRow} TreeRow */
/** @typedef {import("./trial-facts.js").Trial} Trial */

const CAUSES = { periodic: "while it ran", phase: "after a phase", pause: "paused", end: "ended" };

/** @param {{ trial: Trial }} props */
export function CheckpointsView({ trial }) {
  const path = `/trials/${encodeURIComponent(trial.id)}/checkpoints`;
  const tree = useLoad(
    (signal) => getJson(path, signal),
    [trial.id, trial.state, trial.call_count],
  );
  const [chosen, setChosen] = useState(/** @type {Checkpoint | null} */ (null));
  if (tree.error) return html`<${Failure} error=${tree.error} onRetry=${tree.reload} />`;
  if (tree.data === null) return html`<${Skeleton} lines=${4} label="Loading checkpoints" />`;
  const rows = treeRows(tree.data);
  if (tree.data.checkpoints.length === 0) {
    const title = isActive(trial) ? "Nothing is kept yet" : "Nothing was kept";
    return html`<${Empty} title=${title}>
      <p>A running trial’s files, plan and conversation are kept every few minutes, after each
      phase and at its end. It goes on there when its worker is lost.</p><//>`;
  }
  return html`
    <div class="card"><table class="result-table checkpoints">
      <thead><tr>
        <th scope="col">Kept</th><th scope="col">Phase</th><th scope="col" class="num">Files</th>
        <th scope="col" class="num">Size</th><th scope="col" class="num">New</th>
        <th scope="col" aria-label="Fork"></th>
      </tr></thead>
      <tbody>${rows.map((row) => html`<${Row} row=${row} shown=${trial.id} onFork=${setChosen} />`)}
      </tbody>
    </table></div>
    ${
      chosen !== null &&
      html`<${ForkDialog} key=${chosen.id} checkpoint=${chosen}
        parent=${tree.data.trials.find(({ id }) => id === chosen.trial_id)}
        onClose=${() => setChosen(null)} />`
    }`;
}

/** @param {{ row: TreeRow, shown: string, onFork: (checkpoint: Checkpoint) => void }} props */
function Row({ row: { depth, trial, checkpoint }, shown, onFork }) {
  const indent = { paddingInlineStart: `${0.75 + depth * 1.5 + (checkpoint === null ? 0 : 1)}rem` };
  if (checkpoint === null) {
    return html`<tr class="tree-trial"><th scope="row" colspan="6" style=${indent}>
      ${depth > 0 && html`<span class="muted">fork · </span>`}
      ${
        trial.id === shown
          ? html`<strong>This trial</strong>`
          : html`<a href=${`/trials/${trial.id}/checkpoints`}>${trial.agent}</a>`
      }
      <span class="muted"> ${trial.id === shown && trial.agent} with ${trial.pair} </span>
      <${State} trial=${trial} /> <${Verdict} verdict=${trial.verdict} />
    </th></tr>`;
  }
  const { cause, phase, file_count: files, byte_count: bytes, new_byte_count: fresh } = checkpoint;
  return html`<tr>
    <td style=${indent}><${Time} at=${checkpoint.created_at} />
      <span class="muted"> ${CAUSES[cause] ?? cause}</span>
      ${checkpoint.has_session && html` <span class="tag">conversation</span>`}</td>
    <td>${phase === null ? "–" : asWords(phase)}</td>
    <td class="num">${formatCount(files)}</td>
    <td class="num">${formatBytes(bytes)}</td>
    <td class="num muted">${formatBytes(fresh)}</td>
    <td class="num"><button type="button" class="button"
      onClick=${() => onFork(checkpoint)}><${Icon} name="fork" />Fork</button></td>
  </tr>`;
}

/**
 * @param {{
 *   checkpoint: Checkpoint, parent: TreeRow["trial"] | undefined, onClose: () => void,
 * }} props
 */
function ForkDialog({ checkpoint, parent, onClose }) {
  const [agent, setAgent] = useState(parent?.agent ?? "");
  const [pair, setPair] = useState(parent?.pair ?? "");
  const [error, setError] = useState(/** @type {Error | null} */ (null));
  const [isBusy, setBusy] = useState(false);
  const key = useRef(newIdempotencyKey());
  const dialog = useRef(/** @type {HTMLDialogElement | null} */ (null));
  useEffect(() => dialog.current?.showModal(), []);
  const choices = useLoad(
    async (signal) => ({
      agents: (await getJson("/agents", signal)).agents,
      pairs: (await getJson("/pairs", signal)).pairs,
    }),
    [],
  );
  const agents = choices.data?.agents.map(({ facts }) => facts.name) ?? [];
  const pairs = choices.data?.pairs.map(({ name }) => name) ?? [];

  const fork = async (/** @type {Event} */ event) => {
    event.preventDefault();
    setBusy(true);
    setError(null);
    try {
      const path = `/trials/${encodeURIComponent(checkpoint.trial_id)}/fork`;
      const body = { checkpoint_id: checkpoint.id, agent, pair };
      const made = await postJson(path, body, key.current);
      onClose();
      navigate(`/trials/${made.id}`);
    } catch (caught) {
      // What was refused is another request when it is asked for differently.
      key.current = newIdempotencyKey();
      setError(/** @type {Error} */ (caught));
      setBusy(false);
    }
  };

  return html`<dialog ref=${dialog} aria-labelledby="fork-title" onClose=${onClose}>
    <h2 id="fork-title">Fork from <${Time} at=${checkpoint.created_at} /></h2>
    <p>A new trial of the same task begins with the files and the plan of this moment, under a
      budget of its own as large as its parent’s.</p>
    <form onSubmit=${fork}>
      <label class="field">Agent
        <${Choice} value=${agent} values=${agents} onChange=${setAgent} /></label>
      <label class="field">Model pair
        <${Choice} value=${pair} values=${pairs} onChange=${setPair} /></label>
      ${
        agent !== parent?.agent &&
        checkpoint.has_session &&
        html`<p class="muted">The conversation is ${parent?.agent ?? "another agent"}’s:
          this one begins its own.</p>`
      }
      ${error && html`<${Failure} error=${error} />`}
      <div class="dialog-actions">
        <button type="button" class="button" onClick=${onClose}>Cancel</button>
        <button type="submit" class="button primary" disabled=${isBusy}>Fork</button>
      </div>
    </form>
  </dialog>`;
}

/**
 * @param {{ value: string, values: readonly string[], onChange: (value: string) => void }} props
 */
function Choice({ value, values, onChange }) {
  const all = [...new Set([value, ...values])];
  return html`<select value=${value}
    onChange=${(/** @type {{ currentTarget: HTMLSelectElement }} */ event) =>
      onChange(event.currentTarget.value)}>
    ${all.map((each) => html`<option value=${each} selected=${each === value}>${each}</option>`)}
  </select>`;
}

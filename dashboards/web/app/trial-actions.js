/** What a person may do to a trial: stop it, fund it, resume it. */
import { html, useRef, useState } from "/vendor/htm-preact.js";
import { postJson } from "./api.js";
import { Failure, Icon } from "./parts.js";
import { TopUpForm } from "./top-up-form.js";
import { isActive, isEnded } from "./trial-facts.js";

/** @typedef {import("./trial-facts.js").Trial} Trial */

/** @param {{ trial: Trial, onChanged: () => void }} props */
export function TrialActions({ trial, onChanged }) {
  const [error, setError] = useState(/** @type {Error | null} */ (null));
  const [isBusy, setBusy] = useState(false);
  const stopDialog = useRef(/** @type {HTMLDialogElement | null} */ (null));
  const fundDialog = useRef(/** @type {HTMLDialogElement | null} */ (null));
  const path = `/trials/${encodeURIComponent(trial.id)}`;

  const act = async (/** @type {"stop" | "resume"} */ verb) => {
    stopDialog.current?.close();
    setBusy(true);
    setError(null);
    try {
      await postJson(`${path}/${verb}`);
    } catch (caught) {
      setError(/** @type {Error} */ (caught));
    }
    setBusy(false);
    onChanged();
  };

  const canStop = isActive(trial) || trial.state === "paused";
  if (isEnded(trial) && error === null) return null;
  return html`<div class="actions">
    ${
      trial.state === "paused" &&
      html`<button type="button" disabled=${isBusy}
        class=${`button ${trial.approval_id === null ? "primary" : ""}`}
        onClick=${() => act("resume")}><${Icon} name="resume" />Resume</button>`
    }
    ${
      !isEnded(trial) &&
      trial.budget !== null &&
      html`<button type="button" class="button" onClick=${() => fundDialog.current?.showModal()}>
        <${Icon} name="plus" />Top up</button>`
    }
    ${
      canStop &&
      html`<button type="button" class="button" disabled=${isBusy}
        onClick=${() => stopDialog.current?.showModal()}><${Icon} name="stop" />Stop</button>`
    }
    ${error && html`<${Failure} error=${error} />`}
    <dialog ref=${stopDialog} aria-labelledby="stop-title">
      <h2 id="stop-title">Stop this trial?</h2>
      <p>Its agent is ended and it gets no verdict. What it spent stays spent.</p>
      <div class="dialog-actions">
        <button type="button" class="button"
          onClick=${() => stopDialog.current?.close()}>Keep it</button>
        <button type="button" class="button danger"
          onClick=${() => act("stop")}>Stop the trial</button>
      </div>
    </dialog>
    <dialog ref=${fundDialog} aria-labelledby="fund-title">
      <h2 id="fund-title">Top up this trial</h2>
      <p>
        Raises what this trial may spend.
        ${trial.state === "paused" && " Resume the trial after that."}
      </p>
      ${
        trial.budget !== null &&
        html`<${TopUpForm} name=${trial.id} currency=${trial.budget.currency} onDone=${onChanged}
          onClose=${() => fundDialog.current?.close()} />`
      }
    </dialog>
  </div>`;
}

/** "Allow this": shows what a rule would change in the project's policy, and asks for it. */
import { html, useRef, useState } from "/vendor/htm-preact.js";
import { newIdempotencyKey, postJson } from "./api.js";
import { visible } from "./format.js";
import { Failure, Skeleton } from "./parts.js";
import { FiledRule, RuleDiff } from "./rule-approval.js";

/** @typedef {import("../../../orchestrator/contract/flow-views.ts").RuleProposal} RuleProposal */

/** @param {{ flowId: string, place: string }} props */
export function AllowThis({ flowId, place }) {
  const dialog = useRef(/** @type {HTMLDialogElement | null} */ (null));
  const [proposal, setProposal] = useState(/** @type {RuleProposal | null} */ (null));
  const [error, setError] = useState(/** @type {Error | null} */ (null));
  const [isBusy, setBusy] = useState(false);
  /** One question, however often its answer is lost on the way. */
  const key = useRef("");

  const ask = async (/** @type {boolean} */ isDryRun) => {
    setBusy(true);
    setError(null);
    if (isDryRun) key.current = newIdempotencyKey();
    try {
      const path = `/flows/${encodeURIComponent(flowId)}/propose`;
      const sent = isDryRun ? newIdempotencyKey() : key.current;
      setProposal(await postJson(path, { is_dry_run: isDryRun }, sent));
    } catch (caught) {
      setError(/** @type {Error} */ (caught));
    }
    setBusy(false);
  };
  const show = () => {
    setProposal(null);
    dialog.current?.showModal();
    void ask(true);
  };
  const asked = proposal?.approval_id ?? null;
  return html`<button type="button" class="button small allow" onClick=${show}
      aria-label=${`Allow this: ${place}`}>Allow this…</button>
    <dialog ref=${dialog} class="allow-dialog" aria-label="Allow this">
      <h2>${asked === null ? "Allow such flows?" : "It is asked for"}</h2>
      <p class="muted small">${place}</p>
      ${error && html`<${Failure} error=${error} />`}
      ${
        proposal === null &&
        error === null &&
        html`<${Skeleton} lines=${4}
        label="Asking for the rule" />`
      }
      ${
        proposal !== null &&
        html`<p>${
          asked === null
            ? `The policy of ${visible(proposal.project)} would change so, once an admin agrees:`
            : "Nothing changes before an admin agrees: here, on the trial’s page, or with"
        }</p>
        ${
          asked === null
            ? html`<${RuleDiff} diff=${proposal.diff} />`
            : html`<pre class="command">autocode approval approve ${asked}</pre>
              <${FiledRule} id=${asked} />`
        }`
      }
      <div class="dialog-actions">
        <button type="button" class="button" onClick=${() => dialog.current?.close()}>
          ${asked === null ? "Cancel" : "Close"}</button>
        ${
          asked === null &&
          html`<button type="button" class="button primary" disabled=${isBusy || proposal === null}
          onClick=${() => void ask(false)}>Ask for it</button>`
        }
      </div>
    </dialog>`;
}

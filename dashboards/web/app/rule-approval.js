/** A change of a project's egress policy that was asked for: what it is, and a person's answer. */
import { html, useRef, useState } from "/vendor/htm-preact.js";
import { getJson, query } from "./api.js";
import { visible } from "./format.js";
import { useLoad } from "./loading.js";
import { Failure, Skeleton } from "./parts.js";
import { useSendOnce } from "./send-once.js";

/** @typedef {import("../../../orchestrator/contract/approvals.ts").Approval} Approval */

/** The changes that wait for an answer, of one trial or of all. @param {string} [trialId] */
export function useRuleApprovals(trialId) {
  const path = `/approvals${query({ state: "open", trial_id: trialId })}`;
  const list = useLoad((signal) => getJson(path, signal), [path]);
  const approvals = /** @type {Approval[]} */ (list.data?.approvals ?? []);
  return { ...list, approvals: approvals.filter(({ egress }) => egress !== null) };
}

/** @param {{ rules: ReturnType<typeof useRuleApprovals> }} props */
export function RuleApprovals({ rules: { approvals, error, reload } }) {
  if (error) return html`<${Failure} error=${error} onRetry=${reload} />`;
  return approvals.map(
    (approval) => html`<section class="card rule-approval" key=${approval.id}
      aria-label="A change of the policy waits for an answer">
      <h2>A change of the egress policy of ${visible(approval.project)} waits for an answer</h2>
      <p class="muted small">${visible(approval.egress?.note ?? "")}</p>
      <${RuleDiff} diff=${approval.egress?.diff ?? ""} />
      <${RuleAnswer} approval=${approval} />
    </section>`,
  );
}

/** How many changes wait, which opens them; nothing where none does. */
export function RulesWaiting() {
  const rules = useRuleApprovals();
  const dialog = useRef(/** @type {HTMLDialogElement | null} */ (null));
  const count = rules.approvals.length;
  if (count === 0) return null;
  return html`<button type="button" class="button small"
      onClick=${() => dialog.current?.showModal()}>${
        count === 1 ? "1 change waits…" : `${count} changes wait…`
      }</button>
    <dialog ref=${dialog} class="allow-dialog" aria-label="Changes that wait for an answer">
      <${RuleApprovals} rules=${rules} />
      <div class="dialog-actions"><button type="button" class="button"
        onClick=${() => dialog.current?.close()}>Close</button></div>
    </dialog>`;
}

/** An approval that was just filed, to be answered at once. @param {{ id: string }} props */
export function FiledRule({ id }) {
  const path = `/approvals/${encodeURIComponent(id)}`;
  const approval = useLoad((signal) => getJson(path, signal), [path]);
  if (approval.error) {
    return html`<${Failure} error=${approval.error} onRetry=${approval.reload} />`;
  }
  if (approval.data === null) return html`<${Skeleton} lines=${2} label="Loading what it asks" />`;
  return html`<${RuleAnswer} approval=${approval.data} />`;
}

/** @param {{ approval: Approval }} props */
function RuleAnswer({ approval }) {
  const [answered, setAnswered] = useState(/** @type {Approval | null} */ (null));
  const [why, setWhy] = useState(/** @type {string | null} */ (null));
  const field = useRef(/** @type {HTMLInputElement | null} */ (null));
  const { send, isBusy, error } = useSendOnce(setAnswered);
  const { state, egress } = answered ?? approval;
  if (state === "granted") {
    return html`<div role="status"><p>It is in force. Add these lines to the project’s file: applied
        without them, it takes the rules back.</p>
      <pre class="code" tabindex="0">${visible(egress?.yaml ?? "")}</pre></div>`;
  }
  if (state !== "open") {
    return html`<p role="status">${state === "rejected" ? "It is rejected" : "It is overtaken"}:
      nothing changes.</p>`;
  }
  const answer = (/** @type {"approve" | "reject"} */ verb, /** @type {object} */ rest) =>
    void send(`/approvals/${encodeURIComponent(approval.id)}/${verb}`, {
      content_sha256: approval.content_sha256,
      ...rest,
    });
  const reject = (/** @type {Event} */ event) => {
    event.preventDefault();
    if (why?.trim()) answer("reject", { reason: why.trim() });
    else field.current?.focus();
  };
  return html`${error && html`<${Failure} error=${error} />`}
    <form class="rule-answer" onSubmit=${reject}>
      <button type="button" class="button primary" disabled=${isBusy}
        onClick=${() => answer("approve", {})}>Add the rule</button>
      ${
        why === null
          ? html`<button type="button" class="button" disabled=${isBusy}
            onClick=${() => setWhy("")}>Reject…</button>`
          : html`<label class="field"><span>Why not</span>
              <input name="reason" ref=${field} required maxlength="1000" autocomplete="off"
                value=${why} onInput=${(/** @type {{ target: HTMLInputElement }} */ { target }) =>
                  setWhy(target.value)} /></label>
            <button type="submit" class="button danger" disabled=${isBusy}>Reject</button>`
      }
    </form>`;
}

/** @param {{ diff: string }} props */
export function RuleDiff({ diff }) {
  const kinds = { "+": "added", "-": "removed" };
  return html`<pre class="code rule-diff" tabindex="0">${diff
    .trimEnd()
    .split("\n")
    .map((line, index) => {
      const isHead = /^(\+\+\+|---|@@)/.test(line);
      const kind = isHead ? "muted" : (kinds[line[0] ?? ""] ?? "");
      return html`<span class=${kind} key=${index}>${visible(line)}${"\n"}</span>`;
    })}</pre>`;
}

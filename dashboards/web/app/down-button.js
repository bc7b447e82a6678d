/** Takes a served pair down, after a person has said so. */
import { html, useRef } from "/vendor/htm-preact.js";
import { formatCount } from "./format.js";
import { Failure } from "./parts.js";
import { useSendOnce } from "./send-once.js";

/**
 * @param {{
 *   served: import("../../../orchestrator/contract/models.ts").ServedPair, onDone: () => unknown,
 * }} props
 */
export function DownButton({ served, onDone }) {
  const { pair, queued_trials: queued } = served;
  const dialog = useRef(/** @type {HTMLDialogElement | null} */ (null));
  const { send, isBusy, error } = useSendOnce(() => {
    dialog.current?.close();
    return onDone();
  });
  const waiting = queued === 1 ? "The trial that waits for it goes" : "The trials that wait go";
  return html`<button type="button" class="button small" aria-label=${`Take ${pair} down`}
      onClick=${() => dialog.current?.showModal()}>Take down…</button>
    <dialog ref=${dialog} aria-label=${`Take ${pair} down`}>
      <h2>Take ${pair} down?</h2>
      <p>Its engines end what they are answering, and free their GPUs.
        ${queued > 0 && ` ${waiting} on waiting (${formatCount(queued)}).`}</p>
      ${error && html`<${Failure} error=${error} />`}
      <div class="dialog-actions">
        <button type="button" class="button"
          onClick=${() => dialog.current?.close()}>Keep it</button>
        <button type="button" class="button danger" disabled=${isBusy}
          onClick=${() => void send("/models/down", { pair })}>Take down</button>
      </div>
    </dialog>`;
}

/** Funds a budget, once however often the button is pressed or the answer is lost. */
import { html, useRef, useState } from "/vendor/htm-preact.js";
import { newIdempotencyKey, postJson } from "./api.js";
import { formatMoney, parseUnits } from "./money.js";
import { Failure } from "./parts.js";

/**
 * @param {{ name: string, currency: string, onDone: () => void, onClose?: () => void }} props
 *   `name`: the budget's, a project's name or a trial's id
 */
export function TopUpForm({ name, currency, onDone, onClose }) {
  const [text, setText] = useState("");
  const [note, setNote] = useState("");
  const [fault, setFault] = useState("");
  const [error, setError] = useState(/** @type {Error | null} */ (null));
  const [done, setDone] = useState("");
  const [isBusy, setBusy] = useState(false);
  /** The key of what is being sent: a repeat after a lost answer is the same request. */
  const sent = useRef(/** @type {{ key: string, said: string } | null} */ (null));
  const isSending = useRef(false);

  const submit = async (/** @type {Event} */ event) => {
    event.preventDefault();
    if (isSending.current) return;
    const nanos = parseUnits(text.trim());
    if (nanos === null || nanos === 0n) {
      setFault("Write an amount such as 12.50: more than 0, at most nine decimals");
      return;
    }
    const why = note.trim();
    const body = { amount_nanos: String(nanos), currency, ...(why === "" ? {} : { note: why }) };
    const said = JSON.stringify(body);
    if (sent.current?.said !== said) sent.current = { key: newIdempotencyKey(), said };
    isSending.current = true;
    setBusy(true);
    setError(null);
    setDone("");
    try {
      const path = `/budgets/${encodeURIComponent(name)}/topup`;
      await postJson(path, body, sent.current.key);
      sent.current = null;
      setText("");
      setNote("");
      setDone(`Added ${formatMoney(nanos, currency)}`);
      onDone();
      onClose?.();
    } catch (caught) {
      setError(/** @type {Error} */ (caught));
    }
    isSending.current = false;
    setBusy(false);
  };

  return html`<form class="top-up" onSubmit=${submit} novalidate>
    <label class="field">
      <span>Amount</span>
      <span class="amount">
        <input name="amount" inputmode="decimal" autocomplete="off" placeholder="0.00" value=${text}
          aria-invalid=${fault !== ""} aria-describedby=${`fault-${name}`}
          onInput=${(/** @type {{ target: HTMLInputElement }} */ { target }) => {
            setText(target.value);
            setFault("");
          }} />
        <span class="currency">${currency}</span>
      </span>
    </label>
    <label class="field">
      <span>Note (optional)</span>
      <input name="note" autocomplete="off" maxlength="500" value=${note}
        onInput=${(/** @type {{ target: HTMLInputElement }} */ { target }) => setNote(target.value)} />
    </label>
    <div class="dialog-actions">
      ${
        onClose &&
        html`<button type="button" class="button"
        onClick=${() => onClose()}>Cancel</button>`
      }
      <button type="submit" class="button primary"
        disabled=${isBusy}>${isBusy ? "Adding…" : "Top up"}</button>
    </div>
    <p class="field-fault" id=${`fault-${name}`} role="alert">${fault}</p>
    ${done !== "" && html`<p class="field-done" role="status">${done}</p>`}
    ${error && html`<${Failure} error=${error} />`}
  </form>`;
}

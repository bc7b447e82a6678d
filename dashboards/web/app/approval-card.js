/** What a paused trial asks of a person: more money, with a forecast, or an end. */
import { html, useRef, useState } from "/vendor/htm-preact.js";
import { getJson, newIdempotencyKey, postJson } from "./api.js";
import { asWords, formatCount } from "./format.js";
import { useLoad } from "./loading.js";
import { decimalsOf, formatDigits, formatMoney, isTokens, parseUnits } from "./money.js";
import { Failure, Skeleton } from "./parts.js";

/** @typedef {import("../../../orchestrator/contract/approvals.ts").Approval} Approval */
/** @typedef {import("../../../orchestrator/contract/approvals.ts").ApprovalFacts} ApprovalFacts */

const LEVELS = {
  trial: "the trial’s budget",
  day: "the day’s allowance",
  project: "the project’s budget",
  organisation: "the organisation’s budget",
};

/** @param {{ id: string, onAnswered: () => void }} props */
export function ApprovalCard({ id, onAnswered }) {
  const approval = useLoad(
    (signal) => getJson(`/approvals/${encodeURIComponent(id)}`, signal),
    [id],
  );
  if (approval.error) {
    return html`<${Failure} error=${approval.error} onRetry=${approval.reload} />`;
  }
  if (approval.data === null) return html`<${Skeleton} lines=${3} label="Loading what it asks" />`;
  if (approval.data.state !== "open" || approval.data.facts === null) return null;
  return html`<${Question} key=${id} approval=${approval.data} facts=${approval.data.facts}
    onAnswered=${onAnswered} />`;
}

/** @param {{ approval: Approval, facts: ApprovalFacts, onAnswered: () => void }} props */
function Question({ approval, facts, onAnswered }) {
  return html`<section class="card approval" aria-label="It waits for your answer">
    <h2>It waits for your answer</h2>
    <ul class="approval-facts">${factLines(facts).map((text) => html`<li key=${text}>${text}</li>`)}</ul>
    <${Answer} approval=${approval} facts=${facts} onAnswered=${onAnswered} />
  </section>`;
}

/** @param {ApprovalFacts} facts */
function factLines({ currency, shortage, forecast, checkpoint }) {
  const { files_changed: files, completed_phases: phases } = checkpoint;
  const changes = `+${checkpoint.lines_added} −${checkpoint.lines_removed}`;
  return [
    ...(shortage === null
      ? []
      : [
          `The next call may cost ${formatMoney(shortage.required_nanos, shortage.unit)}; ` +
            `${formatMoney(shortage.available_nanos, shortage.unit)} is left of ` +
            `${LEVELS[shortage.level] ?? asWords(shortage.level)}`,
        ]),
    forecast === null
      ? "There is too little to go by to say what it will still cost"
      : `To finish, ${formatMoney(forecast.low_nanos, currency)} to ` +
        `${formatMoney(forecast.high_nanos, currency)} more, in ${forecast.confidence_percent} % ` +
        `of cases: from ${formatCount(forecast.evidence_count)} ` +
        (forecast.basis === "own_calls" ? "of its own calls" : "finished trials") +
        (forecast.swap_nanos === undefined
          ? ""
          : `. The higher has ${formatMoney(forecast.swap_nanos, currency)} for loading its pair again`),
    [
      files === 0
        ? "Nothing is changed yet"
        : `Kept: ${formatCount(files)} ${files === 1 ? "file" : "files"} changed (${changes})`,
      ...(phases.length > 0 ? [`${phases.map(asWords).join(", ")} done`] : []),
      ...(checkpoint.has_session ? ["its conversation goes on"] : []),
    ].join(", "),
  ];
}

/** @param {{ approval: Approval, facts: ApprovalFacts, onAnswered: () => void }} props */
function Answer({ approval, facts, onAnswered }) {
  const unit = facts.shortage?.unit ?? facts.currency;
  const [text, setText] = useState(() => amountText(facts.suggested_nanos, unit));
  const [why, setWhy] = useState("");
  const [fault, setFault] = useState("");
  const [error, setError] = useState(/** @type {Error | null} */ (null));
  const [isBusy, setBusy] = useState(false);
  const dialog = useRef(/** @type {HTMLDialogElement | null} */ (null));
  /** The key of the answer being sent: a repeat after a lost reply is the same answer. */
  const sent = useRef(/** @type {{ key: string, said: string } | null} */ (null));
  /** Known before the next drawing, and after an answer was taken: the card goes then. */
  const isSending = useRef(false);

  const send = async (/** @type {"approve" | "reject"} */ verb, /** @type {object} */ rest) => {
    const body = { content_sha256: approval.content_sha256, ...rest };
    const said = `${verb} ${JSON.stringify(body)}`;
    if (isSending.current) return;
    if (sent.current?.said !== said) sent.current = { key: newIdempotencyKey(), said };
    isSending.current = true;
    setBusy(true);
    setError(null);
    try {
      const path = `/approvals/${encodeURIComponent(approval.id)}/${verb}`;
      await postJson(path, body, sent.current.key);
      onAnswered();
    } catch (caught) {
      setError(/** @type {Error} */ (caught));
      isSending.current = false;
      setBusy(false);
    }
  };
  const approve = (/** @type {Event} */ event) => {
    event.preventDefault();
    const amount = readAmount(text.trim(), unit);
    if (amount === null) setFault("Write an amount above 0, such as 12.50");
    else void send("approve", { amount_nanos: amount });
  };
  const reject = (/** @type {Event} */ event) => {
    event.preventDefault();
    if (why.trim() === "") return;
    dialog.current?.close();
    void send("reject", { reason: why.trim() });
  };
  return html`<form class="approval-form" onSubmit=${approve} novalidate>
      <label class="field"><span>Add</span>
        <span class="amount">
          <input name="amount" inputmode="decimal" autocomplete="off" value=${text}
            aria-invalid=${fault !== ""} aria-describedby="approval-fault"
            onInput=${(/** @type {{ target: HTMLInputElement }} */ { target }) => {
              setText(target.value);
              setFault("");
            }} />
          <span class="currency">${isTokens(unit) ? "tokens" : unit}</span>
        </span>
      </label>
      <button type="submit" class="button primary"
        disabled=${isBusy}>${isBusy ? "Sending…" : "Top up and resume"}</button>
      <button type="button" class="button" disabled=${isBusy}
        onClick=${() => dialog.current?.showModal()}>Reject…</button>
    </form>
    <p class="field-fault" id="approval-fault" role="alert">${fault}</p>
    ${error && html`<${Failure} error=${error} />`}
    <dialog ref=${dialog} aria-labelledby="reject-title">
      <form onSubmit=${reject}>
        <h2 id="reject-title">Reject, and end the trial?</h2>
        <p>Its work is kept as a patch; it gets no verdict.</p>
        <label class="field"><span>Reason</span>
          <input name="reason" required maxlength="1000" autocomplete="off" value=${why}
            onInput=${(/** @type {{ target: HTMLInputElement }} */ { target }) =>
              setWhy(target.value)} /></label>
        <div class="dialog-actions">
          <button type="button" class="button"
            onClick=${() => dialog.current?.close()}>Keep it waiting</button>
          <button type="submit" class="button danger">Reject</button>
        </div>
      </form>
    </dialog>`;
}

/** An amount as a person would type it. @param {string} amount @param {string} unit */
function amountText(amount, unit) {
  return isTokens(unit) ? amount : formatDigits(BigInt(amount), decimalsOf(BigInt(amount), unit));
}

/** What the wire wants; null when it is no amount. @param {string} text @param {string} unit */
function readAmount(text, unit) {
  if (isTokens(unit)) return /^[1-9]\d{0,15}$/.test(text) ? text : null;
  const nanos = parseUnits(text);
  return nanos === null || nanos === 0n ? null : String(nanos);
}

/** Brings a planned pair up, after a person has seen its essence and accepted its licences. */
import { html, useRef, useState } from "/vendor/htm-preact.js";
import { Failure, Money } from "./parts.js";
import { gib, residencyText } from "./plan-facts.js";
import { navigate } from "./router.js";
import { useSendOnce } from "./send-once.js";

/** @typedef {import("../../../orchestrator/contract/models.ts").PairPlan} PairPlan */

/** @param {{ plan: PairPlan, request: object, machine: string, isOld: boolean }} props */
export function UpButton({ plan, request, machine, isOld }) {
  const dialog = useRef(/** @type {HTMLDialogElement | null} */ (null));
  const [accepted, setAccepted] = useState(/** @type {readonly string[]} */ ([]));
  const { send, isBusy, error } = useSendOnce(() => {
    dialog.current?.close();
    navigate("/models");
  });
  const licences = toAccept(plan);
  const isAccepted = licences.every(({ id }) => accepted.includes(id));
  const submit = (/** @type {Event} */ event) => {
    event.preventDefault();
    if (!isAccepted) return;
    const ids = licences.map(({ id }) => id);
    void send("/models/up", {
      plan: request,
      ...(ids.length === 0 ? {} : { accepted_licences: ids }),
    });
  };
  return html`<button type="button" class="button primary" disabled=${isOld}
      onClick=${() => dialog.current?.showModal()}>Bring up…</button>
    <dialog ref=${dialog} class="up-dialog" aria-labelledby="up-title">
      <form onSubmit=${submit}>
        <h2 id="up-title">Bring ${plan.pair} up?</h2>
        <p>On ${machine}. ${residencyText(plan)}.</p>
        <ul class="up-models">${plan.models.map(
          (model) => html`<li key=${model.side}>
            <span class="side">${model.side}</span>
            <span><span class="model-name">${model.model}</span>, ${model.quantisation}, ${gib(
              weights(model),
            )} of weights on each of its GPUs, under ${licenceLink(model.licence)}${
              model.price !== null &&
              html`; <${Money} nanos=${model.price.input_nanos_per_million}
                currency=${model.price.currency} isBare />${" in, "}<${Money}
                nanos=${model.price.output_nanos_per_million}
                currency=${model.price.currency} />${" out, for a million tokens"}`
            }</span>
          </li>`,
        )}</ul>
        ${licences.map(
          ({ id, url, models }) => html`<label class="accept" key=${id}>
            <input type="checkbox" checked=${accepted.includes(id)} onChange=${(
              /** @type {{ target: HTMLInputElement }} */ { target },
            ) =>
              setAccepted(
                target.checked ? [...accepted, id] : accepted.filter((other) => other !== id),
              )} />
            <span>I accept the terms of ${licenceLink({ id, url })} for ${models.join(" and ")}
            </span></label>`,
        )}
        <p class="small">Weights that are not here yet are fetched first.</p>
        ${error && html`<${Failure} error=${error} />`}
        <div class="dialog-actions">
          <button type="button" class="button"
            onClick=${() => dialog.current?.close()}>Cancel</button>
          <button type="submit" class="button primary"
            disabled=${isBusy || !isAccepted}>${isBusy ? "Sending…" : "Bring up"}</button>
        </div>
      </form>
    </dialog>`;
}

/** The licences that a person must accept, each once. @param {PairPlan} plan */
function toAccept({ models }) {
  const byId = Map.groupBy(
    models.filter(({ licence }) => licence.needs_acceptance),
    ({ licence }) => licence.id,
  );
  return [...byId].map(([id, those]) => ({
    ...{ id, url: those[0]?.licence.url ?? "" },
    models: those.map(({ model }) => model),
  }));
}

/** @param {{ id: string, url: string }} licence */
function licenceLink({ id, url }) {
  return html`<a href=${url} target="_blank" rel="noreferrer">${id}</a>`;
}

/** @param {PairPlan["models"][number]} model */
function weights({ memory }) {
  return memory.find(({ part }) => part === "weights")?.bytes ?? 0;
}

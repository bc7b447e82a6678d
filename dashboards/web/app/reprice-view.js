/** What a trial would have cost with another pair, or at another day's prices. Moves no money. */
import { html, useState } from "/vendor/htm-preact.js";
import { getJson, postJson, query } from "./api.js";
import { formatCount } from "./format.js";
import { useLoad } from "./loading.js";
import { columnDecimals, formatMoney } from "./money.js";
import { Failure, Money } from "./parts.js";

/** @typedef {import("../../../orchestrator/contract/repricing.ts").Repricing} Repricing */
/** @typedef {import("../../../orchestrator/contract/repricing.ts").RepricedCall} RepricedCall */

/** @param {{ trial: import("./trial-facts.js").Trial }} props */
export function RepriceView({ trial }) {
  const [isOpen, setOpen] = useState(false);
  return html`<details class="card reprice"
    onToggle=${(/** @type {{ target: HTMLDetailsElement }} */ { target }) => setOpen(target.open)}>
    <summary>What would it have cost at other prices?</summary>
    ${isOpen && html`<${RepriceForm} trial=${trial} />`}
  </details>`;
}

/** @param {{ trial: import("./trial-facts.js").Trial }} props */
function RepriceForm({ trial }) {
  const pairs = useLoad(
    (signal) => getJson(`/pairs${query({ project: trial.project })}`, signal),
    [trial.project],
  );
  const [pair, setPair] = useState("");
  const [day, setDay] = useState("");
  const [answer, setAnswer] = useState(
    /** @type {{ repricing: Repricing | null, error: Error | null, isBusy: boolean }} */ ({
      repricing: null,
      error: null,
      isBusy: false,
    }),
  );
  const submit = async (/** @type {Event} */ event) => {
    event.preventDefault();
    setAnswer({ repricing: null, error: null, isBusy: true });
    const wanted = {
      ...(pair === "" ? {} : { pair }),
      ...(day === "" ? {} : { at: `${day}T00:00:00Z` }),
    };
    try {
      const path = `/trials/${encodeURIComponent(trial.id)}/reprice`;
      setAnswer({ repricing: await postJson(path, wanted), error: null, isBusy: false });
    } catch (error) {
      setAnswer({ repricing: null, error: /** @type {Error} */ (error), isBusy: false });
    }
  };
  return html`<div class="reprice-body">
    <form onSubmit=${submit}>
      <label class="field"><span>Pair</span>
        <select value=${pair} onChange=${(
          /** @type {{ target: HTMLSelectElement }} */ { target },
        ) => setPair(target.value)}>
          <option value="">the same models</option>
          ${pairs.data?.pairs.map(({ name }) => html`<option value=${name}>${name}</option>`)}
        </select>
      </label>
      <label class="field"><span>Prices of</span>
        <input type="date" value=${day} onInput=${(
          /** @type {{ target: HTMLInputElement }} */ { target },
        ) => setDay(target.value)} />
      </label>
      <button type="submit" class="button"
        disabled=${answer.isBusy}>${answer.isBusy ? "Computing…" : "Compute"}</button>
    </form>
    <p class="muted small">Without a day: the prices when each call was made. Another model would
      have counted other tokens. Nothing is charged.</p>
    ${pairs.error && html`<${Failure} error=${pairs.error} onRetry=${pairs.reload} />`}
    <div aria-live="polite">
      ${answer.error && html`<${Failure} error=${answer.error} />`}
      ${answer.repricing !== null && html`<${Repriced} repricing=${answer.repricing} />`}
    </div>
  </div>`;
}

/** @param {{ repricing: Repricing }} props */
function Repriced({ repricing }) {
  const { currency, calls } = repricing;
  const decimals = columnDecimals(
    calls.flatMap(({ charged, repriced }) => [charged.cost_nanos, repriced.cost_nanos]),
    currency,
  );
  const figures = [
    ["Charged", repricing.charged_nanos],
    ["At these prices", repricing.repriced_nanos],
    ["Difference", repricing.difference_nanos],
  ];
  const marks = [
    ...(repricing.swap_nanos === "0"
      ? []
      : [`both with ${formatMoney(repricing.swap_nanos, currency)} for model swaps, as charged`]),
    ...(repricing.estimated_count > 0
      ? [`${formatCount(repricing.estimated_count)} by our own count of tokens`]
      : []),
    ...(repricing.reservation_count > 0
      ? [`${formatCount(repricing.reservation_count)} charged by reservation, not by usage`]
      : []),
  ];
  return html`<dl class="figures">${figures.map(
    ([title, nanos]) => html`<div key=${title}>
      <dt>${title}</dt><dd><${Money} nanos=${nanos} currency=${currency} /></dd>
    </div>`,
  )}</dl>
  ${marks.length > 0 && html`<p class="muted small">${marks.join(" · ")}</p>`}
  <table class="result-table" role="table">
    <caption class="unseen">Each call as charged and at these prices, in ${currency}</caption>
    <thead role="rowgroup"><tr role="row">
      <th role="columnheader" scope="col" class="r-group">Price</th>
      <th role="columnheader" scope="col" class="num">In</th>
      <th role="columnheader" scope="col" class="num">Out</th>
      <th role="columnheader" scope="col" class="num">Charged, ${currency}</th>
      <th role="columnheader" scope="col" class="num">At these prices</th>
    </tr></thead>
    <tbody role="rowgroup">${calls.map(
      (call) => html`<tr role="row" key=${call.call_id}>
        <th role="rowheader" scope="row" class="r-group">${priceChange(call)}${
          call.is_estimated && html` <span class="tag warn">estimated</span>`
        }${call.basis === "reservation" && html` <span class="tag warn">by reservation</span>`}</th>
        <td role="cell" class="num" data-label="in">${formatCount(call.input_tokens)}</td>
        <td role="cell" class="num" data-label="out">${formatCount(call.output_tokens)}</td>
        <td role="cell" class="num" data-label="charged"><${Money} nanos=${call.charged.cost_nanos}
          currency=${currency} decimals=${decimals} isBare /></td>
        <td role="cell" class="num" data-label="now"><${Money} nanos=${call.repriced.cost_nanos}
          currency=${currency} decimals=${decimals} isBare /></td>
      </tr>`,
    )}</tbody>
  </table>`;
}

/** @param {RepricedCall} call */
function priceChange({ charged, repriced }) {
  if (charged.price_version === repriced.price_version) return charged.price_version;
  return `${charged.price_version} → ${repriced.price_version}`;
}

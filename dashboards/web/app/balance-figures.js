/** A balance in figures; the colours are the bar's. */
import { html } from "/vendor/htm-preact.js";
import { Money } from "./parts.js";

/**
 * @param {{
 *   balance: import("../../../orchestrator/contract/money.ts").Balance, isLimited?: boolean,
 * }} props `isLimited`: whether what is left means anything
 */
export function BalanceFigures({ balance, isLimited = true }) {
  const { currency } = balance;
  const used = [
    { name: "Spent", nanos: balance.spent_nanos, mark: "spent" },
    { name: "Reserved", nanos: balance.reserved_nanos, mark: "reserved" },
  ];
  const left = [
    { name: "Available", nanos: balance.available_nanos, mark: "available" },
    { name: "Funded", nanos: balance.funded_nanos, mark: "" },
  ];
  const parts = isLimited ? [...used, ...left] : used;
  return html`<dl class="figures balance">
    ${parts.map(
      ({ name, nanos, mark }) => html`<div key=${name}>
        <dt>${
          mark !== "" &&
          html`<span class=${`key ${mark}`} aria-hidden="true">
          </span>`
        }${name}</dt>
        <dd><${Money} nanos=${nanos} currency=${currency} /></dd>
      </div>`,
    )}
  </dl>`;
}

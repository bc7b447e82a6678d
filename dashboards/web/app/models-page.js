/** `/models`: the model pairs, what is loaded of them, what they cost; and the planner. */
import { html, useEffect } from "/vendor/htm-preact.js";
import { getJson } from "./api.js";
import { useLoad } from "./loading.js";
import { PairTable } from "./pair-table.js";
import { Empty, Failure, Skeleton } from "./parts.js";
import { PlanPanel } from "./plan-panel.js";

/** @typedef {import("../../../orchestrator/contract/system.ts").PairStatus} PairStatus */
/** @typedef {import("../../../orchestrator/contract/models.ts").ServedPair} ServedPair */

const READ_EVERY_MS = 5_000;

/** @param {{ tab: string, search: URLSearchParams }} props */
export function ModelsPage({ tab, search }) {
  const isPlanner = tab === "plan";
  return html`<main class="page">
    <div class="page-head"><h1>Models</h1></div>
    <nav class="tabs" aria-label="Models">
      <a href="/models" aria-current=${isPlanner ? undefined : "page"}>Pairs</a>
      <a href="/models/plan" aria-current=${isPlanner ? "page" : undefined}>Plan</a>
    </nav>
    ${isPlanner ? html`<${PlanPanel} search=${search} />` : html`<${Pairs} />`}
  </main>`;
}

function Pairs() {
  const catalogue = useLoad(readCatalogue, []);
  const served = useLoad((signal) => getJson("/models/served", signal), []);
  useEffect(() => {
    const timer = setInterval(() => {
      if (!document.hidden) void served.reload();
    }, READ_EVERY_MS);
    return () => clearInterval(timer);
  }, [served.reload]);
  // Drawn once both are there, so that nothing moves as the second arrives.
  const isReading = catalogue.isLoading || served.isLoading;
  return html`
    ${catalogue.error && html`<${Failure} error=${catalogue.error} onRetry=${catalogue.reload} />`}
    ${
      served.error &&
      catalogue.error === null &&
      html`<${Failure} error=${served.error} onRetry=${served.reload} />`
    }
    ${isReading && html`<${Skeleton} lines=${12} label="Loading pairs" />`}
    ${
      !isReading &&
      catalogue.data !== null &&
      html`<${PairList} pairs=${catalogue.data.pairs} prices=${catalogue.data.prices}
        served=${served.data?.served ?? []} onChange=${served.reload} />`
    }
  `;
}

/** @param {AbortSignal} signal */
async function readCatalogue(signal) {
  const [{ pairs }, { prices }] = await Promise.all([
    getJson("/pairs", signal),
    getJson("/prices", signal),
  ]);
  return { pairs, prices };
}

/**
 * @param {{
 *   pairs: PairStatus[], served: ServedPair[], onChange: () => void,
 *   prices: import("../../../orchestrator/contract/prices.ts").ModelPrice[],
 * }} props
 */
function PairList({ pairs, prices, served, onChange }) {
  if (pairs.length === 0) return html`<${Empty} title="The catalogue has no pairs" />`;
  const byName = new Map(served.map((each) => [each.pair, each]));
  const priceOf = new Map(prices.map((price) => [price.model, price]));
  const rank = (/** @type {PairStatus} */ { name, is_available: isUsable }) =>
    byName.has(name) ? 0 : isUsable ? 1 : 2;
  const sorted = pairs.toSorted((a, b) => rank(a) - rank(b));
  return html`<section class="card" aria-label="Model pairs">
    <${PairTable} pairs=${sorted} served=${byName} prices=${priceOf} onChange=${onChange} />
  </section>`;
}

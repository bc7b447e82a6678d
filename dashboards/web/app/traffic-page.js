/** `/traffic`: every flow as it is recorded, by what is asked for in the address. */
import { html, useEffect, useRef, useState } from "/vendor/htm-preact.js";
import { getJson, query } from "./api.js";
import { ACTIONS, FILTERS } from "./flow-facts.js";
import { useFlows } from "./flow-list.js";
import { FlowStrip, FlowTable } from "./flow-table.js";
import { formatCount } from "./format.js";
import { useLoad } from "./loading.js";
import { Empty, Failure, Icon, Skeleton } from "./parts.js";
import { navigate } from "./router.js";
import { RulesWaiting } from "./rule-approval.js";

/** @typedef {import("../../../orchestrator/contract/flows.ts").TrafficSource} TrafficSource */

const TYPING_MS = 400;

/** @param {{ search: URLSearchParams }} props */
export function TrafficPage({ search }) {
  const filter = Object.fromEntries(
    FILTERS.flatMap((name) => (search.get(name) ? [[name, search.get(name) ?? ""]] : [])),
  );
  const { list, more, isLive } = useFlows(filter);
  const { data, error } = list;
  const asked = query(filter);
  return html`<main class="page">
    <div class="page-head">
      <h1>Traffic</h1>
      <div class="traffic-state">
        <${RulesWaiting} />
        ${asked !== "" && html`<a class="button quiet small" href="/traffic">Clear</a>`}
        <a class="button small" download title="What fits the filter, as an HTTP archive"
          href=${`/api/v1/flows/export${query({ ...filter, format: "har" })}`}><${Icon}
          name="download" />HAR</a>
        <span class="completeness"><${Completeness} /></span>
        <span class=${`live ${isLive ? "live" : "connecting"}`} role="status"><span
          class="dot"></span><span class="live-text">${isLive ? "As it is recorded" : "Connecting"}</span></span>
      </div>
    </div>
    <${Filters} filter=${filter} />
    ${error !== null && html`<${Failure} error=${error} onRetry=${list.reload} />`}
    <${FlowStrip} flows=${data?.flows ?? []} />
    ${data === null && error === null && html`<${Skeleton} lines=${8} label="Loading flows" />`}
    ${data !== null && html`<${Rows} data=${data} filter=${filter} more=${more} />`}
  </main>`;
}

/** Whether all that was recorded arrived; nothing where the server does not say. */
function Completeness() {
  const { data } = useLoad((signal) => getJson("/traffic/sources", signal), []);
  const sources = /** @type {TrafficSource[]} */ (data?.sources ?? []);
  if (sources.length === 0) return null;
  const missing = sources.flatMap((source) => source.missing);
  const count = missing.reduce((sum, [first, last]) => sum + last - first + 1, 0);
  const rejected = sources.reduce((sum, source) => sum + source.rejected_count, 0);
  if (count + rejected === 0) {
    return html`<span class="verdict passed" title="autocode traffic doctor"><${Icon}
      name="check" />complete</span>`;
  }
  const waits = sources.reduce((sum, { spooled_bytes: bytes }) => sum + bytes, 0) > 0;
  const said =
    waits && rejected === 0
      ? `${formatCount(count)} on their way`
      : `${formatCount(count + rejected)} missing`;
  return html`<a class=${`verdict ${waits && rejected === 0 ? "error" : "failed"}`} href="/doctor"
    title="autocode traffic doctor"><${Icon} name="bang" />${said}</a>`;
}

/** @param {{ filter: Record<string, string> }} props */
function Filters({ filter }) {
  const projects = useLoad((signal) => getJson("/projects", signal), []);
  const [typed, setTyped] = useState(/** @type {Record<string, string>} */ (filter));
  const timer = useRef(/** @type {ReturnType<typeof setTimeout> | undefined} */ (undefined));
  const address = query(filter);
  useEffect(() => setTyped(filter), [address]);
  useEffect(() => () => clearTimeout(timer.current), []);
  const go = (/** @type {Record<string, string>} */ next) => {
    clearTimeout(timer.current);
    navigate(`/traffic${query(next)}`, { isReplacing: true });
  };
  const choose = (/** @type {string} */ name, /** @type {string} */ value) =>
    go({ ...typed, [name]: value });
  const type = (/** @type {string} */ name, /** @type {string} */ value) => {
    const next = { ...typed, [name]: value };
    setTyped(next);
    clearTimeout(timer.current);
    timer.current = setTimeout(() => go(next), TYPING_MS);
  };
  const field = (
    /** @type {string} */ name,
    /** @type {string} */ title,
    /** @type {string} */ hint,
  ) => html`<label><span>${title}</span>
    <input name=${name} value=${typed[name] ?? ""} placeholder=${hint} autocomplete="off"
      spellcheck="false" onInput=${({ target }) => type(name, target.value.trim())} /></label>`;
  return html`<form class="card traffic-filters" role="search" aria-label="Filter"
    onSubmit=${(/** @type {Event} */ event) => {
      event.preventDefault();
      go(typed);
    }}>
    <label><span>Project</span>
      <select name="project" value=${filter["project"] ?? ""}
        onChange=${({ target }) => choose("project", target.value)}>
        <option value="">All</option>
        ${(projects.data?.projects ?? []).map(
          ({ name }) => html`<option value=${name}>${name}</option>`,
        )}
      </select></label>
    <label><span>Decision</span>
      <select name="action" value=${filter["action"] ?? ""}
        onChange=${({ target }) => choose("action", target.value)}>
        <option value="">All</option>
        ${ACTIONS.map((action) => html`<option value=${action}>${action}</option>`)}
      </select></label>
    ${field("host", "Host", "*.example.org")}
    ${field("status", "Status", "404 or 5xx")}
    ${field("trial_id", "Trial", "trial_…")}
    ${field("text", "Text", "in URL, headers, bodies")}
    <label><span>From</span><input type="datetime-local" step="1" value=${localTime(filter["since"])}
      onChange=${({ target }) => choose("since", wireTime(target.value))} /></label>
    <label><span>Until</span><input type="datetime-local" step="1" value=${localTime(filter["until"])}
      onChange=${({ target }) => choose("until", wireTime(target.value))} /></label>
  </form>`;
}

/** As the input wants it, in the reader's own zone. @param {string | undefined} at */
function localTime(at) {
  const ms = Date.parse(at ?? "");
  if (Number.isNaN(ms)) return "";
  return new Date(ms - new Date(ms).getTimezoneOffset() * 60_000).toISOString().slice(0, 19);
}

/** @param {string} local */
function wireTime(local) {
  const ms = Date.parse(local);
  return Number.isNaN(ms) ? "" : new Date(ms).toISOString();
}

/**
 * @param {{
 *   data: { flows: import("./flow-facts.js").FlowSummary[], cursor: string | null },
 *   filter: Record<string, string>, more: () => Promise<void>,
 * }} props
 */
function Rows({ data: { flows, cursor }, filter, more }) {
  if (flows.length === 0) {
    const isFiltered = Object.keys(filter).length > 0;
    return html`<${Empty} title=${isFiltered ? "No flow fits this filter" : "Nothing was recorded yet"}>
      ${
        isFiltered
          ? html`<p><a href="/traffic">Show all traffic</a></p>`
          : html`<p>What a trial’s worker sends and gets appears here as it passes.</p>`
      }
    <//>`;
  }
  return html`<section class="card" aria-label="Flows">
      <${FlowTable} flows=${flows} caption="Flows, the newest first" />
    </section>
    <${More} cursor=${cursor} more=${more} shown=${flows.length} />`;
}

/** @param {{ cursor: string | null, more: () => Promise<void>, shown: number }} props */
export function More({ cursor, more, shown }) {
  const [isReading, setReading] = useState(false);
  const [error, setError] = useState(/** @type {Error | null} */ (null));
  const read = async () => {
    setReading(true);
    setError(null);
    try {
      await more();
    } catch (caught) {
      setError(/** @type {Error} */ (caught));
    }
    setReading(false);
  };
  if (error) return html`<${Failure} error=${error} onRetry=${read} />`;
  return html`<p class="more">
    ${
      cursor !== null &&
      html`<button type="button" class="button" disabled=${isReading} onClick=${read}>
      ${isReading ? "Loading…" : "Show older flows"}</button>`
    }
    <span class="muted">${formatCount(shown)} shown</span>
  </p>`;
}

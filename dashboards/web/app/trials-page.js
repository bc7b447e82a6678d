/** The live list of trials: `/`, with `?project=` and `?state=`. */
import { html, useCallback, useRef, useState } from "/vendor/htm-preact.js";
import { getJson, query } from "./api.js";
import { ExperimentGroup } from "./experiment-group.js";
import { formatCount } from "./format.js";
import { useLive } from "./live.js";
import { useBatched, useLoad } from "./loading.js";
import { Empty, Failure, Skeleton } from "./parts.js";
import { navigate } from "./router.js";
import { useServerNow } from "./server-clock.js";
import { groupsOf, isActive, STATES, withTrial } from "./trial-facts.js";
import { TrialTable } from "./trial-table.js";

/** @typedef {import("./trial-facts.js").Trial} Trial */
/** @typedef {import("./trial-facts.js").Experiment} Experiment */

const FIRST_COMMAND = `autocode trial run --path ./repository --instruction "…" --test "npm test"`;
const PAGE = 50;
const BATCH_MS = 300;
/** More trials than this changed at once: reading the list again is cheaper. */
const SINGLE_READS = 8;
/** Events after which a trial's row reads differently. */
const ROW_EVENTS = /^(trial\.|call\.|budget\.|verify\.)/;

/** @param {{ search: URLSearchParams }} props */
export function TrialsPage({ search }) {
  const filter = { project: search.get("project") ?? "", state: search.get("state") ?? "" };
  const { list, projects, more } = useTrialList(filter);
  return html`<main class="page">
    <div class="page-head">
      <h1>Trials</h1>
      <${Filters} filter=${filter} projects=${projects} />
    </div>
    ${list.error && html`<${Failure} error=${list.error} onRetry=${list.reload} />`}
    ${
      list.data === null &&
      list.error === null &&
      html`<${Skeleton} lines=${6}
      label="Loading trials" />`
    }
    ${list.data !== null && html`<${Groups} data=${list.data} filter=${filter} more=${more} />`}
  </main>`;
}

/** @param {{ project: string, state: string }} filter */
function useTrialList(filter) {
  const inputs = [filter.project, filter.state];
  const projects = useLoad((signal) => getJson("/projects", signal), []);
  const list = useLoad(async (signal) => {
    const of = { project: filter.project };
    const [page, { experiments }] = await Promise.all([
      getJson(`/trials${query({ limit: PAGE, ...filter })}`, signal),
      getJson(`/experiments${query(of)}`, signal),
    ]);
    return { trials: page.trials, cursor: page.next_cursor, experiments };
  }, inputs);

  const changed = useRef(/** @type {Set<string>} */ (new Set()));
  const readChanged = useBatched(async () => {
    const ids = [...changed.current];
    changed.current.clear();
    if (ids.length > SINGLE_READS) return list.reload();
    // One that cannot be read keeps its row: the next event or the next resync reads it again.
    const read = await Promise.allSettled(ids.map((id) => getJson(`/trials/${id}`)));
    for (const result of read) {
      if (result.status === "fulfilled") {
        list.setData((data) => withTrial(data, result.value, filter));
      }
    }
    const known = new Set(list.data?.experiments.map((experiment) => experiment.id));
    const isOfNew = read.some(
      ({ value }) => value?.experiment_id != null && !known.has(value.experiment_id),
    );
    if (isOfNew) await list.reload();
  }, BATCH_MS);

  useLive(
    (event) => {
      if (!ROW_EVENTS.test(event.type)) return;
      changed.current.add(event.trial_id);
      readChanged();
    },
    () => void list.reload(),
    [list.reload, readChanged],
  );

  const more = useCallback(async () => {
    const cursor = list.data?.cursor;
    const page = await getJson(`/trials${query({ limit: PAGE, before: cursor, ...filter })}`);
    list.setData((data) => ({
      ...data,
      trials: [...data.trials, ...page.trials],
      cursor: page.next_cursor,
    }));
  }, [list.data?.cursor, ...inputs]);
  return { list, projects: projects.data?.projects ?? [], more };
}

/** @param {{ filter: { project: string, state: string }, projects: { name: string }[] }} props */
function Filters({ filter, projects }) {
  const choose = (/** @type {Record<string, string>} */ change) => {
    navigate(`/${query({ ...filter, ...change })}`, { isReplacing: true });
  };
  const isFiltered = filter.project !== "" || filter.state !== "";
  return html`<form class="filters"
    onSubmit=${(/** @type {Event} */ event) => event.preventDefault()}>
    <label>
      <span>Project</span>
      <select name="project" value=${filter.project}
        onChange=${(event) => choose({ project: event.target.value })}>
        <option value="">All projects</option>
        ${projects.map(({ name }) => html`<option value=${name}>${name}</option>`)}
      </select>
    </label>
    <label>
      <span>State</span>
      <select name="state" value=${filter.state}
        onChange=${(event) => choose({ state: event.target.value })}>
        <option value="">All states</option>
        ${STATES.map((state) => html`<option value=${state}>${state}</option>`)}
      </select>
    </label>
    ${isFiltered && html`<a class="button quiet" href="/">Clear</a>`}
  </form>`;
}

/**
 * @param {{
 *   data: { trials: Trial[], experiments: Experiment[], cursor: string | null },
 *   filter: { project: string, state: string },
 *   more: () => Promise<void>,
 * }} props
 */
function Groups({ data, filter, more }) {
  const everything = [...data.trials, ...data.experiments.flatMap(({ trials }) => trials)];
  const nowMs = useServerNow(everything.some(isActive));
  const groups = groupsOf(data.trials, data.experiments, filter.state);
  if (groups.length === 0) return html`<${NoTrials} filter=${filter} />`;
  return html`
    ${groups.map((group) =>
      group.experiment === null
        ? html`<section class="card" key=${group.id} aria-label="Single trials">
            <${TrialTable} trials=${group.trials} nowMs=${nowMs} caption="Single trials" />
          </section>`
        : html`<${ExperimentGroup} key=${group.id} experiment=${group.experiment}
          trials=${group.trials} nowMs=${nowMs} />`,
    )}
    ${data.cursor !== null && html`<${More} more=${more} shown=${data.trials.length} />`}
  `;
}

/** @param {{ more: () => Promise<void>, shown: number }} props */
function More({ more, shown }) {
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
    <button type="button" class="button" disabled=${isReading} onClick=${read}>
      ${isReading ? "Loading…" : "Show older trials"}
    </button>
    <span class="muted">${formatCount(shown)} shown</span>
  </p>`;
}

/** @param {{ filter: { project: string, state: string } }} props */
function NoTrials({ filter }) {
  if (filter.project !== "" || filter.state !== "") {
    return html`<${Empty} title="No trial fits this filter">
      <p><a href="/">Show all trials</a></p>
    <//>`;
  }
  return html`<${Empty} title="No trials yet">
    <p>A trial is one agent’s attempt at one task, under a budget. Start one from a terminal:</p>
    <pre class="command">${FIRST_COMMAND}</pre>
  <//>`;
}

/** What moved in a budget, newest first, with what was available after each line. */
import { html, useCallback, useState } from "/vendor/htm-preact.js";
import { getJson, query } from "./api.js";
import { asWords, formatCount } from "./format.js";
import { useLive } from "./live.js";
import { useBatched, useLoad } from "./loading.js";
import { columnDecimals } from "./money.js";
import { ownerText, shortId } from "./owner-text.js";
import { Empty, Failure, Money, Skeleton, Time } from "./parts.js";

/** @typedef {import("../../../orchestrator/contract/projects.ts").Project} Project */
/** @typedef {import("../../../orchestrator/contract/budgets.ts").Statement} Statement */
/** @typedef {import("../../../orchestrator/contract/budgets.ts").StatementLine} StatementLine */

const PAGE = 50;
/** A transfer's kind in the words of the budget. */
const KINDS = { direct: "moved", pending: "reserved", post: "settled", void: "released" };

/** @param {{ name: string, project: Project }} props `name`: the budget's; `project`: it is of */
export function StatementView({ name, project }) {
  const path = `/budgets/${encodeURIComponent(name)}/statement`;
  const statement = useLoad(
    (signal) => getJson(`${path}${query({ limit: PAGE })}`, signal),
    [path],
  );
  const readAgain = useBatched(() => {
    // A reader who went back in time keeps what is read; the newest lines come with a reload.
    if ((statement.data?.lines.length ?? 0) <= PAGE) void statement.reload();
  }, 1_000);
  useLive(
    (event) => {
      if (/^(call|budget|trial)\./.test(event.type)) readAgain();
    },
    readAgain,
    [path, readAgain],
  );
  const [isReading, setReading] = useState(false);
  const [error, setError] = useState(/** @type {Error | null} */ (null));
  const more = useCallback(async () => {
    setReading(true);
    setError(null);
    try {
      const after = query({ limit: PAGE, before: statement.data?.next_cursor });
      const page = await getJson(`${path}${after}`);
      statement.setData((data) => ({ ...page, lines: [...data.lines, ...page.lines] }));
    } catch (caught) {
      setError(/** @type {Error} */ (caught));
    }
    setReading(false);
  }, [path, statement.data?.next_cursor]);
  const { data } = statement;
  return html`<section aria-label="Statement" class="tab-body">
    ${statement.error && html`<${Failure} error=${statement.error} onRetry=${statement.reload} />`}
    ${
      data === null &&
      statement.error === null &&
      html`<${Skeleton} lines=${6}
      label="Loading the statement" />`
    }
    ${data?.lines.length === 0 && html`<${Empty} title="Nothing has moved yet" />`}
    ${
      data !== null &&
      data.lines.length > 0 &&
      html`<${LineTable} statement=${data} project=${project} />`
    }
    ${error && html`<${Failure} error=${error} onRetry=${more} />`}
    ${
      data !== null &&
      data.next_cursor !== null &&
      html`<p class="more">
        <button type="button" class="button" disabled=${isReading}
          onClick=${more}>${isReading ? "Loading…" : "Show older lines"}</button>
        <span class="muted">${formatCount(data.lines.length)} shown</span>
      </p>`
    }
  </section>`;
}

/** @param {{ statement: Statement, project: Project }} props */
function LineTable({ statement, project }) {
  const { currency } = statement.balance;
  const amounts = statement.lines.map(({ amount_nanos }) => amount_nanos);
  const balances = statement.lines.flatMap(({ available_nanos: left }) => left ?? []);
  // To the same decimals, so that each line's sum can be checked.
  const decimals = columnDecimals([...amounts, ...balances], currency);
  const known = new Set(statement.lines.map(({ transfer_id }) => transfer_id));
  return html`<div class="card"><table class="statement" role="table">
    <caption class="unseen">What moved, newest first, in ${currency}</caption>
    <thead role="rowgroup"><tr role="row">
      <th role="columnheader" scope="col" class="s-at">When</th>
      <th role="columnheader" scope="col" class="s-reason">What for</th>
      <th role="columnheader" scope="col" class="s-kind">Kind</th>
      <th role="columnheader" scope="col" class="s-from">From → to</th>
      <th role="columnheader" scope="col" class="s-amount num">Amount, ${currency}</th>
      <th role="columnheader" scope="col" class="s-after num">Available after</th>
    </tr></thead>
    <tbody role="rowgroup">
      ${statement.lines.map(
        (line) => html`<${Line} key=${line.transfer_id} line=${line} project=${project}
          currency=${currency} decimals=${decimals} known=${known} />`,
      )}
    </tbody>
  </table></div>`;
}

/**
 * @param {{
 *   line: StatementLine, project: Project, currency: string, decimals: number,
 *   known: ReadonlySet<string>,
 * }} props
 */
function Line({ line, project, currency, decimals, known }) {
  const { transfer_id: id, reverses_id: reversed, note, available_nanos: left } = line;
  return html`<tr role="row" id=${id}>
    <td role="cell" class="s-at num"><${Time} at=${line.at} /></td>
    <td role="cell" class="s-reason">
      <span>${asWords(line.reason)}</span>
      ${
        reversed !== null &&
        html` <span class="tag warn">takes back <${TakenBack} id=${reversed}
          isHere=${known.has(reversed)} /></span>`
      }
      ${note !== null && html`<p class="s-note muted">${asWords(note)}</p>`}
    </td>
    <td role="cell" class="s-kind"><span class="tag"
      title=${line.kind}>${KINDS[line.kind] ?? asWords(line.kind)}</span></td>
    <td role="cell" class="s-from"><${Owner} owner=${line.debit} project=${project} /> <span
      class="muted" aria-label="to">→</span> ${
        // What is reserved or settled goes to where spending is kept, which has its project's name.
        line.kind === "direct"
          ? html`<${Owner} owner=${line.credit} project=${project} />`
          : html`<span title=${line.credit}>spending</span>`
      }</td>
    <td role="cell" class="s-amount num"><${Money} nanos=${line.amount_nanos}
      currency=${currency} decimals=${decimals} isBare /></td>
    <td role="cell" class="s-after num muted" data-label="after">${
      left !== null &&
      html`<${Money} nanos=${left} currency=${currency} decimals=${decimals} isBare />`
    }</td>
  </tr>`;
}

/**
 * The line that is taken back: a link where it is shown.
 *
 * @param {{ id: string, isHere: boolean }} props
 */
function TakenBack({ id, isHere }) {
  return isHere ? html`<a href=${`#${id}`}>${shortId(id)}</a>` : shortId(id);
}

/** @param {{ owner: string, project: Project }} props */
function Owner({ owner, project }) {
  const { text, href } = ownerText(owner, project);
  if (href !== null) return html`<a href=${href} title=${owner}>${text}</a>`;
  return html`<span title=${owner}>${text}</span>`;
}

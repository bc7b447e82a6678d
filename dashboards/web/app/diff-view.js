/** What the agent changed: a file a section, folded when it is long. */
import { html, useState } from "/vendor/htm-preact.js";
import { getText } from "./api.js";
import { diffTotals, parseDiff } from "./diff.js";
import { formatCount, visible } from "./format.js";
import { useLoad } from "./loading.js";
import { Empty, Failure, Icon, Notice, Skeleton } from "./parts.js";
import { isActive } from "./trial-facts.js";

/** @typedef {import("./diff.js").DiffFile} DiffFile */

const LINES_OPEN = 400;
/** A file's lines drawn at once: a page of a hundred thousand rows helps nobody. */
const LINES_DRAWN = 2_000;

/** @param {{ trial: import("./trial-facts.js").Trial }} props */
export function DiffView({ trial }) {
  const diff = useLoad(
    (signal) => getText(`/trials/${encodeURIComponent(trial.id)}/diff`, signal),
    [trial.id, isActive(trial)],
  );
  const isMissing = diff.error !== null && "status" in diff.error && diff.error.status === 404;
  if (isMissing && isActive(trial)) {
    return html`<${Empty} title="No diff yet"><p>It is collected when the agent has ended.</p><//>`;
  }
  if (isMissing) return html`<${Empty} title="The agent left no diff" />`;
  if (diff.error) return html`<${Failure} error=${diff.error} onRetry=${diff.reload} />`;
  if (diff.data === null) return html`<${Skeleton} lines=${8} label="Loading the diff" />`;
  const files = parseDiff(diff.data);
  if (files.length === 0) return html`<${Empty} title="The agent changed nothing" />`;
  const { added, removed } = diffTotals(files);
  return html`
    <div class="diff-head">
      <span>${formatCount(files.length)} ${files.length === 1 ? "file" : "files"} changed</span>
      <span class="plus num">+${formatCount(added)}</span>
      <span class="minus num">−${formatCount(removed)}</span>
      <a class="button quiet"
        href=${`/api/v1/trials/${encodeURIComponent(trial.id)}/artefacts/changes.patch`} download>
        <${Icon} name="download" />Patch
      </a>
    </div>
    ${
      trial.flags.includes("tests_modified") &&
      html`<${Notice} tone="warn"><p>This diff edits or deletes test files.</p><//>`
    }
    ${files.map((file) => html`<${File} key=${file.path} file=${file} />`)}
  `;
}

/** @param {{ file: DiffFile }} props */
function File({ file }) {
  const count = file.hunks.reduce((sum, { lines }) => sum + lines.length, 0);
  const [isOpen, setOpen] = useState(count <= LINES_OPEN);
  const slash = file.path.lastIndexOf("/") + 1;
  const folder = visible(file.path.slice(0, slash));
  const name = visible(file.path.slice(slash));
  return html`<details class="card diff-file" open=${isOpen}
    onToggle=${(event) => setOpen(event.currentTarget.open)}>
    <summary>
      <${Icon} name="arrow" />
      <span class="diff-path"><span class="muted">${folder}</span>${name}</span>
      ${file.change !== "changed" && html`<span class="tag">${file.change}</span>`}
      <span class="plus num">+${formatCount(file.added)}</span>
      <span class="minus num">−${formatCount(file.removed)}</span>
    </summary>
    ${
      file.formerPath !== null &&
      html`<p
      class="diff-note muted">from ${visible(file.formerPath)}</p>`
    }
    ${
      file.isBinary &&
      html`<p
      class="diff-note muted">A binary file: download the patch to see it.</p>`
    }
    ${isOpen && file.hunks.length > 0 && html`<${Hunks} file=${file} />`}
  </details>`;
}

/** @param {{ file: DiffFile }} props */
function Hunks({ file }) {
  let room = LINES_DRAWN;
  const rows = file.hunks.flatMap(({ heading, lines }, index) => {
    const drawn = lines.slice(0, Math.max(room, 0));
    room -= lines.length;
    if (drawn.length === 0) return [];
    return [
      html`<tr class="hunk" key=${`h${index}`}><td
        colspan="3">${heading === "" ? "···" : `··· ${visible(heading)}`}</td></tr>`,
      ...drawn.map((line, at) => html`<${Line} key=${`${index}.${at}`} line=${line} />`),
    ];
  });
  return html`<div class="scroll-x" tabindex="0" role="region"
    aria-label=${`Changes of ${file.path}`}>
    <table class="diff"><tbody>${rows}</tbody></table>
    ${
      room < 0 &&
      html`<p
      class="diff-note muted">${formatCount(-room)} more lines: download the patch to see them.</p>`
    }
  </div>`;
}

const SIGNS = { added: "+", removed: "−", same: " ", note: " " };
const SPOKEN = { added: "added", removed: "removed" };

/** @param {{ line: import("./diff.js").DiffLine }} props */
function Line({ line }) {
  return html`<tr class=${line.kind}>
    <td class="ln" data-line=${line.before ?? ""}></td>
    <td class="ln" data-line=${line.after ?? ""}></td>
    <td class="lt"><span class="sign"
      aria-label=${SPOKEN[line.kind]}>${SIGNS[line.kind]}</span>${visible(line.text)}</td>
  </tr>`;
}

/**
 * A recorded body for reading: JSON that folds, events and forms taken apart, bytes in hexadecimal.
 * It is text from anywhere: nothing of it is ever markup, and only so much of it is drawn at once.
 */
import { html, useState } from "/vendor/htm-preact.js";
import { formatBytes, formatCount, visible } from "./format.js";

/** @typedef {import("../../../orchestrator/contract/flows.ts").Body} Body */

const CHARACTERS_DRAWN = 200_000;
const ENTRIES_DRAWN = 100;
const HEX_BYTES = 1_024;
/** Levels that are open at first. */
const LEVELS_OPEN = 2;

/** @param {{ body: Body | null, isWithheld: boolean, byteCount: number }} props */
export function BodyView({ body, isWithheld, byteCount }) {
  const [isRaw, setRaw] = useState(false);
  if (body === null) return html`<p class="muted small">${noBody(isWithheld, byteCount)}</p>`;
  const laidOut = isRaw ? null : layOut(body);
  return html`<div class="body-view">
    <div class="body-head small">
      <span class="muted">${visible(body.media_type ?? "no type")} · ${formatBytes(body.byte_count)}
        ${body.encoding === "base64" && " · not text"}</span>
      ${body.is_truncated && html` <span class="tag warn">recorded in part</span>`}
      <button type="button" class="button quiet small" aria-pressed=${isRaw}
        onClick=${() => setRaw(!isRaw)}>${isRaw ? "Lay out" : "As recorded"}</button>
    </div>
    ${laidOut ?? html`<${Plain} text=${body.content} />`}
  </div>`;
}

/** @param {boolean} isWithheld @param {number} byteCount */
function noBody(isWithheld, byteCount) {
  if (byteCount === 0) return "No body";
  if (isWithheld) return "Bodies need the role operator";
  return `${formatBytes(byteCount)}, not kept: too large, or its retention is over`;
}

/** @param {Body} body */
function layOut({ media_type: type, encoding, content }) {
  if (encoding === "base64") return html`<${Hex} base64=${content} />`;
  const essence = (type ?? "").split(";")[0]?.trim().toLowerCase();
  if (essence === "text/event-stream") return html`<${Events} text=${content} />`;
  if (essence === "application/x-www-form-urlencoded") {
    return html`<dl class="pairs">${[...new URLSearchParams(content)].map(
      ([name, value]) => html`<div><dt>${visible(name)}</dt><dd>${visible(value)}</dd></div>`,
    )}</dl>`;
  }
  const json = parsed(content);
  return json === undefined ? null : html`<${Json} value=${json.value} />`;
}

/** Undefined when it is no JSON, or has numbers that would change. @param {string} text */
function parsed(text) {
  if (!/^\s*[[{]/.test(text) || /\d{16}/.test(text)) return undefined;
  try {
    return { value: /** @type {unknown} */ (JSON.parse(text)) };
  } catch {
    return undefined;
  }
}

/** @param {{ text: string }} props */
function Plain({ text }) {
  const rest = text.length - CHARACTERS_DRAWN;
  const drawn = visible(text.slice(0, CHARACTERS_DRAWN));
  return html`<pre class="code body-text" tabindex="0">${drawn}</pre>
    ${
      rest > 0 &&
      html`<p class="muted small">${formatCount(rest)} more characters: export the flow to read
      them.</p>`
    }`;
}

/** @param {{ value: unknown }} props */
function Json({ value }) {
  return html`<div class="json code" tabindex="0" role="region" aria-label="JSON"><${Value}
    value=${value} level=${0} /></div>`;
}

/** @param {{ value: unknown, level: number }} props */
function Value({ value, level }) {
  if (typeof value !== "object" || value === null) {
    const kind = value === null ? "null" : typeof value;
    return html`<span class=${`json-${kind}`}>${visible(JSON.stringify(value))}</span>`;
  }
  const entries = Array.isArray(value)
    ? value.map((each, index) => /** @type {const} */ ([String(index), each]))
    : Object.entries(value);
  const [open, close] = Array.isArray(value) ? ["[", "]"] : ["{", "}"];
  if (entries.length === 0) return html`<span>${open}${close}</span>`;
  return html`<${Fold} entries=${entries} open=${open} close=${close} level=${level}
    isNamed=${!Array.isArray(value)} />`;
}

/**
 * @param {{
 *   entries: readonly (readonly [string, unknown])[], open: string, close: string, level: number,
 *   isNamed: boolean,
 * }} props
 */
function Fold({ entries, open, close, level, isNamed }) {
  const [isOpen, setOpen] = useState(level < LEVELS_OPEN);
  const [drawn, setDrawn] = useState(ENTRIES_DRAWN);
  const rest = entries.length - drawn;
  const many = `${formatCount(entries.length)} ${entries.length === 1 ? "entry" : "entries"}`;
  return html`<details class="json-fold" open=${isOpen}
    onToggle=${(event) => setOpen(event.currentTarget.open)}>
    <summary>${open}${!isOpen && html`<span class="muted"> ${many} </span>${close}`}</summary>
    ${
      isOpen &&
      html`<ul>
      ${entries
        .slice(0, drawn)
        .map(
          ([name, value]) =>
            html`<li key=${name}>${
              isNamed && html`<span class="json-name">${visible(JSON.stringify(name))}</span>: `
            }<${Value} value=${value} level=${level + 1} /></li>`,
        )}
      ${
        rest > 0 &&
        html`<li><button type="button" class="button quiet small"
        onClick=${() => setDrawn(drawn + ENTRIES_DRAWN * 10)}>
          ${`${formatCount(rest)} more`}</button></li>`
      }
    </ul><span>${close}</span>`
    }
  </details>`;
}

/** Server-sent events. @param {{ text: string }} props */
function Events({ text }) {
  const [drawn, setDrawn] = useState(ENTRIES_DRAWN);
  const events = text.split(/\r\n\r\n|\n\n|\r\r/).filter((event) => event.trim() !== "");
  return html`<ol class="sse">
    ${events
      .slice(0, drawn)
      .map((event, index) => html`<${SseEvent} key=${index} text=${event} />`)}
  </ol>
  ${
    events.length > drawn &&
    html`<button type="button" class="button" onClick=${() => setDrawn(drawn + ENTRIES_DRAWN * 5)}>
      ${formatCount(events.length - drawn)} more events</button>`
  }`;
}

/** @param {{ text: string }} props */
function SseEvent({ text }) {
  const lines = text.split(/\r\n|\r|\n/);
  const of = (/** @type {string} */ field) =>
    lines.flatMap((line) =>
      line.startsWith(`${field}:`) ? [line.slice(field.length + 1).replace(/^ /, "")] : [],
    );
  const data = of("data").join("\n");
  const json = parsed(data);
  return html`<li>
    <span class="tag">${visible(of("event")[0] ?? "message")}</span>
    ${
      json === undefined
        ? html`<pre class="code body-text">${visible(data === "" ? text : data)}</pre>`
        : html`<${Json} value=${json.value} />`
    }
  </li>`;
}

/** @param {{ base64: string }} props */
function Hex({ base64 }) {
  const bytes = Uint8Array.from(atob(base64.slice(0, Math.ceil(HEX_BYTES / 3) * 4)), (character) =>
    character.charCodeAt(0),
  );
  const rows = [];
  for (let at = 0; at < bytes.length; at += 16) {
    const row = [...bytes.subarray(at, at + 16)];
    const hex = row.map((byte) => byte.toString(16).padStart(2, "0")).join(" ");
    const text = row
      .map((byte) => (byte > 31 && byte < 127 ? String.fromCharCode(byte) : "."))
      .join("");
    rows.push(`${at.toString(16).padStart(6, "0")}  ${hex.padEnd(47)}  ${text}`);
  }
  const whole = Math.floor((base64.replace(/=+$/, "").length * 3) / 4);
  const rest = whole - bytes.length;
  return html`<pre class="code body-text hex" tabindex="0">${rows.join("\n")}</pre>
    ${rest > 0 && html`<p class="muted small">${formatBytes(rest)} more</p>`}`;
}

/** Numbers, times and names as people read them. Pure: the time now is an argument. */

const WHOLE = new Intl.NumberFormat("en");

/** @param {number} count */
export function formatCount(count) {
  return WHOLE.format(count);
}

/**
 * All input of a usage, cached or not: what the model was shown.
 *
 * @param {{ input_tokens: number, cache_read_tokens: number, cache_write_tokens: number }} usage
 */
export function inputTokens(usage) {
  return usage.input_tokens + usage.cache_read_tokens + usage.cache_write_tokens;
}

/** "830 ms", "12.4 s", "3 m 07 s", "2 h 05 m". @param {number} ms */
export function formatDuration(ms) {
  if (ms < 1_000) return `${Math.max(0, Math.round(ms))} ms`;
  if (ms < 60_000) return `${(Math.floor(ms / 100) / 10).toFixed(1)} s`;
  const seconds = Math.floor(ms / 1_000);
  if (seconds < 3_600) return `${Math.floor(seconds / 60)} m ${padded(seconds % 60)} s`;
  return `${Math.floor(seconds / 3_600)} h ${padded(Math.floor((seconds % 3_600) / 60))} m`;
}

/** Time since a start, as on a stopwatch: "0:03.4", "1:02:03". @param {number} ms */
export function formatOffset(ms) {
  const sign = ms < 0 ? "-" : "";
  const tenths = Math.floor(Math.abs(ms) / 100);
  const seconds = Math.floor(tenths / 10);
  const minutes = Math.floor(seconds / 60);
  if (minutes < 60) return `${sign}${minutes}:${padded(seconds % 60)}.${tenths % 10}`;
  return `${sign}${Math.floor(minutes / 60)}:${padded(minutes % 60)}:${padded(seconds % 60)}`;
}

/** "just now", "5 m ago", "3 h ago", "2 d ago". @param {string} at @param {number} nowMs */
export function formatAgo(at, nowMs) {
  const seconds = Math.floor((nowMs - Date.parse(at)) / 1_000);
  if (seconds < 45) return "just now";
  if (seconds < 3_600) return `${Math.max(1, Math.round(seconds / 60))} m ago`;
  if (seconds < 86_400) return `${Math.round(seconds / 3_600)} h ago`;
  return `${Math.round(seconds / 86_400)} d ago`;
}

/** A moment in the reader's own zone: "2026-11-21, 11:49:19". @param {string} at */
export function formatMoment(at) {
  return new Intl.DateTimeFormat("en-CA", {
    year: "numeric",
    month: "2-digit",
    day: "2-digit",
    hour: "2-digit",
    minute: "2-digit",
    second: "2-digit",
    hourCycle: "h23",
  }).format(Date.parse(at));
}

/** "512 B", "1.4 kB", "3.2 MB". @param {number} count */
export function formatBytes(count) {
  if (count < 1_000) return `${count} B`;
  const units = ["kB", "MB", "GB", "TB"];
  let scaled = count;
  let unit = "B";
  for (const next of units) {
    if (scaled < 1_000) break;
    scaled /= 1_000;
    unit = next;
  }
  return `${scaled.toFixed(scaled < 10 ? 1 : 0)} ${unit}`;
}

/** "tests_modified" → "tests modified"; what is no such word stays. @param {string} word */
export function asWords(word) {
  return /^[a-z0-9]+([_.][a-z0-9]+)*$/.test(word) ? word.replaceAll(/[_.]/g, " ") : visible(word);
}

const ESC = String.fromCharCode(27);
const COLOURS = new RegExp(`${ESC}\\[[0-9;:]*m`, "g");
/** What makes text read in another order than it is written. */
const REORDERING = /[\u202a-\u202e\u2066-\u2069]/g;

/**
 * Text from an agent or a repository as a page may show it: a terminal's colours left out, other
 * control characters and changes of direction made visible. Only the player gets escape codes.
 *
 * @param {string} text
 */
export function visible(text) {
  return text
    .replaceAll("\r\n", "\n")
    .replaceAll(COLOURS, "")
    .replaceAll(/\p{Cc}/gu, pictureOf)
    .replaceAll(
      REORDERING,
      (mark) => `\u27e8U+${mark.charCodeAt(0).toString(16).toUpperCase()}\u27e9`,
    );
}

/** @param {string} control */
function pictureOf(control) {
  if (control === "\n" || control === "\t") return control;
  const code = control.charCodeAt(0);
  return code < 32 ? String.fromCharCode(0x2400 + code) : "\ufffd";
}

/**
 * Any value of an event's data as text: it comes from agents and is never trusted to be of a type.
 *
 * @param {unknown} value
 * @returns {string}
 */
export function asText(value) {
  if (typeof value === "string") return visible(value);
  if (value === undefined || value === null) return "";
  if (typeof value === "number" || typeof value === "boolean") return String(value);
  return visible(JSON.stringify(value, null, 2));
}

/** @param {number} number */
function padded(number) {
  return String(number).padStart(2, "0");
}

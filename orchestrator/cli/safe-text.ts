/**
 * Text that came from a server or an agent, made safe for a terminal: control characters and
 * escape sequences move cursors, set titles and write clipboards, so they do not get through.
 */

const ESC = "\\u001b";
/** CSI, then OSC/DCS/APC/PM/SOS up to their end, then any other two-character escape. */
const SEQUENCES = new RegExp(
  `(?:${ESC}\\[|\\u009b)[0-?]*[ -/]*[@-~]?` +
    `|(?:${ESC}[\\]PX^_]|[\\u009d\\u0090\\u0098\\u009e\\u009f])[^\\u0007${ESC}\\u009c]*` +
    `(?:\\u0007|${ESC}\\\\|\\u009c)?` +
    `|${ESC}[ -/]*[0-~]?`,
  "g",
);
const COLOUR = new RegExp(`^${ESC}\\[[0-9;:]*m$`);
/** C0 but tab and newline, DEL, C1; and what reorders a line (bidirectional controls). */
const C0 = "\\u0000-\\u0008\\u000b-\\u001f";
const C1 = "\\u007f-\\u009f";
const BIDIRECTIONAL = "\\u202a-\\u202e\\u2066-\\u2069";
const HELD_LENGTH_MAX = 65_536;
const CONTROLS = new RegExp(`[${C0}${C1}${BIDIRECTIONAL}]`, "g");

/** Plain text: no escape sequence and no control character but tab and newline. */
export function safeText(text: string): string {
  return text.replace(SEQUENCES, "").replace(CONTROLS, "");
}

/** One line of plain text. */
export function safeLine(text: string): string {
  return safeText(text)
    .replace(/[\t\n]+/g, " ")
    .trim();
}

/** Bytes of text as they come, a line or more at a time: no sequence is cut in two and got past. */
export async function* safeLines(bytes: AsyncIterable<Uint8Array>): AsyncGenerator<string> {
  const decoder = new TextDecoder();
  let held = "";
  for await (const chunk of bytes) {
    held += decoder.decode(chunk, { stream: true });
    const end = held.lastIndexOf("\n") + 1;
    if (end === 0 && held.length < HELD_LENGTH_MAX) continue;
    // A line without an end goes out in pieces, each safe by itself: controls are taken out of all.
    const ready = end === 0 ? held : held.slice(0, end);
    held = held.slice(ready.length);
    yield eachLine(ready);
  }
  yield eachLine(held + decoder.decode());
}

/** A sequence without an end takes its own line along, and no more. */
function eachLine(text: string): string {
  return text.split("\n").map(safeText).join("\n");
}

/** A recorded terminal's output with its colours, and nothing else of its escape sequences. */
export function safeTerminal(text: string): string {
  const kept: string[] = [];
  const marked = text.replaceAll("\u0001", "").replace(SEQUENCES, (sequence) => {
    if (!COLOUR.test(sequence)) return "";
    kept.push(sequence);
    return "\u0001";
  });
  let next = 0;
  return marked
    .split("\u0001")
    .map((part) => part.replace(/\r\n/g, "\n").replace(CONTROLS, ""))
    .reduce((joined, part) => joined + (kept[next++] ?? "") + part);
}

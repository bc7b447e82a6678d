/**
 * Puts the replay's folders into a recorded answer, in place of the recorded allocation's. Pure.
 *
 * A stream brings a text in pieces, and a folder's name may be cut anywhere: pieces that go on with
 * one another are the strings at one place of events of one kind, and are looked at together. Each
 * event stays, with the same pieces but for what was renamed.
 */

interface Piece {
  text: string;
  readonly write: (text: string) => void;
}

type Json = { [key: string]: unknown } | unknown[];

export function renamed(
  text: string,
  folders: ReadonlyMap<string, string>,
  isStream: boolean,
): string {
  if (![...folders.keys()].some((folder) => mayHold(text, folder, isStream))) return text;
  if (!isStream) return replaceAll(text, folders);
  const lines = text.split("\n").map(readLine);
  const places = new Map<string, Piece[]>();
  for (const { event } of lines) {
    if (event !== null) collect(event, kindOf(event), places);
  }
  const before = lines.map(({ event }) => (event === null ? "" : JSON.stringify(event)));
  for (const pieces of places.values()) {
    for (const [old, now] of folders) renameIn(pieces, old, now);
  }
  return lines
    .map(({ event, line, end }, index) => {
      const data = event === null ? "" : JSON.stringify(event);
      return data === before[index] ? line : `data: ${data}${end}`;
    })
    .join("\n");
}

/** In a stream it may be in pieces, so that only its absence in JSON says nothing. */
function mayHold(text: string, folder: string, isStream: boolean): boolean {
  return isStream || text.includes(folder);
}

function replaceAll(text: string, folders: ReadonlyMap<string, string>): string {
  let replaced = text;
  for (const [before, after] of folders) replaced = replaced.replaceAll(before, () => after);
  return replaced;
}

function readLine(line: string): { line: string; event: Json | null; end: string } {
  const data = /^data:\s?(.*?)(\r?)$/.exec(line);
  const parsed = data?.[1] === undefined ? null : parseJson(data[1]);
  const isTree = typeof parsed === "object" && parsed !== null;
  return { line, event: isTree ? (parsed as Json) : null, end: data?.[2] ?? "" };
}

/** What tells the texts of a stream apart: which block, which item, which choice. */
const NAMES = ["type", "index", "item_id", "output_index", "content_index"] as const;

function kindOf(value: Json): string {
  if (Array.isArray(value)) return "";
  const named = NAMES.flatMap((name) => (value[name] === undefined ? [] : [String(value[name])]));
  return `(${named.join(" ")})`;
}

function collect(value: Json, place: string, places: Map<string, Piece[]>): void {
  const holder = value as Record<string, unknown>;
  for (const [key, each] of Object.entries(holder)) {
    if (typeof each === "string") {
      const at = `${place}.${key}`;
      const pieces = places.get(at) ?? [];
      pieces.push({
        text: each,
        write: (text) => {
          holder[key] = text;
        },
      });
      places.set(at, pieces);
    } else if (typeof each === "object" && each !== null) {
      collect(each as Json, `${place}.${key}${kindOf(each as Json)}`, places);
    }
  }
}

/** The name goes into the piece in which it began; the rest of it leaves the pieces after that. */
function renameIn(pieces: readonly Piece[], before: string, after: string): void {
  const joined = pieces.map(({ text }) => text).join("");
  const starts: number[] = [];
  for (let at = joined.indexOf(before); at >= 0; at = joined.indexOf(before, at + before.length)) {
    starts.push(at);
  }
  if (starts.length === 0) return;
  let offset = 0;
  for (const piece of pieces) {
    const [from, to] = [offset, offset + piece.text.length];
    offset = to;
    let text = "";
    let at = from;
    for (const start of starts) {
      const end = start + before.length;
      if (end <= from || start >= to) continue;
      if (start > at) text += joined.slice(at, start);
      if (start >= from) text += after;
      at = Math.min(end, to);
    }
    text += joined.slice(at, to);
    if (text === piece.text) continue;
    piece.text = text;
    piece.write(text);
  }
}

function parseJson(text: string): unknown {
  try {
    return JSON.parse(text) as unknown;
  } catch {
    return null;
  }
}

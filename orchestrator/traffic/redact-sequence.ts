/**
 * Secrets that are cut up over the events of a stream, or the messages of a socket: a model writes
 * a token a few characters an event. What stands at one place of each event (a path in its JSON) is
 * joined over them, looked at, and put back: the first piece says what it was, the others are
 * empty.
 */
import type { Found } from "./secret-fields.ts";

interface Leaf {
  /** Which of the texts it is of. */
  readonly at: number;
  readonly value: string;
  set(value: string): void;
}

const DEPTH_MAX = 12;
const LEAVES_MAX = 200_000;

/** @param find what is a secret in a joined text; `onFound` is called for each that was cut up. */
export function redactSequence(
  texts: readonly string[],
  find: (joined: string) => readonly Found[],
  onFound: () => void,
): string[] {
  if (texts.length < 2) return [...texts];
  const parsed = texts.map(parse);
  const leaves = new Map<string, Leaf[]>();
  const changed = new Set<number>();
  let leafCount = 0;
  for (const [at, holder] of parsed.entries()) collect(holder, "value", "", at, 0);
  for (const pieces of leaves.values()) redactPieces(pieces, find, onFound);
  return texts.map((text, at) => {
    if (!changed.has(at)) return text;
    const value = parsed[at]?.["value"];
    return typeof value === "string" ? value : JSON.stringify(value);
  });

  function collect(
    holder: Record<string, unknown>,
    key: string,
    path: string,
    at: number,
    depth: number,
  ): void {
    const value = holder[key];
    if (typeof value === "string") {
      if (value === "" || leafCount++ > LEAVES_MAX) return;
      const leaf: Leaf = {
        at,
        value,
        set: (next) => {
          holder[key] = next;
          changed.add(at);
        },
      };
      const there = leaves.get(path);
      if (there === undefined) leaves.set(path, [leaf]);
      else there.push(leaf);
    } else if (typeof value === "object" && value !== null && depth < DEPTH_MAX) {
      const inner = value as Record<string, unknown>;
      for (const name in inner) collect(inner, name, `${path}.${name}`, at, depth + 1);
    }
  }
}

/** The texts of a stream's `data` lines are a sequence. */
export function redactEvents(
  body: string,
  sequence: (texts: readonly string[]) => string[],
): string {
  const lines = body.split("\n");
  const places: number[] = [];
  const texts: string[] = [];
  for (const [at, line] of lines.entries()) {
    if (!line.startsWith("data:")) continue;
    places.push(at);
    texts.push(line.slice(line[5] === " " ? 6 : 5).replace(/\r$/, ""));
  }
  let isChanged = false;
  for (const [at, text] of sequence(texts).entries()) {
    if (text === texts[at]) continue;
    const place = places[at] as number;
    lines[place] = `data: ${text}${lines[place]?.endsWith("\r") ? "\r" : ""}`;
    isChanged = true;
  }
  return isChanged ? lines.join("\n") : body;
}

/** What is no JSON is a piece as it is. */
function parse(text: string): Record<string, unknown> {
  if (text.startsWith("{") || text.startsWith("[")) {
    try {
      return { value: JSON.parse(text) };
    } catch {
      return { value: text };
    }
  }
  return { value: text };
}

function redactPieces(
  pieces: readonly Leaf[],
  find: (joined: string) => readonly Found[],
  onFound: () => void,
): void {
  const first = pieces[0]?.value;
  if (pieces.length < 2 || pieces.every(({ value }) => value === first)) return;
  const joined = pieces.map(({ value }) => value).join("");
  const starts: number[] = [];
  let length = 0;
  for (const { value } of pieces) {
    starts.push(length);
    length += value.length;
  }
  const next = pieces.map(({ value }) => value);
  let piece = 0;
  // From the last to the first, so that places in what is before it stay as they are.
  for (const { start, end, kind } of [...find(joined)].reverse()) {
    piece = lastAtOrBefore(starts, end - 1);
    if ((starts[piece] ?? 0) <= start) continue;
    onFound();
    for (
      ;
      piece >= 0 && (starts[piece] ?? 0) + (pieces[piece]?.value.length ?? 0) > start;
      piece--
    ) {
      const from = starts[piece] ?? 0;
      const value = next[piece] ?? "";
      const head = value.slice(0, Math.max(0, start - from));
      const tail = value.slice(Math.min(value.length, Math.max(0, end - from)));
      next[piece] = from <= start ? `${head}[redacted:${kind}]${tail}` : tail;
    }
  }
  for (const [at, value] of next.entries()) {
    if (value !== pieces[at]?.value) pieces[at]?.set(value);
  }
}

/** The greatest index whose start is at or before `position`. */
function lastAtOrBefore(starts: readonly number[], position: number): number {
  let low = 0;
  let high = starts.length - 1;
  while (low < high) {
    const middle = Math.ceil((low + high) / 2);
    if ((starts[middle] ?? 0) <= position) low = middle;
    else high = middle - 1;
  }
  return low;
}

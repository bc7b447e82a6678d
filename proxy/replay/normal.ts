/**
 * What two runs of one agent on one task say differently though they do the same. A request of a
 * replay is the recorded one when both are equal once this is taken out; pure.
 *
 * Taken out, and why:
 * - the allocation's folder, which is the work tree's, HOME's and the temporary files': each
 *   allocation has its own; what stood there is kept, so that a recorded answer can name the
 *   replay's files;
 * - our ids (`trial_…`), UUIDs, and hashes of 32 hexadecimal digits and more: sessions, devices,
 *   commits of a moment;
 * - dates and times of day, times in seconds or milliseconds since 1970, and how long things took:
 *   test runners and CLIs print them;
 * - what is left of money and time, which the instruction and the allowance's tool state;
 * - ports of this machine, and numbers of processes;
 * - the order of an object's keys, which Codex draws anew each time;
 * - the order of the results of tools that ran at the same time, and with it where a client marks
 *   the end of what may be cached.
 *
 * Everything else counts: another word of the instruction is another request.
 */

export interface Normal {
  /** JSON; equal for two requests that ask for the same. */
  readonly text: string;
  /** The folders of allocations that stood in it, in the order they came first. */
  readonly folders: readonly string[];
}

const ID = "[0-7][0-9a-hjkmnp-tv-z]{25}";
const UUID = "[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}";
/** A scheduler names an allocation's folder by our id, or by its own UUID. */
const FOLDER = new RegExp(
  `/(?:[^\\s/"'\`\\\\<>:|,;()]+/)*(?:allocation_${ID}|${UUID})(?![0-9A-Za-z_-])`,
  "g",
);
const MONTH = "(?:Jan|Feb|Mar|Apr|May|Jun|Jul|Aug|Sep|Oct|Nov|Dec)[a-z]*";
const DAY = "(?:Mon|Tue|Wed|Thu|Fri|Sat|Sun)[a-z]*";

const REPLACED: readonly (readonly [RegExp, string])[] = [
  // A folder's name with its slashes made to dashes, as some CLIs name their own after it.
  [new RegExp(`[A-Za-z0-9-]*allocation[-_]${ID}`, "g"), "<allocation>"],
  [new RegExp(`\\b[a-z]{2,16}_${ID}\\b`, "g"), "<id>"],
  [new RegExp(`(?<![0-9a-f])${UUID}(?![0-9a-f])`, "gi"), "<uuid>"],
  [/(?<![0-9a-z])[0-9a-f]{32,}(?![0-9a-z])/gi, "<hash>"],
  [
    /\b\d{4}-\d{2}-\d{2}(?:[T ]\d{2}:\d{2}(?::\d{2}(?:\.\d+)?)?)?(?: ?(?:Z|[+-]\d{2}:?\d{2}))?/g,
    "<time>",
  ],
  [
    new RegExp(
      `\\b${DAY},? (?:\\d{1,2} )?${MONTH}(?: \\d{1,2})?,? (?:\\d{2}:\\d{2}:\\d{2} )?\\d{4}`,
      "g",
    ),
    "<time>",
  ],
  [new RegExp(`\\b${MONTH} \\d{1,2}, \\d{4}\\b`, "g"), "<time>"],
  [
    /\b\d{1,2}:\d{2}:\d{2}(?:\.\d+)?(?: ?[AP]M)?(?: (?:GMT|UTC)(?:[+-]\d{2}:?\d{2})?(?: \([^)]*\))?)?/g,
    "<time>",
  ],
  [/\b1[5-9]\d{8}(?:\d{3})?(?:\.\d+)?\b/g, "<time>"],
  [
    /("?(?:duration|elapsed|time)(?:_?ms|_?seconds|_?s)?"?\s*[:=]?\s*)\d+(?:\.\d+)?/gi,
    "$1<duration>",
  ],
  [/\b\d+ hours? \d+ minutes?\b/g, "<duration>"],
  [/\b\d+(?:\.\d+)?\s?(?:ms|µs|us|ns|s|secs?|seconds?|minutes?)\b/g, "<duration>"],
  [/\b\d+\.\d{4} [A-Z]{3}\b/g, "<money>"],
  [/("(?:limit_nanos|available_nanos|tokens_left)"\s*:\s*)"\d+"/g, "$1<money>"],
  [/("(?:percent_used|seconds_left)"\s*:\s*)\d+/g, "$1<money>"],
  [/\b\d+ % is used/g, "<money> % is used"],
  [/\b(127\.0\.0\.1|localhost|\[::1\]):\d{2,5}\b/g, "$1:<port>"],
  // Of Codex' shell tool.
  [/\bChunk ID: [0-9a-f]+/g, "Chunk ID: <id>"],
  [/\bOriginal token count: \d+/g, "Original token count: <count>"],
  [/\b(pid|process(?: id)?)([ :=#]+)\d+/gi, "$1$2<pid>"],
];

/** A body of a request; JSON where it is. */
export function normalise(body: string): Normal {
  const folders: string[] = [];
  const parsed = parseJson(body);
  const value = parsed === undefined ? normalText(body, folders) : walk(parsed, folders);
  // What is found in a text keeps the whole of it in memory, until it is written anew.
  return { text: JSON.stringify(value), folders: JSON.parse(JSON.stringify(folders)) as string[] };
}

/** A path with its query. */
export function normalisePath(path: string): string {
  return normalText(path, []);
}

/** Where two bodies differ first: what stands there in each. Null when they are equal. */
export function differenceOf(
  expected: Normal,
  asked: Normal,
): { where: string; expected: string; asked: string } | null {
  return compare(JSON.parse(expected.text), JSON.parse(asked.text), "");
}

function walk(value: unknown, folders: string[]): unknown {
  if (typeof value === "string") return normalText(value, folders);
  // Of numbers only times, which no two runs have in common.
  if (typeof value === "number") return isTime(value) ? "<time>" : value;
  if (Array.isArray(value)) return inOrder(value).map((each) => walk(each, folders));
  if (!isTree(value)) return value;
  const kept = Object.entries(value)
    .filter(([key]) => key !== "cache_control")
    .toSorted(([first], [second]) => (first < second ? -1 : 1));
  return Object.fromEntries(kept.map(([key, each]) => [key, walk(each, folders)]));
}

/** Neighbouring results of tools by the ids of their calls, whichever ended first. */
function inOrder(list: readonly unknown[]): unknown[] {
  const ordered: unknown[] = [];
  let results: [string, unknown][] = [];
  const flush = () => {
    ordered.push(...results.toSorted(([a], [b]) => (a < b ? -1 : 1)).map(([, each]) => each));
    results = [];
  };
  for (const each of list) {
    const id = resultOf(each);
    if (id !== null) {
      results.push([id, each]);
      continue;
    }
    flush();
    ordered.push(each);
  }
  flush();
  return ordered;
}

/** The id of the tool call that it is the result of, in any dialect; null for what is none. */
function resultOf(value: unknown): string | null {
  if (!isTree(value)) return null;
  const { type, role, tool_use_id, tool_call_id, call_id } = value;
  const isOutput = typeof type === "string" && type.endsWith("_output");
  const id =
    type === "tool_result"
      ? tool_use_id
      : role === "tool"
        ? tool_call_id
        : isOutput
          ? call_id
          : null;
  return typeof id === "string" ? id : null;
}

function isTime(value: number): boolean {
  return (value > 1.5e9 && value < 2e9) || (value > 1.5e12 && value < 2e12);
}

function normalText(text: string, folders: string[]): string {
  let normal = text.replace(FOLDER, (folder) => {
    if (!folders.includes(folder)) folders.push(folder);
    return "<folder>";
  });
  for (const [pattern, mark] of REPLACED) normal = normal.replace(pattern, mark);
  return normal;
}

type Difference = NonNullable<ReturnType<typeof differenceOf>>;

function compare(expected: unknown, asked: unknown, where: string): Difference | null {
  if (typeof expected === "string" && typeof asked === "string") {
    return expected === asked ? null : { where, ...aroundDifference(expected, asked) };
  }
  if (!isTree(expected) || !isTree(asked) || Array.isArray(expected) !== Array.isArray(asked)) {
    return expected === asked ? null : { where, expected: told(expected), asked: told(asked) };
  }
  const isList = Array.isArray(expected);
  for (const key of new Set([...Object.keys(expected), ...Object.keys(asked)])) {
    const at = isList ? `${where}[${key}]` : where === "" ? key : `${where}.${key}`;
    const found = compare(expected[key], asked[key], at);
    if (found !== null) return found;
  }
  return null;
}

function isTree(value: unknown): value is Record<string, unknown> {
  return typeof value === "object" && value !== null;
}

const SHOWN_BEFORE = 40;
const SHOWN_MAX = 300;

function aroundDifference(expected: string, asked: string): { expected: string; asked: string } {
  let at = 0;
  while (at < expected.length && expected[at] === asked[at]) at++;
  const from = Math.max(0, at - SHOWN_BEFORE);
  const shown = (text: string) => {
    const end = from + SHOWN_MAX;
    return `${from > 0 ? "…" : ""}${text.slice(from, end)}${text.length > end ? "…" : ""}`;
  };
  return { expected: shown(expected), asked: shown(asked) };
}

function told(value: unknown): string {
  if (value === undefined) return "(nothing)";
  const text = JSON.stringify(value);
  return text.length > SHOWN_MAX ? `${text.slice(0, SHOWN_MAX)}…` : text;
}

function parseJson(text: string): unknown {
  try {
    return JSON.parse(text) as unknown;
  } catch {
    return undefined;
  }
}

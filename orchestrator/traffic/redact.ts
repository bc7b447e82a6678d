/**
 * Takes secrets out of what is about to be recorded: what is known, what looks like a token, what
 * is named like a secret; as it is, in base64, in URLs, in JSON, and cut up over the events of a
 * stream. `[redacted:kind]` stands in its place.
 */
import { hash } from "node:crypto";
import { redactEvents, redactSequence } from "./redact-sequence.ts";
import type { Found } from "./secret-fields.ts";
import { type KnownSecrets, knownTexts } from "./secret-forms.ts";
import { isSecretParameter, kindOfHeader } from "./secret-names.ts";
import { createScanner, type KnownText, type Scanner } from "./secret-scan.ts";
import { BASE64_ANY, WORD } from "./token-shapes.ts";

export interface Redactor {
  /** For one record, with the secrets that it alone knows of. */
  begin(secrets: readonly string[]): Redaction;
}

export interface Redaction {
  /** @param isCut more of it came than is kept: what begins at its end counts as a secret. */
  text(text: string, isCut?: boolean): string;
  /** A text that mostly was seen before: a host, a method, a header's name. */
  repeated(text: string): string;
  /** Its value. */
  header(name: string, value: string): string;
  path(path: string, isCut?: boolean): string;
  query(query: string, isCut?: boolean): string;
  /** A body as text; `mediaType` in lower case, without parameters. */
  body(text: string, mediaType: string, isCut: boolean): string;
  /** Texts that follow each other in one direction: a secret may be cut up over them. */
  sequence(texts: readonly string[]): string[];
  /** Pieces that were taken out so far. */
  count(): number;
  /** Characters that were looked at so far. */
  work(): number;
}

const SCANNERS_MAX = 64;
/** Texts that are known to be clean: how many, and how long. */
const CLEAN_MAX = 1_000;
const CLEAN_LENGTH_MAX = 200;
/** Of text in base64: what a token is worth looking for in. */
const ENCODED_LENGTH_MIN = 20;
/** Lines that are as long as this go on in the next one. */
const WRAPPED_LENGTH_MIN = 60;
const HASHED_LENGTH_MIN = 20;
const HASHED_LENGTH_MAX = 200;
/** Of characters that base64 and tokens are made of: shorter runs hold neither. */
const RUN_LENGTH_MIN = Math.min(ENCODED_LENGTH_MIN, HASHED_LENGTH_MIN);
const PARAMETER_LENGTH_MIN = 6;

/** What one scanner is asked, and what it found nothing in. */
interface Search {
  readonly scanner: Scanner;
  readonly clean: Set<string>;
  /** Of headers' names that were asked for. */
  readonly kinds: Map<string, string | null>;
  /** How many hashes there were to compare with. */
  hashCount: number;
}

export function createRedactor(known: KnownSecrets): Redactor {
  const base = knownTexts(known);
  const plain = searchOf(base);
  const searches = new Map<string, Search>();
  return { begin: (secrets) => beginRedaction(searchWith(secrets), known.sha256) };

  /** Records of one session know of the same secrets. */
  function searchWith(secrets: readonly string[]): Search {
    if (secrets.length === 0) return plain;
    const key = JSON.stringify(secrets);
    let search = searches.get(key);
    if (search === undefined) {
      const own = knownTexts({ values: secrets.map((value) => ({ value, kind: "secret" })) });
      search = searchOf([...own, ...base]);
      if (searches.size >= SCANNERS_MAX) searches.clear();
      searches.set(key, search);
    }
    return search;
  }
}

function searchOf(texts: readonly KnownText[]): Search {
  return { scanner: createScanner(texts), clean: new Set(), kinds: new Map(), hashCount: 0 };
}

function beginRedaction(search: Search, sha256: ReadonlySet<string>): Redaction {
  const { scanner, clean, kinds } = search;
  let count = 0;
  let work = 0;
  if (search.hashCount !== sha256.size) {
    search.hashCount = sha256.size;
    clean.clear();
  }
  return {
    text,
    repeated,
    header,
    path: escaped,
    query,
    body,
    sequence,
    count: () => count,
    work: () => work,
  };

  function text(given: string, isCut = false): string {
    return encoded(plain(given, isCut));
  }

  function repeated(given: string): string {
    if (given.length > CLEAN_LENGTH_MAX) return text(given);
    if (clean.has(given)) return given;
    const before = count;
    const result = text(given);
    if (count > before) return result;
    if (clean.size >= CLEAN_MAX) clean.clear();
    clean.add(given);
    return result;
  }

  function plain(given: string, isCut: boolean): string {
    const found = find(given, isCut);
    if (found.length === 0) return given;
    count += found.length;
    return replaced(given, found);
  }

  function find(given: string, isCut: boolean): Found[] {
    const result = scanner.scan(given, isCut);
    work += result.work;
    return result.found;
  }

  function header(name: string, value: string): string {
    const kind = kindOf(name);
    if (kind === null || value === "") return value.includes("?") ? url(value) : repeated(value);
    // What the proxy replaces: it says which secret it was, and is none.
    if (/^(?:[A-Za-z-]+ )?\{\{secret:[a-z0-9_./-]+\}\}$/.test(value)) return value;
    count++;
    const scheme =
      kind === "authorization" ? (/^[A-Za-z-]{1,20} (?=\S)/.exec(value)?.[0] ?? "") : "";
    return `${scheme}[redacted:${kind}]`;
  }

  function kindOf(name: string): string | null {
    const known = kinds.get(name);
    if (known !== undefined) return known;
    const kind = kindOfHeader(name);
    if (kinds.size >= CLEAN_MAX) kinds.clear();
    if (name.length <= CLEAN_LENGTH_MAX) kinds.set(name, kind);
    return kind;
  }

  function url(value: string): string {
    const at = value.indexOf("?");
    return `${text(value.slice(0, at))}?${query(value.slice(at + 1))}`;
  }

  function query(given: string, isCut = false): string {
    const parts = given.split("&");
    return parts.map((part, at) => parameter(part, isCut && at === parts.length - 1)).join("&");
  }

  function parameter(part: string, isCut: boolean): string {
    const at = part.indexOf("=");
    if (at < 0) return escaped(part, isCut);
    const name = unescaped(part.slice(0, at));
    const value = part.slice(at + 1);
    const isSecret = isSecretParameter(name) && value.length >= PARAMETER_LENGTH_MIN;
    if (!isSecret || /^(?:\{\{|%7B%7B)secret/i.test(value)) {
      return `${escaped(part.slice(0, at), false)}=${escaped(value, isCut)}`;
    }
    count++;
    const kind = name
      .toLowerCase()
      .replaceAll(/[^a-z0-9]+/g, "_")
      .slice(-40);
    return `${part.slice(0, at)}=[redacted:${kind}]`;
  }

  /** Text in a URL, where what is escaped may hide a secret. */
  function escaped(value: string, isCut = false): string {
    const once = text(value, isCut);
    if (!value.includes("%")) return once;
    const open = unescaped(once);
    const found = find(open, isCut);
    if (found.length === 0) return once;
    count += found.length;
    return encodeURIComponent(replaced(open, found))
      .replaceAll(/%5Bredacted%3A(\w+)%5D/g, "[redacted:$1]")
      .replaceAll("%2F", "/");
  }

  function body(given: string, mediaType: string, isCut: boolean): string {
    if (mediaType === "application/x-www-form-urlencoded") return query(given, isCut);
    const read = given.includes("\\u00") ? withoutEscapes(given) : given;
    if (mediaType.startsWith("multipart/")) return text(fields(read), isCut);
    if (mediaType !== "text/event-stream") return text(read, isCut);
    return redactEvents(text(read, isCut), sequence);
  }

  /** The fields of a form in parts that are named like secrets. */
  function fields(given: string): string {
    const found: Found[] = [];
    const names = /[; ]name="([^"\r\n]{1,100})"[^\r\n]*\r?\n(?:[^\r\n]{1,200}\r?\n){0,4}\r?\n/g;
    for (let match = names.exec(given); match !== null; match = names.exec(given)) {
      if (!isSecretParameter(match[1] ?? "")) continue;
      const start = names.lastIndex;
      const boundary = given.indexOf("\n--", start);
      const end = boundary < 0 ? given.length : boundary - (given[boundary - 1] === "\r" ? 1 : 0);
      if (end > start) found.push({ start, end, kind: "field" });
      names.lastIndex = Math.max(start, end);
    }
    count += found.length;
    return replaced(given, found);
  }

  function sequence(texts: readonly string[]): string[] {
    return redactSequence(
      texts,
      (joined) => find(joined, false),
      () => count++,
    );
  }

  /** What is in base64 is looked at as what it says. */
  function encoded(given: string): string {
    if (given.length < HASHED_LENGTH_MIN) return given;
    const found: Coded[] = [];
    work += given.length;
    // A run that is long enough has one of each so many characters.
    let last = 0;
    for (let at = RUN_LENGTH_MIN - 1; at < given.length; at = last + RUN_LENGTH_MIN - 1) {
      if (BASE64_ANY[given.charCodeAt(at)] !== 1) {
        last = at + 1;
        continue;
      }
      let start = at;
      while (start > last && BASE64_ANY[given.charCodeAt(start - 1)] === 1) start--;
      last = endOfRun(given, start);
      if (last - start < RUN_LENGTH_MIN) continue;
      if (sha256.size > 0) hashed(given, start, last, found);
      decoded(given, start, last, found);
    }
    if (found.length === 0) return given;
    let text = "";
    let from = 0;
    for (const one of found) {
      if (one.start < from) continue;
      text += given.slice(from, one.start) + one.text;
      from = one.end;
    }
    return text + given.slice(from);
  }

  function decoded(given: string, start: number, end: number, into: Coded[]): void {
    const run = given.slice(start, end);
    // Only long lines go on in the next one.
    const isWrapped = run.length > WRAPPED_LENGTH_MIN && /[\\\n]/.test(run);
    const joined = isWrapped ? run.replaceAll(/\\r|\\n|[\r\n]/g, "") : run;
    const open = Buffer.from(joined, "base64").toString("latin1");
    const found = find(open, false);
    if (found.length === 0) return;
    count += found.length;
    const bytes = Buffer.from(replaced(open, found), "latin1");
    const alphabet = /[-_]/.test(run) ? "base64url" : "base64";
    into.push({ start, end, kind: "encoded", text: bytes.toString(alphabet) });
  }

  /** Words that have the hash of a token that we know no more of. */
  function hashed(given: string, start: number, end: number, into: Coded[]): void {
    for (let at = start; at < end; at++) {
      const from = at;
      while (at < end && WORD[given.charCodeAt(at)] === 1) at++;
      const length = at - from;
      if (length < HASHED_LENGTH_MIN || length > HASHED_LENGTH_MAX) continue;
      if (!sha256.has(hash("sha256", given.slice(from, at), "hex"))) continue;
      count++;
      into.push({ start: from, end: at, kind: "token", text: "[redacted:token]" });
    }
  }
}

type Coded = Found & { readonly text: string };

/** Of base64 in lines, the last line's end. */
function endOfRun(text: string, start: number): number {
  let lineStart = start;
  let end = start;
  for (;;) {
    while (BASE64_ANY[text.charCodeAt(end)] === 1) end++;
    if (end - lineStart < WRAPPED_LENGTH_MIN) return end;
    const next = afterBreak(text, end);
    if (next === end || BASE64_ANY[text.charCodeAt(next)] !== 1) return end;
    lineStart = next;
    end = next;
  }
}

function afterBreak(text: string, at: number): number {
  if (text.startsWith("\\r\\n", at)) return at + 4;
  if (text.startsWith("\\n", at)) return at + 2;
  if (text.startsWith("\r\n", at)) return at + 2;
  return text[at] === "\n" ? at + 1 : at;
}

export function replaced(text: string, found: readonly Found[]): string {
  if (found.length === 0) return text;
  let result = "";
  let from = 0;
  for (const { start, end, kind } of found) {
    result += `${text.slice(from, start)}[redacted:${kind}]`;
    from = end;
  }
  return result + text.slice(from);
}

/** Characters that JSON need not escape, as they are: `\u0067hp_…` says a token all the same. */
function withoutEscapes(text: string): string {
  return text.replaceAll(/\\\\|\\u00([2-7][0-9a-fA-F])/g, (found, code: string | undefined) => {
    const character = code === undefined ? found : String.fromCharCode(Number.parseInt(code, 16));
    return character === '"' || character === "\\" || character === "\x7f" ? found : character;
  });
}

function unescaped(value: string): string {
  try {
    return decodeURIComponent(value.replaceAll("+", " "));
  } catch {
    return value.replaceAll(/%[2-7][0-9a-fA-F]/g, (code) => {
      return String.fromCharCode(Number.parseInt(code.slice(1), 16));
    });
  }
}

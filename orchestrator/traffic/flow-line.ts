/**
 * A record as its line in the spool has it, for stores that keep it as JSON: what is long (headers,
 * bodies) is found in the bytes and goes on as it is, neither read nor written anew.
 *
 * Invariant: of a line that is not as `JSON.stringify` writes a record, nothing is said: it is read
 * whole then, as everybody reads it.
 */
import type { FlowRecord } from "../contract/flows.ts";

/** From and to, in a line's bytes. */
export interface Span {
  readonly start: number;
  readonly end: number;
}

export interface LineBody {
  /** The body's JSON without its content. */
  readonly facts: string;
  readonly encoding: "utf8" | "base64";
  /** The content as JSON escapes it, without its quotes. */
  readonly content: Span;
  /** Of the content, in UTF-8. */
  readonly byteCount: number;
}

export interface LineHeaders {
  /** Their JSON. */
  readonly span: Span;
  /** Of names and values, in UTF-8. */
  readonly byteCount: number;
}

export interface FlowLine {
  /** The whole line, without its end. */
  readonly bytes: Buffer;
  /** The record, with null where headers and bodies are; and the same as JSON. */
  readonly meta: FlowRecord;
  readonly metaJson: string;
  readonly requestHeaders: LineHeaders | null;
  readonly responseHeaders: LineHeaders | null;
  readonly requestBody: LineBody | null;
  readonly responseBody: LineBody | null;
}

const QUOTE = 0x22;
const BACKSLASH = 0x5c;
const COMMA = 0x2c;
const COLON = 0x3a;
const CLOSING = 0x7d;
const OPENING_LIST = 0x5b;
const CLOSING_LIST = 0x5d;
const LETTER_U = 0x75;
/** What a text in JSON does not simply go on with. */
const IS_SPECIAL = Uint8Array.from({ length: 256 }, (_, code) =>
  code < 0x20 || code === QUOTE || code === BACKSLASH ? 1 : 0,
);
/** Brackets and braces, by how they change the depth; their quotes are looked at apart. */
const DEPTH = new Int8Array(256);
for (const code of [0x5b, 0x7b]) DEPTH[code] = 1;
for (const code of [0x5d, 0x7d]) DEPTH[code] = -1;
/** What JSON.stringify escapes by a letter. */
const SHORT_ESCAPES = new Set([...'"\\bfnrt'].map((letter) => letter.charCodeAt(0)));
const CONTROL = /^u00[01][0-9a-f]/;
const HALF_PAIR = /^ud[89a-f][0-9a-f]{2}/;
const PAIR = /^ud[89ab][0-9a-f]{2}\\ud[c-f]/;

/** Null: read it as any JSON. So are the few with messages. */
export function readLine(bytes: Buffer): FlowLine | null {
  try {
    return readOwn(bytes);
  } catch (error) {
    if (error instanceof SyntaxError) return null;
    throw error;
  }
}

export function wholeOf({ bytes }: FlowLine): FlowRecord {
  return JSON.parse(bytes.toString()) as FlowRecord;
}

interface Side {
  /** Of its JSON. */
  readonly end: number;
  readonly headers: LineHeaders | null;
  readonly body: Span | null;
  readonly content: LineBody | null;
}

const NO_SIDE: Side = { end: 0, headers: null, body: null, content: null };

/** Each byte is looked at once. */
function readOwn(bytes: Buffer): FlowLine {
  let request = NO_SIDE;
  let response = NO_SIDE;
  eachMember(bytes, 0, (name, nameEnd, start) => {
    if (!isOpening(bytes, start)) return endOfValue(bytes, start);
    if (isName(bytes, name, nameEnd, "request")) {
      request = readSide(bytes, start);
      return request.end;
    }
    if (isName(bytes, name, nameEnd, "response")) {
      response = readSide(bytes, start);
      return response.end;
    }
    if (isName(bytes, name, nameEnd, "messages")) throw new SyntaxError("messages are read whole");
    return endOfValue(bytes, start);
  });
  const metaJson = without(bytes, [
    ...[request.headers?.span ?? null, request.body],
    ...[response.headers?.span ?? null, response.body],
  ]);
  return {
    bytes,
    meta: JSON.parse(metaJson) as FlowRecord,
    metaJson,
    requestHeaders: request.headers,
    responseHeaders: response.headers,
    requestBody: request.content,
    responseBody: response.content,
  };
}

/** A request or an answer. */
function readSide(bytes: Buffer, from: number): Side {
  let headers: LineHeaders | null = null;
  let body: Span | null = null;
  let content: LineBody | null = null;
  const end = eachMember(bytes, from, (name, nameEnd, start) => {
    if (!isOpening(bytes, start)) return endOfValue(bytes, start);
    if (isName(bytes, name, nameEnd, "body")) {
      const read = readBody(bytes, start);
      content = read.body;
      body = { start, end: read.end };
      return read.end;
    }
    if (!isName(bytes, name, nameEnd, "headers")) return endOfValue(bytes, start);
    headers = readHeaders(bytes, start);
    return headers.span.end;
  });
  return { end, headers, body, content };
}

function readBody(bytes: Buffer, from: number): { body: LineBody; end: number } {
  let nameAt = 0;
  let content: (Span & { byteCount: number }) | null = null;
  const end = eachMember(bytes, from, (name, nameEnd, start) => {
    if (!isName(bytes, name, nameEnd, "content")) return endOfValue(bytes, start);
    nameAt = name;
    content = readContent(bytes, start);
    return content.end + 1;
  });
  // What is assigned in a function that was given away is not seen to be.
  const found = content as (Span & { byteCount: number }) | null;
  if (found === null) throw new SyntaxError("no content");
  const past = found.end + 1;
  const isLast = bytes[past] !== COMMA;
  const head = bytes.toString("utf8", from, nameAt - (isLast ? 1 : 0));
  const facts = head + bytes.toString("utf8", isLast ? past : past + 1, end);
  const { encoding } = JSON.parse(facts) as { encoding?: unknown };
  if (encoding !== "utf8" && encoding !== "base64") throw new SyntaxError("no encoding");
  return { body: { facts, encoding, content: found, byteCount: found.byteCount }, end };
}

/** `visit` is called for each member, and says where its value ends. Returns the object's end. */
function eachMember(
  bytes: Buffer,
  start: number,
  visit: (nameStart: number, nameEnd: number, valueStart: number) => number,
): number {
  for (let at = start; ; ) {
    if (bytes[at + 1] !== QUOTE) throw new SyntaxError("no name");
    const nameEnd = endOfText(bytes, at + 1);
    if (bytes[nameEnd] !== COLON) throw new SyntaxError("no value");
    at = visit(at + 1, nameEnd, nameEnd + 1);
    if (bytes[at] === COMMA) continue;
    if (bytes[at] !== CLOSING) throw new SyntaxError("no end of an object");
    return at + 1;
  }
}

function isName(bytes: Buffer, start: number, end: number, name: string): boolean {
  if (end - start !== name.length + 2 || bytes[start + 1] !== name.charCodeAt(0)) return false;
  return bytes.toString("latin1", start + 1, end - 1) === name;
}

function isOpening(bytes: Buffer, at: number): boolean {
  return DEPTH[bytes[at] ?? 0] === 1;
}

/** The text with null where these are. */
function without(bytes: Buffer, spans: readonly (Span | null)[]): string {
  let text = "";
  let from = 0;
  for (const span of spans.filter((one) => one !== null).sort((a, b) => a.start - b.start)) {
    text += `${bytes.toString("utf8", from, span.start)}null`;
    from = span.end;
  }
  return text + bytes.toString("utf8", from);
}

/** `[["name","value"],…]` */
function readHeaders(bytes: Buffer, start: number): LineHeaders {
  let byteCount = 0;
  let at = start;
  if (bytes[start] === OPENING_LIST && bytes[start + 1] === CLOSING_LIST) {
    return { span: { start, end: start + 2 }, byteCount };
  }
  expect(OPENING_LIST);
  for (;;) {
    expect(OPENING_LIST);
    readOne();
    expect(COMMA);
    readOne();
    expect(CLOSING_LIST);
    if (bytes[at] !== COMMA) break;
    at++;
  }
  expect(CLOSING_LIST);
  return { span: { start, end: at }, byteCount };

  function expect(code: number): void {
    if (bytes[at++] !== code) throw new SyntaxError("no headers");
  }

  function readOne(): void {
    const text = readContent(bytes, at);
    byteCount += text.byteCount;
    at = text.end + 1;
  }
}

function endOfValue(bytes: Buffer, start: number): number {
  const first = bytes[start] ?? 0;
  if (first === QUOTE) return endOfText(bytes, start);
  if (DEPTH[first] !== 1) {
    let end = start;
    while (end < bytes.length && bytes[end] !== COMMA && DEPTH[bytes[end] as number] !== -1) end++;
    return end;
  }
  let depth = 0;
  for (let at = start; at < bytes.length; ) {
    const code = bytes[at] as number;
    if (code === QUOTE) {
      at = endOfText(bytes, at);
      continue;
    }
    depth += DEPTH[code] as number;
    at++;
    if (depth === 0) return at;
  }
  throw new SyntaxError("no end");
}

/** Past the closing quote. */
function endOfText(bytes: Buffer, start: number): number {
  for (let at = start + 1; at < bytes.length; at++) {
    const code = bytes[at] as number;
    if (IS_SPECIAL[code] === 0) continue;
    if (code === QUOTE) return at + 1;
    if (code !== BACKSLASH) throw new SyntaxError("a control character");
    at++;
  }
  throw new SyntaxError("no end of a text");
}

/** What is between the quotes. @throws SyntaxError for what JSON.stringify does not write. */
function readContent(bytes: Buffer, quote: number): Span & { byteCount: number } {
  if (bytes[quote] !== QUOTE) throw new SyntaxError("no text");
  const start = quote + 1;
  let spared = 0;
  let at = start;
  for (;;) {
    while (IS_SPECIAL[bytes[at] ?? QUOTE] === 0) at++;
    if (bytes[at] === QUOTE) return { start, end: at, byteCount: at - start - spared };
    if (bytes[at] !== BACKSLASH) throw new SyntaxError("a control character");
    if (bytes[at + 1] !== LETTER_U) {
      if (!SHORT_ESCAPES.has(bytes[at + 1] as number)) throw new SyntaxError("an escape");
      spared++;
      at += 2;
      continue;
    }
    // Half of a pair, which is U+FFFD in UTF-8; two would be one character.
    const code = bytes.toString("latin1", at + 1, at + 10);
    const isControl = CONTROL.test(code);
    const isHalf = HALF_PAIR.test(code) && !PAIR.test(code);
    if (!isControl && !isHalf) throw new SyntaxError("an escape");
    spared += isControl ? 5 : 3;
    at += 6;
  }
}

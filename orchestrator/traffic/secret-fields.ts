/**
 * What is a secret by what stands before it: the value of a field, a header or a variable with a
 * secret's name, what follows "Bearer", the credentials in a URL, a private key's block.
 *
 * A value that is a placeholder (`${TOKEN}`, `<key>`, `{{secret:…}}`, a type's name) is none.
 */

import { classOfName, type NameClass } from "./secret-names.ts";
import { ALNUM, characterSet, WORD } from "./token-shapes.ts";

/** A piece of text that must go. */
export interface Found {
  readonly start: number;
  readonly end: number;
  readonly kind: string;
}

/** What a look found, and how much it read. */
export interface Look {
  readonly found: Found | null;
  readonly work: number;
}

const NAME_LENGTH_MAX = 60;
const VALUE_LENGTH_MAX = 16_384;
/** What is read of a value that no quote ends, before it is judged: it may be read for nothing. */
const JUDGED_LENGTH_MAX = 128;
const USERINFO_LENGTH_MAX = 1_024;
const PEM_LENGTH_MAX = 32_768;
const BACKSLASH = 0x5c;
const QUOTE = 0x22;
const APOSTROPHE = 0x27;
const COLON = 0x3a;
const EQUALS = 0x3d;
const GREATER = 0x3e;
const AT = 0x40;
const NO_VALUE = /^(?:\[redacted|\{\{|\$|<|%[({]|\*{3}|\.{3}|\u2026|x{3,}$)/i;
const NO_SECRETS = new Set([
  ...["string", "password", "secret", "token", "null", "none", "true", "false", "required"],
  ...["optional", "text", "undefined", "example", "changeme", "bearer", "basic", "apikey"],
]);
const END_OF_BARE = characterSet(" \t\r\n\"'`&,;<>(){}[]|\\");
const BEARER = characterSet(
  "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/_=-.~",
);
const END_OF_AUTHORITY = characterSet(" \t\r\n\"'`<>/?#\\()[]{},;|");
const NOTHING = { found: null, work: 2 } as const;

/** At the last three letters of what may be a secret's name. */
export function matchNamed(text: string, at: number, isCut: boolean): Look {
  const nameEnd = at + 3;
  let cursor = nameEnd;
  // `"name"`, `\"name\"`, 'name', name
  while (text.charCodeAt(cursor) === BACKSLASH && cursor - nameEnd < 8) cursor++;
  const escapes = cursor - nameEnd;
  const closing = text.charCodeAt(cursor);
  const isKey = closing === QUOTE || closing === APOSTROPHE;
  if (isKey) cursor++;
  else if (escapes > 0) return NOTHING;
  cursor = skipBlanks(text, cursor);
  const separator = text.charCodeAt(cursor);
  const isElement = separator === GREATER && cursor === nameEnd;
  if (separator !== COLON && separator !== EQUALS && !isElement) return NOTHING;
  const nameStart = startOfName(text, at);
  const named = classOfName(text.slice(nameStart, nameEnd));
  const work = nameEnd - nameStart + (cursor - nameEnd);
  if (named === null) return { found: null, work };
  if (isElement) return elementText(text, nameStart, cursor + 1, named, work);
  const isTight = cursor === nameEnd;
  cursor = skipBlanks(text, cursor + 1);
  if (named === "credentials" && !isKey) return wholeLine(text, nameStart, cursor, work);
  let level = 0;
  while (text.charCodeAt(cursor + level) === BACKSLASH && level < 8) level++;
  const opening = text.charCodeAt(cursor + level);
  if (opening === QUOTE || opening === APOSTROPHE) {
    const start = cursor + level + 1;
    const value = { start, end: endOfQuoted(text, start, opening, level) };
    return judgeQuoted(text, value, named, isKey, work, isCut);
  }
  if (isKey) return wholeNumber(text, cursor, named, work);
  return bare(text, cursor, named, separator === EQUALS && isTight, work, isCut);
}

function startOfName(text: string, at: number): number {
  let start = at;
  while (at - start < NAME_LENGTH_MAX && (WORD[text.charCodeAt(start - 1)] ?? 0) === 1) start--;
  return start;
}

function skipBlanks(text: string, from: number): number {
  let at = from;
  while (at - from < 16 && (text[at] === " " || text[at] === "\t")) at++;
  return at;
}

/** Where a text in quotes ends that were themselves written with so many backslashes. */
function endOfQuoted(text: string, start: number, quote: number, level: number): number {
  const endMax = Math.min(text.length, start + VALUE_LENGTH_MAX);
  let slashes = 0;
  for (let at = start; at < endMax; at++) {
    const code = text.charCodeAt(at);
    if (code === BACKSLASH) {
      slashes++;
      continue;
    }
    const isClosing = level === 0 ? slashes % 2 === 0 : slashes <= level;
    if (code === quote && isClosing) return at - (level === 0 ? 0 : slashes);
    slashes = 0;
  }
  return endMax;
}

function judgeQuoted(
  text: string,
  { start, end }: { start: number; end: number },
  named: NameClass,
  isKey: boolean,
  before: number,
  isCut: boolean,
): Look {
  const value = text.slice(start, end);
  const work = before + value.length;
  if (value === "" || NO_VALUE.test(value) || NO_SECRETS.has(value.toLowerCase())) {
    return { found: null, work };
  }
  const isAtEnd = isCut && end === text.length;
  const isIt = isAtEnd || isSecretText(value, named, isKey);
  return { found: isIt ? { start, end, kind: named } : null, work };
}

function isSecretText(value: string, named: NameClass, isKey: boolean): boolean {
  if (named === "credentials") return value.length >= 4;
  if (named === "password" && isKey) return true;
  if (/\s/.test(value)) return false;
  if (named === "password") return value.length >= 4;
  if (named === "secret") return value.length >= 6;
  return value.length >= 8 && (value.length >= 20 || /\d/.test(value));
}

/** `<password>…</password>`. */
function elementText(
  text: string,
  nameStart: number,
  start: number,
  named: NameClass,
  before: number,
): Look {
  const opened = text[nameStart - 1];
  if (opened !== "<" && opened !== ":") return { found: null, work: before };
  const endMax = Math.min(text.length, start + JUDGED_LENGTH_MAX);
  let end = start;
  while (end < endMax && text[end] !== "<") end++;
  const isIt = isSecretText(text.slice(start, end), named, true) && end > start;
  while (isIt && end < text.length && text[end] !== "<") end++;
  return { found: isIt ? { start, end, kind: named } : null, work: before + end - start };
}

/** A password may be a number, what is named a token then counts them. */
function wholeNumber(text: string, start: number, named: NameClass, before: number): Look {
  let end = start;
  while (end - start < 40 && text.charCodeAt(end) >= 0x30 && text.charCodeAt(end) <= 0x39) end++;
  const isIt = named === "password" && end - start >= 4;
  return { found: isIt ? { start, end, kind: named } : null, work: before + end - start };
}

/** `NAME=value`, `name: value`: where code and prose are written the same way, so be careful. */
function bare(
  text: string,
  start: number,
  named: NameClass,
  isAssigned: boolean,
  before: number,
  isCut: boolean,
): Look {
  const endMax = Math.min(text.length, start + JUDGED_LENGTH_MAX);
  let end = endOfBare(text, start, endMax);
  const work = before + end - start;
  const value = text.slice(start, end);
  const next = text[end];
  if (NO_VALUE.test(value) || next === "(" || next === "[") return { found: null, work };
  const lengthMin = named === "password" && isAssigned ? 6 : 8;
  const isMixed = /\d/.test(value) && /[A-Za-z]/.test(value);
  const isHead = isCut && end === text.length && value.length > 0;
  if (!isHead && (value.length < lengthMin || !isMixed)) return { found: null, work };
  end = endOfBare(text, end, text.length);
  return { found: { start, end, kind: named }, work: before + end - start };
}

function endOfBare(text: string, from: number, endMax: number): number {
  let end = from;
  while (end < endMax && (END_OF_BARE[text.charCodeAt(end)] ?? 0) === 0) end++;
  return end;
}

/** A header as it is sent, at the beginning of a line or of a quotation. */
function wholeLine(text: string, nameStart: number, start: number, before: number): Look {
  const previous = text[nameStart - 1];
  const isEscaped = previous === "n" && text[nameStart - 2] === "\\";
  const isLine =
    nameStart === 0 || isEscaped || (previous !== undefined && /[\s"'`>]/.test(previous));
  if (!isLine) return { found: null, work: before };
  let end = endOfLine(text, start, Math.min(text.length, start + JUDGED_LENGTH_MAX));
  const value = text.slice(start, end);
  const work = before + value.length;
  const isCode = NO_VALUE.test(value.replace(/^\w+ /, "")) || /^[\w.]+[([]/.test(value);
  const isIt = value.length >= 8 && !isCode && (/\d/.test(value) || value.includes("="));
  if (!isIt) return { found: null, work };
  end = endOfLine(text, end, text.length);
  return { found: { start, end, kind: "credentials" }, work: before + end - start };
}

function endOfLine(text: string, from: number, endMax: number): number {
  let end = from;
  while (end < endMax && !"\r\n\"'`\\".includes(text[end] as string)) end++;
  return end;
}

/** At the end of "Bearer". */
export function matchBearer(text: string, at: number, isCut: boolean): Look {
  if (text.slice(at - 3, at).toLowerCase() !== "bea") return NOTHING;
  let start = at + 3;
  if (text.startsWith("%20", start)) start += 3;
  else if (text[start] === " " || text[start] === "+") start++;
  else return NOTHING;
  let end = start;
  while ((BEARER[text.charCodeAt(end)] ?? 0) === 1) end++;
  const value = text.slice(start, end);
  const isHead = isCut && end === text.length && value.length > 0;
  const isIt = value.length >= 16 && (/\d/.test(value) || value.length >= 32);
  return { found: isHead || isIt ? { start, end, kind: "bearer" } : null, work: value.length + 6 };
}

/** At "://": what stands before the host. */
export function findUserinfo(text: string, at: number, isCut: boolean): Look {
  const isEscaped = text.startsWith(":\\/\\/", at);
  if (!isEscaped && !text.startsWith("://", at)) return NOTHING;
  if ((ALNUM[text.charCodeAt(at - 1)] ?? 0) === 0) return NOTHING;
  const start = at + (isEscaped ? 5 : 3);
  const endMax = Math.min(text.length, start + USERINFO_LENGTH_MAX);
  let colon = -1;
  let sign = -1;
  let end = start;
  for (; end < endMax; end++) {
    const code = text.charCodeAt(end);
    if ((END_OF_AUTHORITY[code] ?? 0) === 1) break;
    if (code === COLON && colon < 0 && sign < 0) colon = end;
    if (code === AT) sign = end;
  }
  const work = end - start + 4;
  if (sign < 0) {
    // "https://user:pass", and the text ends.
    const isHead = isCut && end === text.length && colon > 0 && /\D/.test(text.slice(colon + 1));
    return { found: isHead ? { start: colon + 1, end, kind: "userinfo" } : null, work };
  }
  const from = colon >= 0 && colon < sign ? colon + 1 : start;
  const value = text.slice(from, sign);
  const lengthMin = from === start ? 16 : 1;
  const isIt = value.length >= lengthMin && !NO_VALUE.test(value);
  return { found: isIt ? { start: from, end: sign, kind: "userinfo" } : null, work };
}

/** At "BEGIN" of "-----BEGIN … PRIVATE KEY-----"; without its end, all that may be of it. */
export function findPem(text: string, at: number, _isCut: boolean): Look {
  const head = text.slice(at, at + 64);
  const isPrivate = /^BEGIN[ +%20A-Z0-9]{0,40}PRIVATE[ +%20]{1,3}KEY/.test(head);
  if (!isPrivate || !text.startsWith("-----", at - 5)) return { found: null, work: 64 };
  const start = at - 5;
  const block = text.slice(start, start + PEM_LENGTH_MAX);
  const endAt = block.indexOf("-----END");
  const dashesAt = endAt < 0 ? -1 : block.indexOf("-----", endAt + 8);
  const length = dashesAt < 0 ? block.length : dashesAt + 5;
  return { found: { start, end: start + length, kind: "private_key" }, work: length };
}

/**
 * Finds secrets in text, in one pass: each place where three characters are what a known secret, a
 * token's shape, a secret's name, a URL's credentials or a private key begins with is looked at;
 * all others cost a step.
 *
 * Invariant: the work is linear in the text, whatever the text is: what a look reads is bounded, or
 * is not read again. `work` counts it, so that a test can say so without a clock.
 */
import {
  type Found,
  findPem,
  findUserinfo,
  type Look,
  matchBearer,
  matchNamed,
} from "./secret-fields.ts";
import { NAME_ENDS } from "./secret-names.ts";
import {
  ALNUM,
  type CharacterSet,
  characterSet,
  SHAPES,
  type Shape,
  WORD,
} from "./token-shapes.ts";

export interface ScanResult {
  /** In order, apart from each other. */
  readonly found: Found[];
  /** Characters that were looked at. */
  readonly work: number;
}

export interface KnownText {
  /** As it may be written; at least 6 characters. */
  readonly text: string;
  readonly kind: string;
}

/** Looks at a text where its trigger's first character stands. */
type Matcher = (text: string, at: number, isCut: boolean) => Look;

/** Of a known secret, what is enough to be cut off at the end of what was kept. */
const HEAD_LENGTH_MIN = 6;
const TABLE_SIZE = 1 << 15;
const TABLE_MASK = TABLE_SIZE - 1;
const TRIGGER_LENGTH = 3;

export interface Scanner {
  /** @param isCut the text goes on where it was not kept: what begins at its end counts. */
  scan(text: string, isCut?: boolean): ScanResult;
}

export function createScanner(known: readonly KnownText[]): Scanner {
  const table = new Uint8Array(TABLE_SIZE);
  const matchers = new Map<number, Matcher[]>();
  // What is known is named as what it is, whatever shape it has.
  for (const one of known) add(one.text, matchKnown(one));
  for (const shape of SHAPES) add(shape.trigger, matchShape(shape));
  const ends = new Set(NAME_ENDS.map((end) => end.slice(-TRIGGER_LENGTH)));
  for (const end of ends) for (const cased of casesOf(end)) add(cased, matchNamed);
  for (const cased of ["rer", "RER"]) add(cased, matchBearer);
  add("://", findUserinfo);
  add(":\\/", findUserinfo);
  add("BEG", findPem);
  return { scan };

  function add(trigger: string, matcher: Matcher): void {
    const [a, b, c] = [trigger.charCodeAt(0), trigger.charCodeAt(1), trigger.charCodeAt(2)];
    table[((a << 10) ^ (b << 5) ^ c) & TABLE_MASK] = 1;
    const key = exactKey(a, b, c);
    const there = matchers.get(key);
    if (there === undefined) matchers.set(key, [matcher]);
    else if (!there.includes(matcher)) there.push(matcher);
  }

  function scan(text: string, isCut = false): ScanResult {
    const found: Found[] = [];
    let work = text.length;
    let rolling = 0;
    let from = 0;
    for (let end = 0; end < text.length; end++) {
      rolling = ((rolling << 5) ^ text.charCodeAt(end)) & TABLE_MASK;
      if (table[rolling] === 0 || end - from < TRIGGER_LENGTH - 1) continue;
      const at = end - TRIGGER_LENGTH + 1;
      const key = exactKey(text.charCodeAt(at), text.charCodeAt(at + 1), text.charCodeAt(end));
      for (const matcher of matchers.get(key) ?? NONE) {
        const look = matcher(text, at, isCut);
        work += look.work;
        if (look.found === null || look.found.start < from) continue;
        found.push(look.found);
        from = look.found.end;
        // The next three characters are all new.
        end = from - 1;
        rolling = 0;
        break;
      }
    }
    return { found, work };
  }
}

const NONE: readonly Matcher[] = [];

/** Equal for few that differ: whoever matches looks at the characters themselves. */
function exactKey(a: number, b: number, c: number): number {
  return (a << 16) ^ (b << 8) ^ c;
}

function matchKnown({ text: secret, kind }: KnownText): Matcher {
  return (text, at, isCut) => {
    const rest = text.length - at;
    if (rest < secret.length) {
      const isHead = isCut && rest >= HEAD_LENGTH_MIN && secret.startsWith(text.slice(at));
      const found = isHead ? { start: at, end: text.length, kind } : null;
      return { found, work: isCut ? rest : 0 };
    }
    let same = 0;
    while (same < secret.length && text.charCodeAt(at + same) === secret.charCodeAt(same)) same++;
    const found = same === secret.length ? { start: at, end: at + same, kind } : null;
    return { found, work: same };
  };
}

function matchShape({ kind, trigger, rest, isLoose, lead }: Shape): Matcher {
  // One that fails at its second run has read the first in vain: no other try may read it again.
  const isLong = rest.length > 1;
  return (text, at, isCut) => {
    let work = trigger.length;
    if (!text.startsWith(trigger, at)) return { found: null, work };
    if (isLoose && isInsideWord(text, at, isLong)) return { found: null, work };
    let start = at;
    if (lead !== undefined) {
      const [set, min] = lead;
      while (at - start < min && isIn(set, text.charCodeAt(start - 1))) start--;
      work += at - start;
      if (at - start < min) return { found: null, work };
    }
    let end = at + trigger.length;
    for (const part of rest) {
      if (typeof part === "string") {
        if (text.startsWith(part, end)) end += part.length;
        else if (isCut && end === text.length) break;
        else return { found: null, work };
        continue;
      }
      const [set, min] = part;
      const begin = end;
      while (end < text.length && isIn(set, text.charCodeAt(end))) end++;
      work += end - begin;
      const isWhole = end - begin >= min || (isCut && end === text.length);
      if (!isWhole) return { found: null, work };
    }
    return { found: { start, end, kind }, work };
  };
}

function isIn(set: CharacterSet, code: number): boolean {
  return set[code] === 1;
}

const ESCAPES = characterSet("nrtbf");
const HEX_DIGITS = characterSet("0123456789abcdefABCDEF");

/** Whether what begins at `at` goes on from a word, which an escape (`\n`, `%3D`) is none of. */
function isInsideWord(text: string, at: number, isHyphenInside: boolean): boolean {
  const before = text.charCodeAt(at - 1);
  if (at === 0 || !isIn(WORD, before)) return false;
  const second = text.charCodeAt(at - 2);
  if (isIn(ESCAPES, before) && second === BACKSLASH) return false;
  const isEscaped = isIn(HEX_DIGITS, before) && isIn(HEX_DIGITS, second);
  if (isEscaped && text.charCodeAt(at - 3) === PERCENT) return false;
  if (isEscaped && text.startsWith("\\u", at - 6)) return false;
  return isHyphenInside || isIn(ALNUM, before);
}

const BACKSLASH = 0x5c;
const PERCENT = 0x25;

function casesOf(text: string): string[] {
  let cases = [""];
  for (const letter of text) {
    cases = cases.flatMap((head) => [head + letter, head + letter.toUpperCase()]);
  }
  return cases;
}

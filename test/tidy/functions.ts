/**
 * How long functions are, nested ones counted apart, blank lines not at all. Read off the
 * indentation, which Biome's formatting makes a faithful picture of the nesting.
 */
import type { SourceFile } from "./sources.ts";

export interface FunctionLength {
  /** The line it begins on, from 1. */
  readonly line: number;
  readonly lineCount: number;
}

interface Span {
  readonly start: number;
  readonly end: number;
}

const CONTROL = /^(if|for|while|switch|catch|with|do|else|try|return|await|yield|throw|case)\b/;
const HEADER =
  /^(export |async |static |get |set |override |private |public |protected )*(function\b.*|[\w$#[\].]+(<.*>)?\(.*)\)(: [^=]*)?\s*\{$/;

export function functionLengths({ text, code }: SourceFile): FunctionLength[] {
  const lines = code.split("\n");
  const written = text.split("\n");
  const spans = lines.flatMap((_, index): Span[] => {
    const start = functionStart(lines, index);
    return start === null ? [] : [{ start, end: functionEnd(lines, index) }];
  });
  return spans.map(({ start, end }) => {
    const nested = spans.filter((other) => other.start > start && other.end <= end);
    let lineCount = 0;
    for (let index = start; index <= end; index++) {
      const isNested = nested.some((other) => other.start <= index && index <= other.end);
      if (!isNested && written[index]?.trim() !== "") lineCount += 1;
    }
    return { line: start + 1, lineCount };
  });
}

/** The line on which the function begins whose body this line opens; null: it opens none. */
function functionStart(lines: readonly string[], index: number): number | null {
  const line = lines[index] ?? "";
  const trimmed = line.trim();
  if (!trimmed.endsWith("{")) return null;
  if (trimmed.endsWith("=> {")) return trimmed.startsWith(")") ? opener(lines, index) : index;
  if (trimmed.startsWith(")")) {
    const start = opener(lines, index);
    const first = (lines[start] ?? "").trim().replace(/^\} /, "");
    return CONTROL.test(first) ? null : start;
  }
  return HEADER.test(trimmed) && !CONTROL.test(trimmed) ? index : null;
}

/** The line that opened the bracket which this one closes. */
function opener(lines: readonly string[], index: number): number {
  const indent = indentOf(lines[index] ?? "");
  for (let at = index - 1; at >= 0; at--) {
    const line = lines[at] ?? "";
    if (line.trim() === "" || indentOf(line) > indent) continue;
    return at;
  }
  return index;
}

function functionEnd(lines: readonly string[], index: number): number {
  const indent = indentOf(lines[index] ?? "");
  for (let at = index + 1; at < lines.length; at++) {
    const line = lines[at] ?? "";
    if (indentOf(line) !== indent || !line.trim().startsWith("}")) continue;
    // The brace closed a return type that is written over several lines: the body follows.
    if (line.trim().endsWith("{")) continue;
    return at;
  }
  return lines.length - 1;
}

function indentOf(line: string): number {
  return line.length - line.trimStart().length;
}

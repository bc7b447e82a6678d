/**
 * Code without its comments, strings and patterns: what is left can be searched for words and
 * braces. A light reader for code that Biome has formatted, not a parser of all TypeScript.
 *
 * Invariant: the result has the same length and the same line breaks as the text.
 */

const REGEXP_AFTER = /(?:^|[(,=:[!&|?{};>]|\breturn|\btypeof|\bcase)\s*$/;

export function blankOut(text: string): string {
  const kept = [...text].length === text.length ? [...text] : text.split("");
  /** For each open template expression, how many braces are open inside it. */
  const templates: number[] = [];
  let at = 0;
  while (at < text.length) {
    const two = text.slice(at, at + 2);
    const char = text[at] ?? "";
    if (two === "//") at = blank(at, endOf("\n", at));
    else if (two === "/*") at = blank(at, endOf("*/", at + 2) + 2);
    else if (char === '"' || char === "'") at = blankQuoted(at, char);
    else if (char === "`") at = blankTemplate(at + 1);
    else if (char === "/" && REGEXP_AFTER.test(text.slice(Math.max(0, at - 20), at))) {
      at = blankPattern(at);
    } else at = step(char);
  }
  return kept.join("");

  /** Past a character of code; a brace may end the expression inside a template. */
  function step(char: string): number {
    const depth = templates.at(-1);
    if (depth === undefined) return at + 1;
    if (char === "{") templates[templates.length - 1] = depth + 1;
    if (char !== "}") return at + 1;
    if (depth > 0) {
      templates[templates.length - 1] = depth - 1;
      return at + 1;
    }
    templates.pop();
    return blankTemplate(blank(at, at + 1));
  }

  function blankTemplate(from: number): number {
    let end = from;
    while (end < text.length && text[end] !== "`") {
      if (text[end] === "\\") end += 1;
      else if (text.startsWith("${", end)) {
        templates.push(0);
        return blank(from, end + 2);
      }
      end += 1;
    }
    return blank(from, end) + 1;
  }

  function blankQuoted(from: number, quote: string): number {
    let end = from + 1;
    while (end < text.length && text[end] !== quote && text[end] !== "\n") {
      end += text[end] === "\\" ? 2 : 1;
    }
    return blank(from + 1, end) + 1;
  }

  function blankPattern(from: number): number {
    let end = from + 1;
    let isClass = false;
    while (end < text.length && text[end] !== "\n" && (isClass || text[end] !== "/")) {
      if (text[end] === "[") isClass = true;
      else if (text[end] === "]") isClass = false;
      end += text[end] === "\\" ? 2 : 1;
    }
    return blank(from + 1, end) + 1;
  }

  function endOf(mark: string, from: number): number {
    const end = text.indexOf(mark, from);
    return end === -1 ? text.length : end;
  }

  function blank(from: number, to: number): number {
    const end = Math.min(to, text.length);
    for (let index = from; index < end; index++) if (kept[index] !== "\n") kept[index] = " ";
    return end;
  }
}

/**
 * A request's path as rules read it. Servers differ in what they decode and merge, so a path has
 * several readings: an `allow` must hold of all of them, a `deny` of any one. Pure.
 */

export type Paths =
  | { readonly outcome: "read"; readonly readings: readonly string[] }
  | { readonly outcome: "unreadable"; readonly fault: string };

/** More layers of percent-encoding than any server undoes. */
const DECODED_TIMES_MAX = 3;
const UNRESERVED = /[A-Za-z0-9._~-]/;

/** @param target as sent in the request's line, or `:path`. */
export function readPath(target: string): Paths {
  if (target === "*") return { outcome: "read", readings: ["*"] };
  if (!target.startsWith("/")) return unreadable("does not begin with a slash");
  if (/[^\x21-\x7e]/.test(target)) {
    return unreadable("has spaces, control characters, or others that are not ASCII");
  }
  if (target.includes("#")) return unreadable("has a fragment, which is never sent");
  const [path = ""] = target.split("?", 1);
  const asSent = path.replaceAll(/%[0-9A-Fa-f]{2}/g, (code) => {
    const letter = String.fromCharCode(Number.parseInt(code.slice(1), 16));
    return UNRESERVED.test(letter) ? letter : code.toUpperCase();
  });
  const decoded = decodeFully(asSent);
  if (decoded.split("/").some((part) => part === "." || part === "..")) {
    return unreadable("goes up or stays with a part of dots");
  }
  return { outcome: "read", readings: [...new Set([asSent, decoded])] };
}

/** With every percent sign undone, backslashes as slashes, and several slashes as one. */
function decodeFully(path: string): string {
  let text = path;
  for (let round = 0; round < DECODED_TIMES_MAX; round++) {
    text = text.replaceAll(/%[0-9A-Fa-f]{2}/g, (code) =>
      String.fromCharCode(Number.parseInt(code.slice(1), 16)),
    );
  }
  return text.replaceAll("\\", "/").replaceAll(/\/{2,}/g, "/");
}

/**
 * Whether the path is one of the pattern's: `*` stands for any part of a part, `**` for anything.
 * Takes time in proportion to both lengths, whatever they hold.
 */
export function matchesPath(pattern: string, path: string): boolean {
  if (!pattern.includes("*")) return pattern === path;
  const tokens = pattern.match(/\*\*|\*|[^*]/gs) ?? [];
  let at = reachable(tokens, [0]);
  for (const letter of path) {
    const next: number[] = [];
    for (const position of at) {
      const token = tokens[position];
      if (token === "**" || (token === "*" && letter !== "/")) next.push(position);
      else if (token === letter) next.push(position + 1);
    }
    at = reachable(tokens, next);
    if (at.size === 0) return false;
  }
  return at.has(tokens.length);
}

/** Those positions, and what follows them past stars that stand for nothing. */
function reachable(tokens: readonly string[], positions: readonly number[]): Set<number> {
  const found = new Set<number>();
  for (const start of positions) {
    let position = start;
    while (!found.has(position)) {
      found.add(position);
      if (!tokens[position]?.startsWith("*")) break;
      position++;
    }
  }
  return found;
}

function unreadable(fault: string): { outcome: "unreadable"; fault: string } {
  return { outcome: "unreadable", fault };
}

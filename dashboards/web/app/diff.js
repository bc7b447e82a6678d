/** Reads a patch as git writes it. Pure; what it cannot read it passes over. */

/**
 * @typedef {object} DiffLine
 * @property {"same" | "added" | "removed" | "note"} kind
 * @property {string} text without its sign
 * @property {number | null} before its number in the old file
 * @property {number | null} after its number in the new file
 */
/** @typedef {{ heading: string, lines: DiffLine[] }} Hunk */
/**
 * @typedef {object} DiffFile
 * @property {string} path
 * @property {string | null} formerPath where it was renamed or copied from
 * @property {"added" | "deleted" | "renamed" | "changed"} change
 * @property {boolean} isBinary
 * @property {number} added
 * @property {number} removed
 * @property {Hunk[]} hunks
 */

/** @param {string} patch @returns {DiffFile[]} */
export function parseDiff(patch) {
  /** @type {DiffFile[]} */
  const files = [];
  /** How many lines of either side the hunk still holds: what looks like a header may be text. */
  let left = { before: 0, after: 0 };
  let at = { before: 0, after: 0 };
  for (const line of patch.split("\n")) {
    const file = files.at(-1);
    const hunk = file?.hunks.at(-1);
    const isInHunk = (left.before > 0 || left.after > 0) && /^([-+ \\]|$)/.test(line);
    if (file !== undefined && hunk !== undefined && isInHunk) {
      takeLine(file, hunk, line, at, left);
    } else if (hunk !== undefined && line.startsWith("\\")) {
      hunk.lines.push({ kind: "note", text: line.slice(2), before: null, after: null });
    } else if (line.startsWith("diff --git ")) {
      files.push(emptyFile(gitPath(line)));
    } else if (file !== undefined) {
      const found = /^@@ -(\d+)(?:,(\d+))? \+(\d+)(?:,(\d+))? @@ ?(.*)$/.exec(line);
      if (found === null) readHeader(file, line);
      else {
        at = { before: Number(found[1]), after: Number(found[3]) };
        left = { before: Number(found[2] ?? 1), after: Number(found[4] ?? 1) };
        file.hunks.push({ heading: found[5] ?? "", lines: [] });
      }
    }
  }
  return files;
}

/** @param {readonly DiffFile[]} files */
export function diffTotals(files) {
  return {
    added: files.reduce((sum, file) => sum + file.added, 0),
    removed: files.reduce((sum, file) => sum + file.removed, 0),
  };
}

/**
 * @param {DiffFile} file
 * @param {Hunk} hunk
 * @param {string} line
 * @param {{ before: number, after: number }} at the next line of either side
 * @param {{ before: number, after: number }} left
 */
function takeLine(file, hunk, line, at, left) {
  const text = line.slice(1);
  if (line.startsWith("+")) {
    hunk.lines.push({ kind: "added", text, before: null, after: at.after++ });
    left.after--;
    file.added++;
  } else if (line.startsWith("-")) {
    hunk.lines.push({ kind: "removed", text, before: at.before++, after: null });
    left.before--;
    file.removed++;
  } else if (line.startsWith("\\")) {
    hunk.lines.push({ kind: "note", text: line.slice(2), before: null, after: null });
  } else {
    hunk.lines.push({ kind: "same", text, before: at.before++, after: at.after++ });
    left.before--;
    left.after--;
  }
}

/** @param {DiffFile} file @param {string} line */
function readHeader(file, line) {
  if (line.startsWith("new file mode")) file.change = "added";
  else if (line.startsWith("deleted file mode")) file.change = "deleted";
  else if (line.startsWith("rename from ") || line.startsWith("copy from ")) {
    file.change = "renamed";
    file.formerPath = unquoted(line.replace(/^(rename|copy) from /, ""));
  } else if (line.startsWith("rename to ") || line.startsWith("copy to ")) {
    file.path = unquoted(line.replace(/^(rename|copy) to /, ""));
  } else if (line.startsWith("+++ ") && !line.startsWith("+++ /dev/null")) {
    file.path = unquoted(line.slice(4).replace(/\t$/, "")).replace(/^b\//, "");
  } else if (line.startsWith("--- ") && file.change === "deleted") {
    file.path = unquoted(line.slice(4).replace(/\t$/, "")).replace(/^a\//, "");
  } else if (line.startsWith("Binary files ") || line.startsWith("GIT binary patch")) {
    file.isBinary = true;
  }
}

/** @param {string} path @returns {DiffFile} */
function emptyFile(path) {
  const counts = { added: 0, removed: 0 };
  return { path, formerPath: null, change: "changed", isBinary: false, ...counts, hunks: [] };
}

/**
 * `diff --git a/x b/x`: both halves name one file, which is how a path with spaces is told.
 *
 * @param {string} line
 */
function gitPath(line) {
  const names = line.slice("diff --git ".length);
  const half = names.slice((names.length + 1) / 2);
  return unquoted(half).replace(/^b\//, "");
}

/** Git quotes unusual paths as C strings of UTF-8 bytes. @param {string} path */
function unquoted(path) {
  if (!path.startsWith('"') || !path.endsWith('"')) return path;
  const bytes = [];
  const escapes = { a: 7, b: 8, t: 9, n: 10, v: 11, f: 12, r: 13 };
  for (const [, octal, letter, plain] of path
    .slice(1, -1)
    .matchAll(/\\([0-7]{3})|\\(.)|([^\\]+)/gs)) {
    if (octal !== undefined) bytes.push(Number.parseInt(octal, 8));
    else if (letter !== undefined) bytes.push(escapes[letter] ?? letter.charCodeAt(0));
    else bytes.push(...new TextEncoder().encode(plain));
  }
  return new TextDecoder().decode(Uint8Array.from(bytes));
}

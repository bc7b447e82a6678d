/** A patch as git writes it, read into files, hunks and numbered lines. */
import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import test from "node:test";
import { PATCH } from "../../support/ui-fixture-data.ts";

interface DiffLine {
  kind: string;
  text: string;
  before: number | null;
  after: number | null;
}
interface DiffFile {
  path: string;
  formerPath: string | null;
  change: string;
  isBinary: boolean;
  added: number;
  removed: number;
  hunks: { heading: string; lines: DiffLine[] }[];
}
const path = new URL("../../../dashboards/web/app/diff.js", import.meta.url);
const { parseDiff }: { parseDiff(patch: string): DiffFile[] } = await import(path.href);

test("a patch of every kind of change", () => {
  const files = parseDiff(PATCH);
  assert.deepEqual(
    files.map(({ path, change, formerPath, isBinary, added, removed }) => ({
      path,
      change,
      formerPath,
      isBinary,
      added,
      removed,
    })),
    [
      {
        path: "src/date.js",
        change: "changed",
        formerPath: null,
        isBinary: false,
        added: 5,
        removed: 2,
      },
      {
        path: "test/week.test.js",
        change: "added",
        formerPath: null,
        isBinary: false,
        added: 4,
        removed: 0,
      },
      {
        path: "new name.txt",
        change: "renamed",
        formerPath: "old name.txt",
        isBinary: false,
        added: 0,
        removed: 0,
      },
      {
        path: "logo.png",
        change: "changed",
        formerPath: null,
        isBinary: true,
        added: 0,
        removed: 0,
      },
    ],
  );
});

test("lines carry their numbers in either file", () => {
  const [file] = parseDiff(PATCH);
  const lines = file?.hunks[0]?.lines ?? [];
  assert.deepEqual(lines[3], {
    kind: "removed",
    text: "  return new Date(text);",
    before: 15,
    after: null,
  });
  assert.deepEqual(lines.at(-1), {
    kind: "same",
    text: "export const MONDAY = 1;",
    before: 19,
    after: 22,
  });
});

test("text that looks like a header stays text", () => {
  const lines = parseDiff(PATCH)[1]?.hunks[0]?.lines ?? [];
  assert.equal(lines[2]?.text, "--- this line only looks like a header");
  assert.deepEqual(lines.at(-1), {
    kind: "note",
    text: "No newline at end of file",
    before: null,
    after: null,
  });
});

test("what git itself writes: quoted names, deletions, empty files", async () => {
  const dir = await mkdtemp(join(tmpdir(), "autocode-diff-"));
  try {
    const git = (...args: string[]) =>
      execFileSync("git", ["-c", "user.name=t", "-c", "user.email=t@example.org", ...args], {
        cwd: dir,
        encoding: "utf8",
      });
    git("init", "-q");
    await writeFile(join(dir, "gone.txt"), "a\nb\n");
    git("add", "-A");
    git("commit", "-qm", "base");
    await rm(join(dir, "gone.txt"));
    await writeFile(join(dir, 'naïve "name".txt'), "é\n");
    await writeFile(join(dir, "empty"), "");
    git("add", "-A");
    const files = parseDiff(git("diff", "--cached", "--no-renames"));
    assert.deepEqual(
      files.map(({ path, change, added, removed }) => [path, change, added, removed]),
      [
        ["empty", "added", 0, 0],
        ["gone.txt", "deleted", 0, 2],
        ['naïve "name".txt', "added", 1, 0],
      ],
    );
    assert.equal(files[2]?.hunks[0]?.lines[0]?.text, "é");
  } finally {
    await rm(dir, { recursive: true, force: true });
  }
});

test("what is no patch has no files", () => {
  assert.deepEqual(parseDiff(""), []);
  assert.deepEqual(parseDiff("@@ -1 +1 @@\n+x\nnothing"), []);
});

/** Goal: one manifest has one text, in whatever order it came; one that cannot be is refused. */
import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { Value } from "typebox/value";
import {
  canonicalText,
  contentsOf,
  distinct,
  faultOf,
  totalBytes,
} from "../../../orchestrator/checkpoints/manifest.ts";
import { Manifest, type WorkEntry } from "../../../orchestrator/contract/checkpoints.ts";
import { BASE_COMMIT, sha256, workOf } from "../../support/checkpoints.ts";

const of = (work: WorkEntry[], session: Manifest["session"] = null): Manifest => {
  return { version: 1, base_commit: BASE_COMMIT, work, session };
};

test("its text is the same for every order of paths and keys", () => {
  const names = fc.uniqueArray(fc.stringMatching(/^[a-zé]{1,8}$/), { maxLength: 12 });
  fc.assert(
    fc.property(names, fc.infiniteStream(fc.nat()), (paths, order) => {
      const work = workOf(Object.fromEntries(paths.map((path) => [path, `of ${path}`])));
      const keys = work.map((entry) => {
        return Object.fromEntries(Object.entries(entry).toReversed()) as WorkEntry;
      });
      const ranked = keys.map((entry) => ({ entry, rank: order.next().value ?? 0 }));
      const shuffled = ranked.toSorted((a, b) => a.rank - b.rank).map(({ entry }) => entry);
      assert.equal(canonicalText(of(shuffled)), canonicalText(of(work)));
      assert.deepEqual(JSON.parse(canonicalText(of(shuffled))).work.length, paths.length);
    }),
  );
});

test("a manifest whose files cannot stand beside one another is refused", () => {
  const [a] = workOf({ a: "1" });
  const [below] = workOf({ "a/b": "2" });
  assert.ok(a !== undefined && below !== undefined);
  assert.equal(faultOf(of([a, below])), 'work: "a/b" lies below a file');
  assert.equal(faultOf(of([a, a])), 'work: "a" stands there twice');
  assert.equal(
    faultOf(of([{ path: "a", type: "deleted" }, below])),
    null,
    "a file became a folder",
  );
  assert.equal(faultOf(of([a, { path: "a/b", type: "deleted" }])), null, "and a folder a file");
  const files = [a, below].map(({ path }) => ({ path, sha256: sha256("1"), byte_count: 1 }));
  const session = { folders: ["/x", "/x"] as [string, string], files };
  assert.equal(faultOf(of([], session)), 'session.files: "a/b" lies below a file');
});

test("a path that leads out of the folder is no path", () => {
  const good = ["a", "a/b.c", "..a/b..", ".gitignore", "a/.github/x", "é ü/\n", "..."];
  const bad = [
    ...["", "/", "/etc/passwd", "..", "../a", "a/../b", "a/..", ".", "./a", "a//b", "a/"],
    ...[".git", ".git/hooks/post-checkout", "a/.GIT/config", "a\0b", "x".repeat(4097)],
  ];
  const isTaken = (path: string) => {
    const entries = [{ path, type: "deleted" }];
    return Value.Check(Manifest, { ...of([]), work: entries });
  };
  assert.deepEqual(
    good.filter((path) => !isTaken(path)),
    [],
  );
  assert.deepEqual(bad.filter(isTaken), []);
});

test("contents are counted wherever they stand, and once where they are stored", () => {
  const contents = contentsOf(of(workOf({ a: "same", b: "same", c: "other!" })));
  assert.equal(totalBytes(contents), 14);
  assert.equal(totalBytes(distinct(contents)), 10);
});

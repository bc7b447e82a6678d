/**
 * Goal: `npm run mutation` can still remove every guard it lists.
 *
 * Method: each patch is applied to the file's text, in memory; the tests it names are there.
 */
import assert from "node:assert/strict";
import { existsSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { MUTANTS } from "./mutants.ts";
import { patched } from "./patch.ts";

const ROOT = join(import.meta.dirname, "../..");

test("every patch of the mutation check still applies", () => {
  for (const mutant of MUTANTS) {
    const text = readFileSync(join(ROOT, mutant.file), "utf8");
    assert.notEqual(patched(mutant, text), text, mutant.guard);
    const missing = mutant.tests.filter((path) => !existsSync(join(ROOT, path)));
    assert.deepEqual(missing, [], mutant.guard);
  }
  const guards = MUTANTS.map(({ guard }) => guard);
  assert.equal(new Set(guards).size, guards.length, "two guards of one name");
});

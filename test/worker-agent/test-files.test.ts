/** What is a test file decides what the verifier puts back and flags. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { isTestFile } from "../../worker-agent/test-files.ts";

test("names that test runners look for are test files", () => {
  const tests = [
    "test/sum.js",
    "packages/a/tests/data/input.json",
    "src/__tests__/sum.tsx",
    "src/sum.test.ts",
    "src/sum.spec.mjs",
    "src/sum-test.js",
    "pkg/sum_test.go",
    "lib/sum_spec.rb",
    "test_sum.py",
    "conftest.py",
    "test.js",
    "src/SumTest.java",
    "src/SumTests.cs",
    "src/__snapshots__/sum.tsx.snap",
    "Tests/AppTests.swift",
  ];
  assert.deepEqual(
    tests.filter((path) => !isTestFile(path)),
    [],
  );
});

test("names that only resemble them are not", () => {
  const others = [
    "src/sum.js",
    "src/contest.js",
    "src/testing.js",
    "src/latest.py",
    "src/inspector.rb",
    "src/Latest.java",
    "attest/sum.go",
    "package.json",
    "src/protest.ts",
  ];
  assert.deepEqual(others.filter(isTestFile), []);
});

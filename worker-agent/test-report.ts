/** Counts of passed and failed tests, read from JUnit XML or TAP. Pure. */
import { XMLParser } from "fast-xml-parser";
import { Parser as TapParser } from "tap-parser";

export interface TestCounts {
  readonly passed: number;
  readonly failed: number;
}

/** The counts of a JUnit report, or null when it is none. Skipped tests are in neither count. */
export function readJUnit(xml: string): TestCounts | null {
  // A report has no use for entities of its own, and they can be made to grow without end.
  if (!/<testsuites?[\s>/]/.test(xml) || /<!DOCTYPE|<!ENTITY/i.test(xml)) return null;
  const parser = new XMLParser({
    ignoreAttributes: true,
    processEntities: false,
    parseTagValue: false,
    isArray: (name) => ["testsuite", "testcase", "testsuites"].includes(name),
  });
  let root: unknown;
  try {
    root = parser.parse(xml, true);
  } catch {
    return null;
  }
  const counts = { passed: 0, failed: 0 };
  for (const testCase of casesIn(root)) {
    if (testCase === null || typeof testCase !== "object") counts.passed += 1;
    else if ("failure" in testCase || "error" in testCase) counts.failed += 1;
    else if (!("skipped" in testCase)) counts.passed += 1;
  }
  return counts;
}

/** Every `testcase` of a report, however its suites are nested. */
function* casesIn(node: unknown): Generator<unknown> {
  if (node === null || typeof node !== "object") return;
  for (const [name, value] of Object.entries(node)) {
    if (name === "testcase" && Array.isArray(value)) yield* value;
    else if (Array.isArray(value)) for (const below of value) yield* casesIn(below);
  }
}

/** The counts of TAP among other output, or null when there is none. */
export function readTap(output: string): TestCounts | null {
  const isTap = /^TAP version 1[34]/m.test(output) || /^1\.\.\d+\s*$/m.test(output);
  if (!isTap || !/^(not )?ok\b/m.test(output)) return null;
  const counts = { passed: 0, failed: 0 };
  const parser = new TapParser();
  parser.on("assert", ({ ok, skip, todo }) => {
    if (skip !== false || todo !== false) return;
    counts[ok ? "passed" : "failed"] += 1;
  });
  parser.end(output);
  return counts;
}

/** The sum of several reports, or null of none. */
export function sumCounts(reports: readonly (TestCounts | null)[]): TestCounts | null {
  const found = reports.filter((report) => report !== null);
  if (found.length === 0) return null;
  const passed = found.reduce((sum, report) => sum + report.passed, 0);
  const failed = found.reduce((sum, report) => sum + report.failed, 0);
  return { passed, failed };
}

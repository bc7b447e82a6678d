/** Counts read from test reports; what is no report counts nothing. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { readJUnit, readTap, sumCounts } from "../../worker-agent/test-report.ts";

test("JUnit: nested suites, empty cases, failures, errors and skips", () => {
  const xml = `<?xml version="1.0"?>
    <testsuites>
      <testsuite name="a" tests="99"><testcase name="1"/><testcase name="2"></testcase>
        <testcase name="3"><failure message="no"/></testcase></testsuite>
      <testsuite><testsuite><testcase name="4"><error>x</error></testcase>
        <testcase name="5"><skipped/></testcase></testsuite></testsuite>
    </testsuites>`;
  assert.deepEqual(readJUnit(xml), { passed: 2, failed: 2 });
  const single =
    '<testsuite name="a"><testcase name="1"><system-out>x</system-out></testcase></testsuite>';
  assert.deepEqual(readJUnit(single), { passed: 1, failed: 0 });
});

test("JUnit: what is not one, is broken, or brings entities counts nothing", () => {
  const bomb = '<!DOCTYPE x [<!ENTITY a "aaaa">]><testsuite><testcase name="&a;"/></testsuite>';
  for (const xml of ["", "plain text", "<html></html>", "<testsuite><testcase>", bomb]) {
    assert.equal(readJUnit(xml), null, xml);
  }
});

test("TAP: among other output, without skips and todos", () => {
  const tap =
    "noise\nTAP version 14\nok 1 - a\nnot ok 2 - b\nok 3 - c # SKIP\nnot ok 4 # TODO\n1..4\n";
  assert.deepEqual(readTap(tap), { passed: 1, failed: 1 });
  assert.deepEqual(readTap("1..1\nok 1\n"), { passed: 1, failed: 0 });
  for (const text of ["", "ok then\n", "TAP version 14\n1..0\n", "1..2 is a range\nok 1\n"]) {
    assert.equal(readTap(text), null, text);
  }
});

test("several reports add up", () => {
  assert.equal(sumCounts([null]), null);
  const counts = [{ passed: 1, failed: 2 }, null, { passed: 3, failed: 0 }];
  assert.deepEqual(sumCounts(counts), { passed: 4, failed: 2 });
});

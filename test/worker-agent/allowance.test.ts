/** The words by which an agent is told its allowance are golden: a change of them is a decision. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { withAllowance } from "../../worker-agent/allowance.ts";

const NOW_MS = Date.parse("2026-01-01T00:00:00.000Z");

function told(available_nanos: string, deadline_at: string): string {
  const limits = { currency: "CAD", limit_nanos: "2000000000", percent_used: 0 };
  const allowance = { ...limits, available_nanos, deadline_at };
  return withAllowance("Fix it.\n\n", allowance, NOW_MS);
}

test("the allowance follows the instruction", () => {
  assert.equal(
    told("1234567890", "2026-01-01T00:30:00.000Z"),
    `Fix it.

---
Your allowance: 1.2345 CAD of 2.0000 CAD for model calls, and 30 minutes.
You are stopped when either runs out, and only the files in the work tree count:
make the change early, keep it small, and do not read more than you need.
`,
  );
});

test("money is rounded down, and time is told in fitting units", () => {
  assert.match(told("99999", "2026-01-01T00:01:59.900Z"), /: 0\.0000 CAD .* 119 seconds\.\n/);
  assert.match(told("0", "2025-01-01T00:00:00.000Z"), / 0 seconds\.\n/);
  assert.match(told("0", "2026-01-01T03:05:00.000Z"), / 3 hours 5 minutes\.\n/);
});

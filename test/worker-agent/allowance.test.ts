/** The words by which an agent is told its allowance are golden: a change of them is a decision. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { allowanceFile, withAllowance } from "../../worker-agent/allowance.ts";

const NOW_MS = Date.parse("2026-01-01T00:00:00.000Z");

function told(available_nanos: string, deadline_at: string): string {
  const limits = { currency: "CAD", limit_nanos: "2000000000", percent_used: 0 };
  const allowance = { ...limits, available_nanos, deadline_at };
  const where = { file: "/side/allowance.json", hasTool: true };
  return withAllowance("Fix it.\n\n", allowance, NOW_MS, where);
}

test("the allowance follows the instruction", () => {
  assert.equal(
    told("1234567890", "2026-01-01T00:30:00.000Z"),
    `Fix it.

---
Your allowance: 1.2345 CAD of 2.0000 CAD for model calls, and 30 minutes.
You are stopped when either runs out, and only the files in the work tree count:
make the change early, keep it small, and do not read more than you need.
To see what is left later: the tool allowance or the file /side/allowance.json.
`,
  );
});

test("money is rounded down, and time is told in fitting units", () => {
  assert.match(told("99999", "2026-01-01T00:01:59.900Z"), /: 0\.0000 CAD .* 119 seconds\.\n/);
  assert.match(told("0", "2025-01-01T00:00:00.000Z"), / 0 seconds\.\n/);
  assert.match(told("0", "2026-01-01T03:05:00.000Z"), / 3 hours 5 minutes\.\n/);
});

test("the file is the allowance as JSON, with a line for people and the time that is left", () => {
  const allowance = {
    currency: "CAD",
    limit_nanos: "2000000000",
    available_nanos: "200000000",
    percent_used: 90,
    tokens_left: "12000",
    deadline_at: "2026-01-01T00:30:00.000Z",
  };
  assert.deepEqual(JSON.parse(allowanceFile(allowance, NOW_MS)), {
    summary:
      "0.2000 CAD of 2.0000 CAD (and 12000 tokens) for model calls, and 30 minutes are left; " +
      "90 % is used.",
    ...allowance,
    seconds_left: 1_800,
    as_of: "2026-01-01T00:00:00.000Z",
  });
});

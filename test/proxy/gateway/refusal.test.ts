/** Goal: a refusal is an error of its client's own dialect. */
import assert from "node:assert/strict";
import test from "node:test";
import { budgetGone, refusalBody, refusalHeaders } from "../../../proxy/gateway/refusal.ts";

const GONE = budgetGone(403, { unit: "money", requiredNanos: 12n, availableNanos: 3n }, "CAD");

test("in OpenAI's envelope", () => {
  const { error } = JSON.parse(refusalBody(GONE, "openai", "call_1"));
  assert.deepEqual(
    { ...error, message: "" },
    {
      message: "",
      type: "permission_error",
      param: null,
      code: "budget_exceeded",
      unit: "nanos",
      required_nanos: "12",
      available_nanos: "3",
      currency: "CAD",
    },
  );
  assert.match(error.message, /needs 12 nanos CAD and 3 are available/);
});

test("in Anthropic's envelope", () => {
  const body = JSON.parse(refusalBody({ ...GONE, status: 503 }, "anthropic", "call_1"));
  assert.deepEqual([body.type, body.request_id], ["error", "call_1"]);
  assert.deepEqual([body.error.type, body.error.code], ["overloaded_error", "budget_exceeded"]);
});

test("its headers say whether and when to try again", () => {
  assert.equal(refusalHeaders(GONE, "call_1")["x-should-retry"], "false");
  const later = { status: 429, code: "budget_busy", message: "", retryAfterS: 3 } as const;
  const headers = refusalHeaders(later, "call_1");
  assert.deepEqual([headers["retry-after"], headers["x-should-retry"]], ["3", undefined]);
});

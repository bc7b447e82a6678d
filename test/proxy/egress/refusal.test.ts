/** Goal: what a worker is told has one form, and a status that its clients act on. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { DECISION_REASONS } from "../../../orchestrator/contract/egress.ts";
import { denied, failureOf, refusalOf } from "../../../proxy/egress/refusal.ts";

test("a refusal is JSON that says which reason and what to do", () => {
  assert.deepEqual(denied("no_rule", "No rule allows it. Add one."), {
    decision: {
      action: "deny",
      reason: "no_rule",
      rule: null,
      detail: "No rule allows it. Add one.",
    },
    refusal: {
      status: 403,
      headers: [
        ["Content-Type", "application/json"],
        ["Content-Length", "93"],
        ["X-Autocode-Egress", "no_rule"],
        ["X-Should-Retry", "false"],
      ],
      body: '{"error":{"type":"egress_refused","code":"no_rule","message":"No rule allows it. Add one."}}\n',
    },
  });
});

test("every reason has a status; strangers are asked for credentials", () => {
  const statuses = DECISION_REASONS.map((reason) => refusalOf({ reason, detail: "é" }));
  for (const { status, headers, body } of statuses) {
    assert.ok([400, 403, 407, 413, 429, 502, 503].includes(status));
    assert.ok(headers.some(([, value]) => value === String(Buffer.byteLength(body))));
  }
  const stranger = refusalOf({ reason: "no_session", detail: "Who are you?" });
  assert.equal(stranger.status, 407);
  assert.deepEqual(stranger.headers.at(-1), [
    "Proxy-Authenticate",
    'Basic realm="autocode egress"',
  ]);
  assert.equal(refusalOf({ reason: "too_fast", detail: "x" }).status, 429);
});

test("a server that cannot be reached is no refusal", () => {
  const failure = failureOf("upstream_failed", "It refused the connection");
  assert.equal(failure.status, 502);
  assert.equal(JSON.parse(failure.body).error.type, "egress_failed");
});

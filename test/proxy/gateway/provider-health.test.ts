/** Goal: a provider that fails or is used up is not asked until its time, model by model. */
import assert from "node:assert/strict";
import test from "node:test";
import type { ExchangeResult } from "../../../proxy/gateway/exchange.ts";
import { createProviderHealth, judge } from "../../../proxy/gateway/provider-health.ts";
import { UNSEEN } from "../../../proxy/gateway/usage-scan.ts";

const A = { provider: { name: "a" }, upstreamName: "m" };
const A2 = { provider: { name: "a" }, upstreamName: "n" };
const B = { provider: { name: "b" }, upstreamName: "m" };

test("failures shut the provider, a used-up quota the model alone", () => {
  const health = createProviderHealth();
  for (let failures = 0; failures < 5; failures++) {
    assert.equal(health.enter(A, 0), true);
    health.told(A, { kind: "failed" }, 0);
  }
  assert.deepEqual(health.shut(A2, 0), { why: "failing", untilMs: 5_000 });
  assert.deepEqual([health.enter(A, 0), health.shut(B, 0)], [false, null]);
  assert.equal(health.enter(A, 5_000), true);
  assert.equal(health.enter(A2, 5_000), false, "two tries at once");
  health.told(A, { kind: "limited", untilMs: 90_000 }, 5_000);
  assert.deepEqual(health.shut(A, 5_000), { why: "quota", untilMs: 90_000 });
  assert.equal(health.shut(A2, 5_000), null);
  assert.equal(health.enter(A, 89_999), false);
  assert.equal(health.enter(A, 90_000), true);
});

test("what an exchange says of its provider", () => {
  const result = (more: Partial<ExchangeResult>): ExchangeResult => ({
    ...{ status: 200, headers: {}, ending: "completed", isSent: true, error: null },
    ...{ isStreamed: false, body: Buffer.alloc(0), recorded: Buffer.alloc(0), beyondBytes: 0 },
    ...{ seen: UNSEEN, countedTokens: null, isBetweenEvents: false, closing: null },
    ...{ firstByteAtMs: null },
    ...more,
  });
  const kinds: [Partial<ExchangeResult>, string][] = [
    [{}, "well"],
    [{ status: 400 }, "well"],
    [{ ending: "cut_short", isStreamed: true }, "well"],
    [{ status: 502 }, "failed"],
    [{ status: 503 }, "failed"],
    [{ status: 529 }, "failed"],
    [{ status: null, ending: "broken" }, "failed"],
    [{ status: 500 }, "unknown"],
    [{ ending: "broken", isStreamed: true }, "unknown"],
    [{ status: 429 }, "limited"],
    [{ status: null, ending: "client_gone" }, "unknown"],
    [{ status: null, ending: "deadline" }, "unknown"],
  ];
  for (const [more, kind] of kinds) assert.equal(judge(result(more), 0).kind, kind);
  const limited = judge(result({ status: 429, headers: { "retry-after": "9" } }), 1_000);
  assert.deepEqual(limited, { kind: "limited", untilMs: 10_000 });
});

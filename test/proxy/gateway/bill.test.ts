/** Goal: what a call costs follows from what passed, and never exceeds what was held. */
import assert from "node:assert/strict";
import test from "node:test";
import { billCall, type ExchangeFacts } from "../../../proxy/gateway/bill.ts";
import { NO_USAGE } from "../../../proxy/gateway/usage.ts";

const RATES = {
  base: {
    inputNanos: 3_000_000n,
    cacheReadNanos: 300_000n,
    cacheWriteNanos: 3_750_000n,
    longCacheWriteNanos: 6_000_000n,
    outputNanos: 15_000_000n,
  },
  tiers: [],
};
const CEILING = { rates: RATES, amountNanos: 10_000n, inputTokens: 1_000, outputTokens: 100 };
const UNSEEN = { usage: null, isComplete: false, isInvalid: false };
const NOTHING = { outputTokens: 0, text: null, hasOutput: false, error: null };

function bill(facts: Partial<ExchangeFacts>, estimate = NOTHING) {
  const usual = { wire: "openai.chat", status: 200, ending: "completed", isSent: true } as const;
  const given = { ...usual, seen: UNSEEN, error: null, ...facts };
  return billCall(given, CEILING, () => estimate);
}

test("nothing is paid for what was not sent, not answered, or refused", () => {
  for (const facts of [
    { isSent: false, ending: "client_gone" as const, status: null },
    { status: null, ending: "broken" as const },
    { status: 429 },
    { status: 307 },
    { ending: "broken" as const },
  ]) {
    const { resolution, costNanos } = bill(facts);
    assert.deepEqual([resolution, costNanos], ["release", 0n], JSON.stringify(facts));
  }
});

for (const ending of ["client_gone", "deadline"] as const) {
  test(`who ends it (${ending}) pays for the prompt, and for what it got`, () => {
    const before = bill({ ending, status: null });
    assert.deepEqual([before.resolution, before.costNanos], ["settle", 3_000n]);
    const during = bill({ ending }, { ...NOTHING, outputTokens: 5, hasOutput: true });
    assert.deepEqual([during.isEstimated, during.costNanos], [true, 3_075n]);
  });
}

test("a cut Anthropic stream has its input exactly", () => {
  const usage = { ...NO_USAGE, inputTokens: 10, outputTokens: 1 };
  const seen = { usage, isComplete: false, isInvalid: false };
  const cut = bill({ seen, ending: "broken" }, { ...NOTHING, outputTokens: 4, hasOutput: true });
  assert.deepEqual(cut.usage, { ...usage, outputTokens: 4 });
  assert.equal(cut.isEstimated, true);
});

test("an overrun is settled at the hold and said", () => {
  const usage = { ...NO_USAGE, outputTokens: 1_000 };
  const over = bill({ seen: { usage, isComplete: true, isInvalid: false } });
  assert.equal(over.costNanos, CEILING.amountNanos);
  assert.match(over.error ?? "", /^overrun: 15000 nanos/);
});

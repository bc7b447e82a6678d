/** Goal: counts that agree within the stated tolerance are matched, others told with their sign. */
import assert from "node:assert/strict";
import test from "node:test";
import {
  compareCounts,
  counterDelta,
  type SettledCount,
} from "../../../orchestrator/traffic/reconcile.ts";

function ours(model: string, inputTokens: number, outputTokens: number, estimatedCount = 0) {
  return { model, inputTokens, outputTokens, callCount: 3, estimatedCount } satisfies SettledCount;
}

function theirs(model: string, inputTokens: number, outputTokens: number) {
  return { model, inputTokens, outputTokens };
}

function told(rows: ReturnType<typeof compareCounts>) {
  return rows.map(({ model, isMatched, detail }) => [model, isMatched, detail]);
}

test("up to 2,000 tokens, or one in a hundred, is no difference", () => {
  const rows = compareCounts(
    [ours("a", 1_000, 500), ours("b", 1_000_000, 0), ours("c", 1_000, 0), ours("d", 0, 1_000_000)],
    [
      theirs("a", 3_000, 500),
      theirs("b", 1_010_000, 0),
      theirs("c", 3_001, 0),
      theirs("d", 0, 900_000),
    ],
  );
  assert.deepEqual(told(rows), [
    ["a", true, "3 calls of ours: they agree"],
    ["b", true, "3 calls of ours: they agree"],
    [
      "c",
      false,
      "3 calls of ours: they counted 2001 input tokens more: something was called around the gateway",
    ],
    ["d", false, "3 calls of ours: we settled 100000 output tokens more than they counted"],
  ]);
});

test("a model's dated versions are the model, another model is not", () => {
  const rows = compareCounts(
    [ours("gpt-5", 30_000, 0), ours("org/llama", 10, 0, 2)],
    [
      theirs("gpt-5-2026-01-01", 10_000, 0),
      theirs("gpt-5-20260301", 20_000, 0),
      theirs("gpt-5-mini", 50_000, 0),
      theirs("llama", 10, 0),
    ],
  );
  assert.deepEqual(told(rows), [
    ["gpt-5", true, "3 calls of ours: they agree"],
    [
      "gpt-5-mini",
      false,
      "no call of ours: they counted 50000 input tokens more: something was called around the gateway",
    ],
    ["org/llama", true, "3 calls of ours, 2 of them counted by us: they agree"],
  ]);
});

test("what they do not name at all is a difference", () => {
  const [row] = compareCounts([ours("a", 50_000, 0)], []);
  assert.equal(row?.isMatched, false);
});

test("a counter that went back has begun anew", () => {
  assert.equal(counterDelta(100, 150), 50);
  assert.equal(counterDelta(100, 100), 0);
  assert.equal(counterDelta(100, 30), 30);
  assert.equal(counterDelta(null, 30), 30);
});

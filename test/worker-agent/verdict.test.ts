/** Goal: only a plain pass passes. Method: the decision table, row by row. */
import assert from "node:assert/strict";
import { test } from "node:test";
import type { ProcessEnd } from "../../worker-agent/process.ts";
import { readReward } from "../../worker-agent/reward.ts";
import { judge } from "../../worker-agent/verdict.ts";

const NONE = { outcome: "none" } as const;

function end(overrides: Partial<ProcessEnd>): ProcessEnd {
  return {
    cause: "exited",
    exitCode: 0,
    signal: null,
    durationMs: 1,
    survivorsKilled: 0,
    startError: null,
    ...overrides,
  };
}

test("an end becomes a verdict", () => {
  const one = { outcome: "reward", reward: 1 } as const;
  const rows = [
    [end({}), NONE, null, "passed"],
    [end({ exitCode: 1 }), NONE, null, "failed"],
    [end({ exitCode: 1 }), one, null, "passed"],
    [end({ exitCode: 1 }), NONE, { passed: 3, failed: 0 }, "failed"],
    [end({}), NONE, { passed: 3, failed: 1 }, "failed"],
    [end({}), { outcome: "reward", reward: 0.99 }, null, "failed"],
    [end({}), { outcome: "bad", detail: "x" }, null, "error"],
    [end({ exitCode: 127 }), NONE, null, "error"],
    [end({ exitCode: 126 }), NONE, null, "error"],
    [end({ exitCode: null, signal: "SIGSEGV" }), NONE, null, "failed"],
    [end({ cause: "wall_clock", exitCode: null }), one, null, "failed"],
    [end({ cause: "stopped", exitCode: null }), one, null, "error"],
    [end({ cause: "failed_to_start", exitCode: null }), NONE, null, "error"],
  ] as const;
  for (const [ended, reward, counts, verdict] of rows) {
    const judged = judge(ended, reward, counts, 5_000);
    assert.equal(judged.verdict, verdict, JSON.stringify([ended, reward, counts]));
    assert.equal(judged.reward === null, verdict === "error");
  }
});

test("reward files", () => {
  const reward = (value: number) => ({ outcome: "reward", reward: value });
  assert.deepEqual(readReward(null, null), NONE);
  assert.deepEqual(readReward("1\n", null), reward(1));
  assert.deepEqual(readReward("0.25", '{"reward": 1}'), reward(0.25));
  assert.deepEqual(readReward(null, '{"reward": 1, "other": 0}'), reward(1));
  assert.deepEqual(readReward(null, '{"a": 1, "b": 0.5}'), reward(0.5));
  assert.deepEqual(readReward(null, "1"), reward(1));
  for (const bad of ["", "NaN", "Infinity", "-1", "1.5", "yes"]) {
    assert.equal(readReward(bad, null).outcome, "bad", bad);
  }
  for (const bad of [
    "",
    "{",
    "{}",
    "[]",
    "null",
    '"1"',
    '{"reward": "1"}',
    '{"a": 1, "b": true}',
  ]) {
    assert.equal(readReward(null, bad).outcome, "bad", bad);
  }
});

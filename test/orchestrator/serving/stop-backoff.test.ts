/** Goal: what cannot be ended is tried ever more seldom, and at once when something is new. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { createStopBackoff } from "../../../orchestrator/serving/stop-backoff.ts";

test("each failure doubles the wait, up to five minutes", () => {
  let nowMs = 0;
  const backoff = createStopBackoff(() => nowMs);
  assert.equal(backoff.isHeld("a", "down"), false);
  const waits: number[] = [];
  for (let times = 0; times < 6; times++) {
    backoff.failed("a", "down");
    const fromMs = nowMs;
    while (backoff.isHeld("a", "down")) nowMs += 1_000;
    waits.push(nowMs - fromMs);
  }
  assert.deepEqual(waits, [30_000, 60_000, 120_000, 240_000, 300_000, 300_000]);
});

test("another engine, another wish and another end wait for nothing", () => {
  const backoff = createStopBackoff(() => 0);
  backoff.failed("a", "running");
  const held = () => [
    backoff.isHeld("a", "running"),
    backoff.isHeld("a", "ended"),
    backoff.isHeld("b", "running"),
  ];
  assert.deepEqual(held(), [true, false, false]);
  backoff.ended("a");
  assert.deepEqual(held(), [false, false, false]);
});

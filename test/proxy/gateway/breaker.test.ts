/** Goal: a server that fails is left alone for a while and tried by one call at a time. */
import assert from "node:assert/strict";
import test from "node:test";
import fc from "fast-check";
import { createBreaker } from "../../../proxy/gateway/breaker.ts";

const OPTIONS = { failuresMax: 3, openMs: 100, openMaxMs: 400 };

test("closed, open, half open, and closed again", () => {
  const breaker = createBreaker(OPTIONS);
  for (let failures = 0; failures < 3; failures++) {
    assert.equal(breaker.enter(0), true);
    breaker.failed(0);
  }
  assert.deepEqual([breaker.enter(99), breaker.shutUntilMs(99)], [false, 100]);
  assert.equal(breaker.shutUntilMs(100), null);
  assert.equal(breaker.enter(100), true);
  assert.equal(breaker.enter(100), false, "two tries at once");
  assert.equal(breaker.shutUntilMs(100), 1_100);
  breaker.succeeded();
  assert.deepEqual([breaker.enter(100), breaker.shutUntilMs(100)], [true, null]);
});

test("each opening in a row lasts twice as long, up to a bound", () => {
  const breaker = createBreaker(OPTIONS);
  let nowMs = 0;
  const lasted: number[] = [];
  for (let failures = 0; failures < 3; failures++) breaker.failed(nowMs);
  for (let round = 0; round < 4; round++) {
    const untilMs = breaker.shutUntilMs(nowMs) ?? 0;
    lasted.push(untilMs - nowMs);
    nowMs = untilMs;
    assert.equal(breaker.enter(nowMs), true);
    breaker.failed(nowMs);
  }
  assert.deepEqual(lasted, [100, 200, 400, 400]);
});

test("a success between failures counts them from the start", () => {
  const breaker = createBreaker(OPTIONS);
  for (let round = 0; round < 9; round++) {
    breaker.failed(0);
    breaker.failed(0);
    breaker.succeeded();
  }
  assert.equal(breaker.enter(0), true);
});

test("a try that says nothing leaves room for another", () => {
  const breaker = createBreaker(OPTIONS);
  for (let failures = 0; failures < 3; failures++) breaker.failed(0);
  assert.equal(breaker.enter(100), true);
  breaker.ended();
  assert.equal(breaker.enter(100), true);
});

test("whatever happens: never closed to a server that works, never open for longer than its bound", () => {
  const step = fc.record({
    afterMs: fc.nat(300),
    end: fc.constantFrom("succeeded", "failed", "ended" as const),
  });
  fc.assert(
    fc.property(fc.array(step, { maxLength: 60 }), (steps) => {
      const breaker = createBreaker(OPTIONS);
      let nowMs = 0;
      for (const { afterMs, end } of steps) {
        nowMs += afterMs;
        if (!breaker.enter(nowMs)) {
          const untilMs = breaker.shutUntilMs(nowMs) ?? 0;
          assert.ok(untilMs > nowMs, "shut though its time is over");
          assert.ok(untilMs - nowMs <= OPTIONS.openMaxMs);
          continue;
        }
        if (end === "failed") breaker.failed(nowMs);
        else breaker[end]();
        if (end === "succeeded") assert.equal(breaker.shutUntilMs(nowMs), null);
      }
      assert.equal(breaker.enter(breaker.shutUntilMs(nowMs) ?? nowMs), true);
    }),
  );
});

/**
 * Goal: turns on the GPUs are few, and nobody starves.
 *
 * Method: cases, and a property over random loads with two to four units, step by step.
 */
import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { forecastWaitMs, nextTurn, type Unit } from "../../../orchestrator/serving/swap.ts";

const OPTIONS = { turnMinMs: 100, waitMaxMs: 300 };

function unit(id: string, more: Partial<Unit> = {}): Unit {
  return {
    ...{ id, pair: id, isAwake: false, isSettled: true, isBusy: false },
    ...{ waitingSinceMs: null, isFailed: false, swapMs: 10, ...more },
  };
}

test("two awake at a moment become one: who works, else who is there", () => {
  const at = { nowMs: 0, turnSinceMs: 0 };
  const awake = (id: string, more: Partial<Unit> = {}) => unit(id, { isAwake: true, ...more });
  const busy = awake("b", { isBusy: true });
  assert.equal(nextTurn([awake("a"), busy], at, OPTIONS), "b");
  assert.equal(nextTurn([awake("a", { isSettled: false }), awake("b")], at, OPTIONS), "b");
  assert.equal(nextTurn([awake("a", { isFailed: true }), awake("b")], at, OPTIONS), null);
});

test("idle, a side gives way to the other at once; a pair to another when its swap has paid", () => {
  const at = { nowMs: 1_000, turnSinceMs: 950 };
  const idle = unit("a/normal", { pair: "a", isAwake: true });
  const side = unit("a/thinking", { pair: "a", waitingSinceMs: 990 });
  const other = unit("b", { waitingSinceMs: 0 });
  assert.equal(nextTurn([idle, side], at, OPTIONS), side.id);
  assert.equal(forecastWaitMs([idle, side], side.id, at, OPTIONS), 10);
  assert.equal(nextTurn([idle, other], at, OPTIONS), null);
  assert.equal(forecastWaitMs([idle, other], "b", at, OPTIONS), 50 + 10);
  assert.equal(nextTurn([idle, other], { nowMs: 1_050, turnSinceMs: 950 }, OPTIONS), "b");
  const slow = { ...idle, swapMs: 101 };
  assert.equal(nextTurn([slow, other], { nowMs: 1_050, turnSinceMs: 950 }, OPTIONS), null);
});

test("an idle unit gives way, a busy one after its turn and the other's wait", () => {
  const at = { nowMs: 1_000, turnSinceMs: 0 };
  const waiting = unit("b", { waitingSinceMs: 900 });
  const turn = (more: Partial<Unit>, now = at, other = waiting) =>
    nextTurn([unit("a", { isAwake: true, ...more }), other], now, OPTIONS);
  assert.equal(turn({}), "b");
  assert.equal(turn({}, at, unit("b")), null, "nobody waits");
  assert.equal(turn({ isSettled: false }), null, "in the middle of a change");
  assert.equal(turn({ isBusy: true }), null);
  assert.equal(turn({ isBusy: true }, { nowMs: 1_200, turnSinceMs: 0 }), "b");
  assert.equal(turn({ isBusy: true }, { nowMs: 1_200, turnSinceMs: 1_150 }), null, "a short turn");
  assert.equal(turn({ isBusy: true, swapMs: 400 }, { nowMs: 1_200, turnSinceMs: 0 }), null);
  assert.equal(turn({ isFailed: true, isBusy: true }), "b");
  assert.equal(nextTurn([unit("a"), unit("b")], at, OPTIONS), "a", "nobody is awake");
});

test("a forecast is what is left of the turn, and the swap", () => {
  const at = { nowMs: 1_000, turnSinceMs: 950 };
  const busy = unit("a", { isAwake: true, isBusy: true });
  const units = [busy, unit("b", { waitingSinceMs: 900 }), unit("c", { waitingSinceMs: 950 })];
  assert.equal(forecastWaitMs(units, "a", at, OPTIONS), 0);
  assert.equal(forecastWaitMs(units, "b", at, OPTIONS), 210);
  assert.equal(forecastWaitMs(units, "c", at, OPTIONS), 250 + 10 + 300 + 10);
  assert.equal(forecastWaitMs([unit("a", { isFailed: true })], "a", at, OPTIONS), null);
});

test("whatever is asked, who waits is awake within a bound, and turns are no shorter than said", () => {
  const loads = fc.array(fc.array(fc.boolean(), { minLength: 4, maxLength: 4 }), {
    minLength: 200,
    maxLength: 200,
  });
  fc.assert(
    fc.property(fc.integer({ min: 2, max: 4 }), loads, (count, asks) => {
      const stepMs = 10;
      const since: (number | null)[] = Array.from({ length: count }, () => null);
      const bound = count * (OPTIONS.waitMaxMs + OPTIONS.turnMinMs + 2 * stepMs);
      let awake = 0;
      let turnSinceMs = 0;
      for (const [index, asked] of asks.entries()) {
        const nowMs = index * stepMs;
        for (let id = 0; id < count; id++) {
          if (id !== awake && asked[id] === true) since[id] ??= nowMs;
        }
        const units = since.map((waitingSinceMs, id) =>
          unit(String(id), {
            isAwake: id === awake,
            isBusy: id === awake && asked[id] === true,
            waitingSinceMs,
          }),
        );
        const next = nextTurn(units, { nowMs, turnSinceMs }, OPTIONS);
        if (next !== null) {
          if (asked[awake] === true) assert.ok(nowMs - turnSinceMs >= OPTIONS.turnMinMs);
          awake = Number(next);
          turnSinceMs = nowMs;
          since[awake] = null;
        }
        for (const waitingSince of since) {
          if (waitingSince !== null) assert.ok(nowMs - waitingSince <= bound);
        }
      }
    }),
    { numRuns: 100 },
  );
});

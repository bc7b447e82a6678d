/**
 * Goal: what is awake together is one unit, and who waits longest for it is who it is for; one unit
 * is awake, and none is woken for nothing.
 *
 * Method: cases, and a property over rows in any state.
 */
import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { systemClock } from "../../../orchestrator/runtime/clock.ts";
import { createIds } from "../../../orchestrator/runtime/ids.ts";
import { systemRandom } from "../../../orchestrator/runtime/random.ts";
import { nextTurn } from "../../../orchestrator/serving/swap.ts";
import { unitsOf } from "../../../orchestrator/serving/turns.ts";
import { BROUGHT_UP_AT, serverRow } from "../../support/server-row.ts";

const ids = createIds(systemClock, systemRandom);
const UP_MS = Date.parse(BROUGHT_UP_AT);
const at = (afterMs: number) => new Date(UP_MS + afterMs).toISOString();
const never = () => false;

test("a pair is one unit, the models of one that alternates are two", () => {
  const alternate = { residency: "alternate", swap_ms: 2_000 } as const;
  const rows = [
    serverRow({ pair: "a" }),
    serverRow({ pair: "a", side: "thinking", state: "starting", since: at(50) }),
    serverRow({ pair: "b", plan: alternate, is_awake: false, state: "sleeping" }),
    serverRow({ pair: "b", side: "thinking", plan: alternate, is_awake: false, state: "failed" }),
    serverRow({ pair: "c", is_wanted: false }),
  ];
  const { units, turnSinceMs } = unitsOf(rows, [], never, UP_MS + 100);
  assert.deepEqual(
    units.map(({ id, isAwake, isSettled, isFailed, swapMs }) => [
      ...[id, isAwake, isSettled, isFailed, swapMs],
    ]),
    [
      ["a", true, false, false, 30_000],
      ["b/normal", false, true, false, 2_000],
      ["b/thinking", false, true, true, 2_000],
    ],
  );
  assert.equal(turnSinceMs, UP_MS + 50, "of who came last to those that are awake");
  assert.deepEqual(unitsOf([], [], never, UP_MS), { units: [], turnSinceMs: 0 });
});

test("a unit is busy while one of its engines is", () => {
  const rows = [serverRow({ pair: "a" }), serverRow({ pair: "a", side: "thinking" })];
  const { units } = unitsOf(rows, [], ({ side }) => side === "thinking", UP_MS);
  assert.deepEqual(
    units.map(({ isBusy }) => isBusy),
    [true],
  );
});

test("who has waited longest is who a turn is for", () => {
  const [caller, trialId] = [ids.next("trial"), ids.next("trial")];
  const asked = { asked_at: at(1_000), asked_last_at: at(5_000), asked_by: caller };
  const waits = (
    more: Parameters<typeof serverRow>[0],
    queuedAtMs: number | null,
    nowMs = UP_MS + 6_000,
  ) => {
    const queue = [{ pair: "other", trialId: ids.next("trial"), sinceMs: UP_MS }];
    if (queuedAtMs !== null) queue.push({ pair: "p", trialId, sinceMs: UP_MS + queuedAtMs });
    const [unit] = unitsOf([serverRow({ is_awake: false, ...more })], queue, never, nowMs).units;
    const { waitingSinceMs: sinceMs = null, waitingFor = null } = unit ?? {};
    return [sinceMs === null ? null : sinceMs - UP_MS, waitingFor];
  };
  assert.deepEqual(waits({}, null), [null, null], "nobody");
  assert.deepEqual(waits(asked, null), [1_000, caller]);
  assert.deepEqual(waits(asked, 2_000), [1_000, caller]);
  assert.deepEqual(waits(asked, 500), [500, trialId]);
  assert.deepEqual(waits({ ...asked, has_served: false }, 500), [0, null], "it is to be seen once");
  assert.deepEqual(waits({ is_awake: true }, 500), [null, null], "it is there already");
  assert.deepEqual(waits({ ...asked, state: "failed" }, 500), [null, null], "it does not come");
  // A caller that has not asked again for so long has given up.
  const lateMs = UP_MS + 5_000 + 180_000;
  assert.deepEqual(waits(asked, null, lateMs - 1), [1_000, caller]);
  assert.deepEqual(waits(asked, null, lateMs), [null, null]);
  assert.deepEqual(waits(asked, 500, lateMs), [500, trialId]);
});

test("the line calls for one side of a pair that sleeps, unless one before it has its pair", () => {
  const alternate = { residency: "alternate" } as const;
  const side = (pair: string, is_awake: boolean, state: "sleeping" | "failed" | "ready") => {
    return { pair, is_awake, state, plan: { ...alternate, pair } };
  };
  const line = ["a", "b"].map((pair, index) => {
    return { pair, trialId: ids.next("trial"), sinceMs: UP_MS + index };
  });
  const calledFor = (...rows: Parameters<typeof serverRow>[0][]) =>
    unitsOf(rows.map(serverRow), line.toReversed(), never, UP_MS)
      .units.filter(({ waitingFor }) => waitingFor !== null)
      .map(({ id }) => id);
  const thinking = { side: "thinking" } as const;
  const a = [side("a", false, "sleeping"), { ...side("a", false, "sleeping"), ...thinking }];
  const b = [side("b", false, "sleeping"), { ...side("b", false, "sleeping"), ...thinking }];
  assert.deepEqual(calledFor(...a, ...b), ["a/normal", "b/normal"]);
  assert.deepEqual(calledFor(side("a", false, "failed"), ...a.slice(1)), ["a/thinking"]);
  assert.deepEqual(calledFor(side("a", true, "ready"), ...a.slice(1), ...b), []);
  assert.deepEqual(calledFor(...a, side("b", true, "ready"), ...b.slice(1)), ["a/normal"]);
});

test("a pair of which one model failed gets its turn, and serves with the other", () => {
  const half = [
    serverRow({ pair: "a", is_awake: false, state: "failed", has_served: false }),
    serverRow({ pair: "a", side: "thinking", is_awake: false, state: "sleeping" }),
  ];
  const line = [{ pair: "a", trialId: ids.next("trial"), sinceMs: UP_MS }];
  const rows = [...half, serverRow({ pair: "b" })];
  const { units, turnSinceMs } = unitsOf(rows, line, never, UP_MS);
  const at = { nowMs: UP_MS + 100, turnSinceMs };
  assert.equal(nextTurn(units, at, { turnMinMs: 0, waitMaxMs: 0 }), null, "a swap is to pay");
  const later = { nowMs: UP_MS + 30_000, turnSinceMs };
  assert.equal(nextTurn(units, later, { turnMinMs: 0, waitMaxMs: 0 }), "a");
  const awake = half.map((row) => ({ ...row, is_awake: true }));
  const ready = awake.map((row) =>
    row.state === "failed" ? row : serverRow({ ...row, state: "ready" }),
  );
  const [unit] = unitsOf(ready, line, never, UP_MS).units;
  assert.deepEqual([unit?.isFailed, unit?.isSettled], [false, true]);
});

test("whatever the rows were, without calls one unit is awake after two turns, and stays", () => {
  const pairs = ["a", "b", "c"];
  const row = fc.record({
    pair: fc.constantFrom(...pairs),
    side: fc.constantFrom("normal", "thinking"),
    isAwake: fc.boolean(),
    isFailed: fc.boolean(),
  });
  const line = fc.array(fc.record({ pair: fc.constantFrom(...pairs), sinceMs: fc.nat(1_000) }));
  const residency = fc.constantFrom("together" as const, "alternate" as const);
  fc.assert(
    fc.property(fc.array(row, { minLength: 1 }), line, residency, (given, queued, kept) => {
      let rows = given.map(({ pair, side, isAwake, isFailed }) => {
        const state = isFailed ? "failed" : isAwake ? "ready" : "sleeping";
        return serverRow({ pair, side, state, is_awake: isAwake, plan: { pair, residency: kept } });
      });
      const queue = queued.map(({ pair, sinceMs }) => {
        return { pair, trialId: ids.next("trial"), sinceMs: UP_MS + sinceMs };
      });
      const turns: string[] = [];
      for (let round = 0; round < 8; round++) {
        const nowMs = UP_MS + (round + 1) * 1_000_000;
        const { units, turnSinceMs } = unitsOf(rows, queue, never, nowMs);
        const next = nextTurn(units, { nowMs, turnSinceMs }, { turnMinMs: 10, waitMaxMs: 10 });
        if (next === null) continue;
        turns.push(next);
        const woken = new Set(units.find(({ id }) => id === next)?.rows);
        rows = rows.map((each) => {
          const isAwake = woken.has(each);
          const state = each.state === "failed" ? "failed" : isAwake ? "ready" : "sleeping";
          return { ...each, state, is_awake: isAwake };
        });
      }
      assert.ok(turns.length <= 2, turns.join(" "));
      const { units } = unitsOf(rows, queue, never, UP_MS);
      const usable = units.filter(({ isFailed }) => !isFailed);
      const awake = usable.filter(({ isAwake }) => isAwake);
      assert.equal(awake.length, Math.min(1, usable.length));
    }),
    { numRuns: 300 },
  );
});

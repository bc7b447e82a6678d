/** Goal: what is awake together is one unit, and who waits longest for it is who it is for. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { systemClock } from "../../../orchestrator/runtime/clock.ts";
import { createIds } from "../../../orchestrator/runtime/ids.ts";
import { systemRandom } from "../../../orchestrator/runtime/random.ts";
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
      ["b/thinking", false, false, true, 2_000],
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
    const queue = [{ pair: "other", trialId: ids.next("trial"), sinceMs: 0 }];
    if (queuedAtMs !== null) queue.push({ pair: "p", trialId, sinceMs: UP_MS + queuedAtMs });
    const [unit] = unitsOf([serverRow(more)], queue, never, nowMs).units;
    const { waitingSinceMs: sinceMs = null, waitingFor = null } = unit ?? {};
    return [sinceMs === null ? null : sinceMs - UP_MS, waitingFor];
  };
  assert.deepEqual(waits({}, null), [null, null], "nobody");
  assert.deepEqual(waits(asked, null), [1_000, caller]);
  assert.deepEqual(waits(asked, 2_000), [1_000, caller]);
  assert.deepEqual(waits(asked, 500), [500, trialId]);
  assert.deepEqual(waits({ ...asked, has_served: false }, 500), [0, null], "it is to be seen once");
  // A caller that has not asked again for so long has given up.
  const lateMs = UP_MS + 5_000 + 180_000;
  assert.deepEqual(waits(asked, null, lateMs - 1), [1_000, caller]);
  assert.deepEqual(waits(asked, null, lateMs), [null, null]);
  assert.deepEqual(waits(asked, 500, lateMs), [500, trialId]);
});

/** Goal: each thing that is seen of an engine leads to one next state, whatever came before. */
import assert from "node:assert/strict";
import { test } from "node:test";
import {
  ENGINE_DEFAULTS,
  type EngineView,
  nextStep,
  type Seen,
} from "../../../orchestrator/serving/engine-state.ts";
import { SERVED_DEFAULTS } from "../../../orchestrator/serving/served-models.ts";

const VIEW: EngineView = {
  ...{ state: "ready", detail: "d", isWanted: true, isAwake: true, hasServed: true },
  ...{ restarts: 0, sinceMs: 1_000_000, notBeforeMs: null },
};
const SEEN: Seen = {
  nowMs: 1_100_000,
  condition: { state: "running", startedAtMs: 1_000_000 },
  ...{ answers: true, misses: 0, inFlight: 0, isSleepable: true, gpusHeldBy: null },
};
const ENDED = { state: "ended", exit: "exit status 1", lastLines: ["first", "last"] } as const;
const ABSENT = { state: "absent" } as const;

function step(view: Partial<EngineView>, seen: Partial<Seen> = {}) {
  const { state, action, detail, restarts, hasServed, notBeforeMs } = nextStep(
    { ...VIEW, ...view },
    { ...SEEN, ...seen },
    ENGINE_DEFAULTS,
  );
  return { state, action, detail, restarts, hasServed, notBeforeMs };
}

function brief(view: Partial<EngineView>, seen: Partial<Seen> = {}): string {
  const { state, action } = step(view, seen);
  return `${state} ${action}`;
}

test("it starts when the GPUs are free and its wait is over, and is ready once it answers", () => {
  const starting = { state: "starting", hasServed: false } as const;
  assert.equal(brief(starting, { condition: ABSENT, answers: false }), "starting start");
  const held = step(starting, { condition: ABSENT, gpusHeldBy: "m (p)" });
  assert.deepEqual([held.action, held.detail], [null, "waits until m (p) has left the GPUs"]);
  const waiting = { ...starting, notBeforeMs: SEEN.nowMs + 1 };
  assert.equal(brief(waiting, { condition: ABSENT }), "starting null");
  assert.equal(brief(starting, { answers: false }), "starting null");
  const ready = step(starting);
  assert.deepEqual([ready.state, ready.hasServed], ["ready", true]);
  const late = { nowMs: 1_000_001 + ENGINE_DEFAULTS.startMaxMs, answers: false };
  assert.equal(brief(starting, late), "failed stop");
});

test("an end before its first answer is final, one after it a crash with a growing wait", () => {
  const first = step({ state: "starting", hasServed: false }, { condition: ENDED });
  assert.deepEqual([first.state, first.action], ["failed", "stop"]);
  assert.match(first.detail, /exit status 1.*before it answered; its last lines:\nfirst\nlast/);
  const waits = [0, 1, 2, 3, 4].map((restarts) => {
    const again = step({ restarts }, { condition: ENDED });
    assert.deepEqual([again.state, again.restarts], ["starting", restarts + 1]);
    return (again.notBeforeMs ?? 0) - SEEN.nowMs;
  });
  assert.deepEqual(waits, [2_000, 4_000, 8_000, 16_000, 32_000]);
  assert.equal(brief({ restarts: 5 }, { condition: ENDED }), "failed stop");
  assert.equal(brief({}, { answers: false, misses: 4 }), "ready null");
  assert.equal(step({}, { answers: false, misses: 5 }).restarts, 1);
});

test("crashes are forgotten after a while without one, however short its turns", () => {
  const { steadyMs, startMaxMs } = ENGINE_DEFAULTS;
  const restarts = 3;
  const after = (ms: number, more: Partial<EngineView> = {}) =>
    step({ restarts, ...more }, { nowMs: VIEW.sinceMs + ms }).restarts;
  assert.equal(after(steadyMs - 1), restarts);
  assert.equal(after(steadyMs), 0);
  assert.equal(after(steadyMs, { state: "starting" }), restarts, "it loaded for long");
  const turn = { sinceMs: VIEW.sinceMs + steadyMs + startMaxMs - 1 };
  assert.equal(after(steadyMs + startMaxMs - 1, turn), restarts);
  assert.equal(after(steadyMs + startMaxMs, turn), 0);
});

test("gateways that hear nothing have looked before an engine leaves", () => {
  assert.ok(ENGINE_DEFAULTS.settleMs > SERVED_DEFAULTS.periodMs);
});

test("brought down it drains, ends, and goes; a long call holds it only so long", () => {
  const down = { isWanted: false } as const;
  assert.equal(brief(down), "draining null");
  const draining = { ...down, state: "draining" } as const;
  assert.equal(brief(draining, { inFlight: 1 }), "draining null");
  assert.equal(brief(draining, { inFlight: null }), "draining null");
  assert.equal(brief(draining, { nowMs: VIEW.sinceMs + 1 }), "draining null");
  assert.equal(brief(draining), "draining stop");
  // One miss is no sign that it answers nobody.
  const silent = { answers: false, inFlight: null };
  assert.equal(brief(draining, { ...silent, misses: 4 }), "draining null");
  assert.equal(brief(draining, { ...silent, misses: 5 }), "draining stop");
  const late = { inFlight: 1, nowMs: VIEW.sinceMs + ENGINE_DEFAULTS.drainMaxMs };
  assert.equal(brief(draining, late), "draining stop");
  assert.equal(brief(draining, { condition: ABSENT }), "draining remove");
  assert.equal(brief({ ...down, state: "sleeping" }), "draining stop");
});

test("it gives its turn up by sleeping, or by ending where it cannot sleep, and wakes again", () => {
  const away = { isAwake: false } as const;
  assert.equal(brief(away), "draining null");
  const draining = { ...away, state: "draining" } as const;
  assert.equal(brief(draining, { inFlight: 2 }), "draining null");
  assert.equal(brief(draining), "sleeping sleep");
  assert.equal(brief(draining, { isSleepable: false }), "sleeping stop");
  assert.equal(brief({ ...away, state: "sleeping" }), "sleeping null");
  assert.equal(brief({ ...away, state: "sleeping" }, { condition: ABSENT }), "sleeping null");
  assert.equal(brief({ state: "sleeping" }, { gpusHeldBy: "m" }), "sleeping null");
  assert.equal(brief({ state: "sleeping" }), "starting wake");
  assert.equal(brief({ state: "sleeping" }, { condition: ABSENT }), "starting start");
  assert.equal(brief({ state: "draining" }), "ready null");
});

test("what failed stays so, and leaves nothing running", () => {
  assert.equal(brief({ state: "failed" }), "failed stop");
  assert.equal(brief({ state: "failed" }, { condition: ABSENT }), "failed null");
  assert.equal(
    brief({ state: "failed", isWanted: false }, { condition: ABSENT }),
    "draining remove",
  );
});

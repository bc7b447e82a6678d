/** Goal: calls are told of in batches and recorded; bodies within bounds, and no call lost. */
import assert from "node:assert/strict";
import test from "node:test";
import { createLog } from "../../../orchestrator/runtime/log.ts";
import type { FlowDraft } from "../../../orchestrator/traffic/sink.ts";
import type { FinishedCall } from "../../../proxy/gateway/calls.ts";
import { createRecorder, type RecorderOptions } from "../../../proxy/gateway/recorder.ts";

const OPTIONS: RecorderOptions = { gatherMs: 5, bytesMax: 100, headBytes: 10, callsMax: 3 };

function open(
  state: { isBehind?: boolean; fault?: string; refuses?: boolean; fails?: boolean } = {},
) {
  const told: string[][] = [];
  const kept: FlowDraft[] = [];
  const recorder = createRecorder(
    {
      flows: {
        isBehind: () => state.isBehind === true,
        fault: () => state.fault ?? null,
        append: async (draft) => {
          if (state.refuses === true) throw new Error("the spool is full");
          kept.push(draft);
        },
      },
      log: createLog("silent"),
    },
    (ended) => {
      if (state.fails === true) throw new Error("down");
      told.push(ended.map(({ id }) => id));
    },
    OPTIONS,
  );
  const record = (id: string, request = "ask", isCall = true) => {
    const call = isCall ? ({ id } as { id: string } as FinishedCall) : null;
    recorder.record(call, draft(id, request));
  };
  const bodies = () => kept.map(({ request }) => request?.body?.kept.toString());
  return { state, recorder, record, told, kept, bodies };
}

function draft(id: string, request: string): FlowDraft {
  const body = { kept: Buffer.from(request), byteCount: request.length };
  return { id, request: { body }, response: null } as Partial<FlowDraft> as FlowDraft;
}

test("in batches, in their order: calls are told of, and all is recorded", async () => {
  const { recorder, record, told, bodies } = open();
  for (const id of ["a", "b", "c", "d"]) record(id, id);
  record("refused", "e", false);
  await recorder.drain();
  assert.deepEqual(told, [["a", "b", "c"], ["d"]]);
  assert.deepEqual(bodies(), ["a", "b", "c", "d", "e"]);
});

test("past the bound a body is cut short and says how long it was; then there is room", async () => {
  const { recorder, record, kept, bodies } = open();
  record("a", "x".repeat(90));
  record("b", "y".repeat(20));
  await recorder.drain();
  assert.deepEqual(bodies(), ["x".repeat(90), "y".repeat(10)]);
  assert.equal(kept[1]?.request?.body?.byteCount, 20);
  assert.equal(recorder.cutShort(), 1);
  record("c", "z".repeat(90));
  await recorder.drain();
  assert.deepEqual([bodies().at(-1), recorder.cutShort()], ["z".repeat(90), 1]);
});

test("while the sink is behind, it is given heads of bodies alone", async () => {
  const { recorder, record, bodies } = open({ isBehind: true });
  record("a", "x".repeat(40));
  record("b", "short");
  await recorder.drain();
  assert.deepEqual([bodies(), recorder.cutShort()], [["x".repeat(10), "short"], 1]);
});

test("what the sink refuses is counted, what a listener fails at is not: both hold nothing up", async () => {
  const { state, recorder, record, bodies } = open({ refuses: true });
  record("a");
  await recorder.drain();
  assert.deepEqual([bodies(), recorder.lost()], [[], 1]);
  Object.assign(state, { refuses: false, fails: true });
  record("b", "x".repeat(99));
  await recorder.drain();
  assert.deepEqual([bodies(), recorder.lost(), recorder.cutShort()], [["x".repeat(99)], 1, 0]);
});

test("where there is no sink, calls are told of all the same", async () => {
  const told: string[] = [];
  const recorder = createRecorder({ flows: null, log: createLog("silent") }, (ended) => {
    told.push(...ended.map(({ id }) => id));
  });
  recorder.record({ id: "call_a" } as Partial<FinishedCall> as FinishedCall, null);
  await recorder.drain();
  assert.deepEqual(told, ["call_a"]);
});

test("it says why what passes now would not be recorded whole", async () => {
  const { state, recorder, record } = open();
  assert.equal(recorder.fault(), null);
  state.fault = "the disk is full";
  assert.equal(recorder.fault(), "the disk is full");
  state.isBehind = true;
  assert.match(recorder.fault() ?? "", /more waits/);
  state.isBehind = false;
  delete state.fault;
  record("a", "x".repeat(200));
  await recorder.drain();
  assert.equal(recorder.fault(), null);
  const none = createRecorder({ flows: null, log: createLog("silent") }, () => undefined);
  assert.match(none.fault() ?? "", /no record/);
});

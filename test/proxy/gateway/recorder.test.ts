/** Goal: calls are recorded in batches and none is lost of the tale; bodies within their bounds. */
import assert from "node:assert/strict";
import test from "node:test";
import { gunzipSync } from "node:zlib";
import { createLog } from "../../../orchestrator/runtime/log.ts";
import type { CallBodies, FinishedCall } from "../../../proxy/gateway/calls.ts";
import { createRecorder, type RecorderOptions } from "../../../proxy/gateway/recorder.ts";

const OPTIONS: RecorderOptions = {
  gatherMs: 5,
  bytesMax: 100,
  bytesPerSecondMax: 1_000_000,
  callsMax: 3,
};

function open(fail: { attach?: boolean; told?: boolean } = {}, options = OPTIONS) {
  const told: string[][] = [];
  const kept: CallBodies[][] = [];
  const recorder = createRecorder(
    {
      calls: {
        attach: async (bodies) => {
          if (fail.attach === true) throw new Error("down");
          kept.push([...bodies]);
        },
      },
      log: createLog("silent"),
    },
    (ended) => {
      if (fail.told === true) throw new Error("down");
      told.push(ended.map(({ id }) => id));
    },
    options,
  );
  const record = (id: string, request: string | null = "ask", response: string | null = "say") =>
    recorder.record({
      call: { id } as Partial<FinishedCall> as FinishedCall,
      request: request === null ? null : Buffer.from(request),
      response: response === null ? null : Buffer.from(response),
    });
  return { recorder, record, told, kept };
}

const text = (gzip: Buffer | null | undefined) => gzip && gunzipSync(gzip).toString();

test("in batches, in their order, told of and kept", async () => {
  const { recorder, record, told, kept } = open();
  for (const id of ["a", "b", "c", "d"]) record(id);
  record("e", null, null);
  await recorder.drain();
  assert.deepEqual(told, [
    ["a", "b", "c"],
    ["d", "e"],
  ]);
  assert.deepEqual(
    kept.map((bodies) => bodies.map(({ callId }) => callId)),
    [["a", "b", "c"], ["d"]],
  );
  assert.deepEqual(
    [text(kept[0]?.[0]?.requestGzip), text(kept[0]?.[0]?.responseGzip)],
    ["ask", "say"],
  );
  record("f", null, "only");
  await recorder.drain();
  assert.deepEqual([kept[2]?.[0]?.requestGzip, text(kept[2]?.[0]?.responseGzip)], [null, "only"]);
});

test("bodies past the bound are given up, their calls are told of; then there is room again", async () => {
  const { recorder, record, told, kept } = open();
  record("a", "x".repeat(90), null);
  record("b", "y".repeat(20), null);
  await recorder.drain();
  assert.deepEqual([told.flat(), kept.flat().length, recorder.dropped()], [["a", "b"], 1, 1]);
  record("c", "z".repeat(90), null);
  await recorder.drain();
  assert.deepEqual([kept.flat().length, recorder.dropped()], [2, 1]);
});

test("no more is taken than can be compressed beside the calls", async () => {
  const { recorder, record, kept } = open({}, { ...OPTIONS, bytesPerSecondMax: 5 });
  record("a", "x".repeat(40), null);
  record("b", "y".repeat(40), null);
  await recorder.drain();
  assert.deepEqual([kept.flat().length, recorder.dropped()], [1, 1]);
});

test("what fails is not tried again, and holds nothing up", async () => {
  for (const fail of [{ attach: true }, { told: true }]) {
    const { recorder, record } = open(fail);
    record("a");
    await recorder.drain();
    record("b", "x".repeat(99), null);
    await recorder.drain();
    assert.equal(recorder.dropped(), 0, "what failed is not counted as waiting");
  }
});

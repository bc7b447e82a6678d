/**
 * Goal: every event that matters arrives in order, whatever is lost on the way, in bounded memory.
 */
import assert from "node:assert/strict";
import { test } from "node:test";
import type { WorkerEvent } from "../../orchestrator/contract/events.ts";
import { createOutbox } from "../../worker-agent/outbox.ts";

const clock = { now: () => 1_700_000_000_000 };

test("an acknowledgement of a part brings the rest again", async () => {
  const batches: number[][] = [];
  const outbox = createOutbox(clock, async (events) => {
    batches.push(events.map(({ cursor }) => cursor));
    return batches.length === 1 ? 2 : (events.at(-1)?.cursor ?? 0);
  });
  for (const text of ["a", "b", "c", "d"]) outbox.emit("agent.message", { text });
  await outbox.flush();
  assert.deepEqual(batches, [
    [1, 2, 3, 4],
    [3, 4],
  ]);
});

test("batches hold at most 500 events", async () => {
  const sizes: number[] = [];
  const outbox = createOutbox(clock, async (events) => {
    sizes.push(events.length);
    return events.at(-1)?.cursor ?? 0;
  });
  for (let index = 0; index < 1_200; index++) outbox.emit("agent.usage", { index });
  await outbox.flush();
  assert.deepEqual(sizes, [500, 500, 200]);
});

test("past its limit the agent's chatter is dropped and counted; what decides is not", async () => {
  const sent: WorkerEvent[] = [];
  const send = async (events: readonly WorkerEvent[]) => {
    sent.push(...events);
    return events.at(-1)?.cursor ?? 0;
  };
  const outbox = createOutbox(clock, send, { unsentMax: 3 });
  for (let index = 0; index < 10; index++) outbox.emit("agent.message", { index });
  outbox.emit("phase.ended", { phase: "execute" });
  outbox.emit("agent.message", { late: true });
  await outbox.flush();
  assert.equal(outbox.droppedCount(), 8);
  assert.deepEqual(
    sent.map(({ cursor, type, data }) => [cursor, type, data["message"] ?? data["index"]]),
    [
      [1, "agent.message", 0],
      [2, "agent.message", 1],
      [3, "agent.message", 2],
      [4, "trial.note", "7 agent events were dropped: they came too fast"],
      [5, "phase.ended", undefined],
      [6, "trial.note", "1 agent events were dropped: they came too fast"],
    ],
  );
});

test("long texts are cut, and what is large all the same is left out", async () => {
  const sent: WorkerEvent[] = [];
  const outbox = createOutbox(clock, async (events) => {
    sent.push(...events);
    return events.at(-1)?.cursor ?? 0;
  });
  outbox.emit("agent.tool_result", { text: "x".repeat(40_000) });
  outbox.emit("agent.tool_call", { name: "write", arguments: { content: "x".repeat(200_000) } });
  await outbox.flush();
  assert.match(String(sent[0]?.data["text"]), /x… \(8000 characters more\)$/);
  assert.deepEqual(Object.keys(sent[1]?.data ?? {}), ["name", "left_out_bytes"]);
});

test("a failure to send is thrown by flush", async () => {
  const outbox = createOutbox(clock, async () => {
    throw new Error("fenced");
  });
  outbox.emit("agent.message", { text: "a" });
  await assert.rejects(outbox.flush(), /fenced/);
});

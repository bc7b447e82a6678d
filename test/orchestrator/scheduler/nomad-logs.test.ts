/** Goal: a task's output is read whole and once, however its stream is cut into pieces or off. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { createLog } from "../../../orchestrator/runtime/log.ts";
import { openNomadScheduler } from "../../../orchestrator/scheduler/nomad.ts";
import { jsonObjects } from "../../../orchestrator/scheduler/nomad-logs.ts";
import { eventually } from "../../support/eventually.ts";
import { nomadClient, nomadOptions, openNomadWorld } from "../../support/nomad.ts";
import { PRINTED, placement, settled } from "./conformance.ts";

test("objects are found whatever is in and between them, wherever the stream is cut", async () => {
  const objects = ['{"Data":"e30="}', "{}", '{"a":{"b":"}{\\"\\\\"}}', '{"é":"✓"}'];
  const bytes = Buffer.from(`${objects[0]}${objects[1]}\n ${objects[2]}${objects[3]}`);
  for (let size = 1; size <= bytes.length; size += 1) {
    const pieces = async function* () {
      for (let at = 0; at < bytes.length; at += size) yield bytes.subarray(at, at + size);
    };
    assert.deepEqual(await Array.fromAsync(jsonObjects(pieces())), objects, `pieces of ${size}`);
  }
});

test("what an ended task printed is read to its end, not followed for ever", async () => {
  await using world = await openNomadWorld();
  const { scheduler, nomad } = world;
  const done = placement("wait");
  await scheduler.place(done);
  await eventually(
    () => [...nomad.state.allocations.values()].map(({ log }) => log.stdout + log.stderr).join(""),
    (text) => PRINTED.every((line) => text.includes(line)),
  );
  await scheduler.stop(done.allocationId);
  await settled(scheduler, done.allocationId);
  for (const isFollowed of [true, false]) {
    const text = await read(scheduler, done.allocationId, isFollowed);
    assert.deepEqual(text.trim().split("\n").toSorted(), PRINTED.toSorted());
  }
  nomad.state.gc();
  await using next = openNomadScheduler(
    nomadClient(nomad.address),
    nomadOptions(world.folder.path),
    createLog("silent"),
  );
  const { signal } = new AbortController();
  assert.equal(await next.logs(done.allocationId, { isFollowed: true, signal }), null);
});

test("a followed log waits for its task, goes on after a cut, ends when told", async () => {
  await using world = await openNomadWorld({ stub: { nodes: [{ name: "one", slots: 1 }] } });
  const { scheduler, nomad } = world;
  const [first, waiting] = [placement("wait"), placement("wait")];
  await scheduler.place(first);
  await scheduler.place(waiting);
  const controller = new AbortController();
  const { signal } = controller;
  const opening = scheduler.logs(waiting.allocationId, { isFollowed: true, signal });
  nomad.fail({ match: /fs\/logs/, status: 500, text: "rpc error: EOF", times: 2 });
  await scheduler.stop(first.allocationId);
  let text = "";
  for await (const bytes of (await opening) ?? []) {
    text += Buffer.from(bytes).toString("utf8");
    if (PRINTED.every((line) => text.includes(line))) controller.abort();
  }
  assert.deepEqual(text.trim().split("\n").toSorted(), PRINTED.toSorted());
  assert.equal(await scheduler.status(waiting.allocationId), "running");
});

async function read(
  scheduler: ReturnType<typeof openNomadScheduler>,
  id: Parameters<typeof scheduler.logs>[0],
  isFollowed: boolean,
): Promise<string> {
  const { signal } = new AbortController();
  const printed = await scheduler.logs(id, { isFollowed, signal });
  const parts = await Array.fromAsync(printed ?? []);
  return Buffer.concat(parts).toString("utf8");
}

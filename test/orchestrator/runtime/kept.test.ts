/** Goal: one load for those who ask at once or soon after; none is kept that failed or is old. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { createKept } from "../../../orchestrator/runtime/kept.ts";

test("kept for its time, by key; set the clock back, and it is loaded again", async () => {
  const clock = { ms: 5_000, now: () => clock.ms };
  const loads: string[] = [];
  const read = createKept(
    async (key: string) => {
      loads.push(key);
      return `${key}${loads.length}`;
    },
    1_000,
    clock,
  );
  assert.deepEqual(await Promise.all([read("a"), read("a"), read("b")]), ["a1", "a1", "b2"]);
  clock.ms += 999;
  assert.equal(await read("a"), "a1");
  clock.ms += 1;
  assert.equal(await read("a"), "a3");
  clock.ms -= 3_000;
  assert.equal(await read("a"), "a4");
});

test("a load that fails is tried again by who asks next", async () => {
  let tries = 0;
  const read = createKept(
    async () => {
      tries++;
      if (tries === 1) throw new Error("down");
      return tries;
    },
    1_000,
    { now: () => 0 },
  );
  await assert.rejects(read("a"), /down/);
  assert.equal(await read("a"), 2);
});

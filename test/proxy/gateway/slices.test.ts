/** Goal: output is reached only when reserved, extensions come ahead of it, and each is kept. */
import assert from "node:assert/strict";
import test from "node:test";
import fc from "fast-check";
import type { TransferId } from "../../../orchestrator/runtime/ids.ts";
import type { HeldReservation } from "../../../proxy/gateway/reservations.ts";
import { createSlices, type ReserveOutput } from "../../../proxy/gateway/slices.ts";

const held = (at: number, tokens: number): HeldReservation => ({
  pendingId: `transfer_${at}` as TransferId,
  unit: "money",
  amount: BigInt(tokens),
});

/** A budget for so many tokens, which answers at once or when `gate` says. */
function budget(tokens: number, gate = Promise.resolve()) {
  const asked: number[] = [];
  let left = tokens;
  const reserve: ReserveOutput = async (wanted, least) => {
    asked.push(wanted);
    await gate;
    const outputTokens = Math.min(wanted, left);
    if (outputTokens < least) return null;
    left -= outputTokens;
    return { reservations: [held(asked.length, outputTokens)], outputTokens };
  };
  return { asked, reserve };
}

test("a long answer doubles what is reserved, ahead of itself", async () => {
  const { asked, reserve } = budget(1_000_000);
  const slices = createSlices(reserve, [held(0, 1_024)], 1_024, 30_000);
  for (let tokens = 0; tokens <= 30_000; tokens++) {
    assert.ok(slices.reach(tokens, true), `${tokens} of ${slices.paidTokens()}`);
    await slices.decided();
    assert.ok(slices.paidTokens() <= Math.max(1_024, 4 * tokens), `${tokens}`);
  }
  assert.deepEqual(asked, [1_024, 2_048, 4_096, 8_192, 13_616]);
  assert.equal(slices.paidTokens(), 30_000);
  assert.equal((await slices.close()).length, 6);
});

test("a short answer asks for nothing more", async () => {
  const { asked, reserve } = budget(1_000);
  const slices = createSlices(reserve, [held(0, 1_024)], 1_024, 30_000);
  for (let tokens = 0; tokens <= 512; tokens++) assert.ok(slices.reach(tokens, true));
  assert.deepEqual(asked, []);
  assert.deepEqual(await slices.close(), [held(0, 1_024)]);
});

test("a budget that is short gives what it has, then refuses, and is asked a few times only", async () => {
  const { asked, reserve } = budget(100);
  const slices = createSlices(reserve, [held(0, 1_024)], 1_024, 30_000);
  let reached = 0;
  for (; slices.reach(reached + 1, true); reached++) await slices.decided();
  assert.equal(reached, 1_124);
  assert.ok(asked.length <= 12, `${asked.length} times`);
  const all = await slices.close();
  assert.equal(
    all.reduce((sum, { amount }) => sum + amount, 0n),
    1_124n,
  );
});

test("an extension under way is waited for, and kept though the answer is over", async () => {
  const gate = Promise.withResolvers<void>();
  const { asked, reserve } = budget(9_000, gate.promise);
  const slices = createSlices(reserve, [held(0, 1_024)], 1_024, 4_000);
  assert.equal(slices.reach(600, true), true);
  assert.equal(slices.reach(1_025, true), false);
  assert.deepEqual(asked, [1_024], "asked twice at once");
  const closing = slices.close();
  gate.resolve();
  assert.equal((await closing).length, 2);
  assert.equal(slices.reach(2_048, true), true);
  assert.equal(slices.reach(2_049, true), false);
  assert.equal(asked.length, 1, "asked after the end");
});

test("a count of bytes does not cut an answer whose whole ceiling is reserved", async () => {
  const { reserve } = budget(1_000_000);
  const slices = createSlices(reserve, [held(0, 1_024)], 1_024, 2_000);
  for (let bytes = 0; bytes <= 8_000; bytes += 10) {
    if (!slices.reach(bytes, false)) await slices.decided();
    assert.ok(slices.reach(bytes, false), `${bytes}`);
  }
  assert.equal(slices.paidTokens(), 2_000);
  assert.equal(slices.reach(2_001, true), false, "the server's own count is over its ceiling");
  assert.equal(slices.reach(1_000_000, false), false, "a server without end");
});

test("whatever the budget and the steps, what is reached is reserved", async () => {
  const steps = fc.array(fc.integer({ min: 1, max: 900 }), { maxLength: 60 });
  await fc.assert(
    fc.asyncProperty(fc.nat(20_000), fc.integer({ min: 1, max: 20_000 }), steps, async (...it) => {
      const [tokens, ceiling, sizes] = it;
      const first = Math.min(1_024, ceiling);
      const slices = createSlices(budget(tokens).reserve, [held(0, first)], first, ceiling);
      let generated = 0;
      for (const size of sizes) {
        if (!slices.reach(generated + size, true)) {
          await slices.decided();
          if (generated + size > slices.paidTokens()) break;
        }
        generated += size;
      }
      const sum = (await slices.close()).reduce((total, { amount }) => total + amount, 0n);
      assert.equal(BigInt(slices.paidTokens()), sum);
      assert.ok(generated <= slices.paidTokens() && slices.paidTokens() <= ceiling);
    }),
  );
});

/** Group commit by itself: who is served with whom, and when. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { createGroupCommit } from "../../../orchestrator/ledger/group-commit.ts";

class ItemFault extends Error {}

/** Serves numbers, doubled; each flush is held until `next` is called. */
function openGroup(itemsMax = 10) {
  const flushes: number[][] = [];
  const held: (() => void)[] = [];
  const serve = async (items: readonly number[]) => {
    flushes.push([...items]);
    await new Promise<void>((resolve) => held.push(resolve));
    if (items.includes(-1)) throw new ItemFault("not this one");
    if (items.includes(-2)) throw new Error("the server is gone");
    return items.map((item) => 2 * item);
  };
  const submit = createGroupCommit<number, number>({
    one: async (item) => (await serve([item]))[0] ?? 0,
    many: serve,
    isItemFault: (error) => error instanceof ItemFault,
    itemsMax,
  });
  return { submit, flushes, next };

  /** Lets the flush in flight go, and what comes of it settle. */
  async function next(): Promise<void> {
    held.shift()?.();
    for (let turn = 0; turn < 20; turn++) await Promise.resolve();
  }
}

test("a lone item is served at once, and those that come meanwhile together", async () => {
  const { submit, flushes, next } = openGroup();
  const first = submit(1);
  assert.deepEqual(flushes, [[1]]);
  const others = [submit(2), submit(3), submit(4)];
  assert.deepEqual(flushes, [[1]]);
  await next();
  assert.equal(await first, 2);
  assert.deepEqual(flushes, [[1], [2, 3, 4]]);
  await next();
  assert.deepEqual(await Promise.all(others), [4, 6, 8]);
  const last = submit(5);
  assert.deepEqual(flushes.at(-1), [5]);
  await next();
  assert.equal(await last, 10);
});

test("no more than so many at once", async () => {
  const { submit, flushes, next } = openGroup(2);
  const all = [1, 2, 3, 4].map(submit);
  for (let flush = 0; flush < 3; flush++) await next();
  assert.deepEqual(await Promise.all(all), [2, 4, 6, 8]);
  assert.deepEqual(flushes, [[1], [2, 3], [4]]);
});

test("one that is faulty fails alone; a fault of nobody's fails all that were with it", async () => {
  const { submit, flushes, next } = openGroup();
  const first = submit(1);
  const faulty = Promise.allSettled([submit(2), submit(-1), submit(3)]);
  for (let flush = 0; flush < 5; flush++) await next();
  assert.equal(await first, 2);
  assert.deepEqual(
    (await faulty).map(({ status }) => status),
    ["fulfilled", "rejected", "fulfilled"],
  );
  assert.deepEqual(flushes, [[1], [2, -1, 3], [2], [-1], [3]]);

  const again = submit(1);
  const gone = Promise.allSettled([submit(-2), submit(3)]);
  for (let flush = 0; flush < 2; flush++) await next();
  assert.equal(await again, 2);
  assert.deepEqual(
    (await gone).map(({ status }) => status),
    ["rejected", "rejected"],
  );
});

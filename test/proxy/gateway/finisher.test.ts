/** Goal: a settlement is tried until it is written, and given up only at the close. */
import assert from "node:assert/strict";
import test from "node:test";
import { createLog } from "../../../orchestrator/runtime/log.ts";
import type { Calls, FinishedCall } from "../../../proxy/gateway/calls.ts";
import { createFinisher } from "../../../proxy/gateway/finisher.ts";
import { eventually } from "../../support/eventually.ts";
import { openTestLedger } from "../../support/ledger.ts";

const BALANCE = { fundedNanos: 9n, reservedNanos: 0n, spentNanos: 4n, availableNanos: 5n };
const FINISHED = { outcome: "finished", balance: BALANCE } as const;
const CALL = { id: "call_1" } as Partial<FinishedCall> as FinishedCall;

async function open(failures: number) {
  const { ledger, ids, ...fixture } = await openTestLedger();
  let tries = 0;
  const calls: Calls = {
    finish: async () => {
      tries++;
      if (tries <= failures) throw new Error("down");
      return FINISHED;
    },
  };
  const finisher = createFinisher({ calls, ledger, ids, log: createLog("silent") });
  return {
    ...fixture,
    ledger,
    ids,
    finisher,
    tries: () => tries,
    [Symbol.asyncDispose]: () => fixture[Symbol.asyncDispose](),
  };
}

test("written at once, or as soon as it can be", async () => {
  await using world = await open(0);
  assert.deepEqual(await world.finisher.finish(CALL), FINISHED);
  await using failing = await open(2);
  const finishing = failing.finisher.finish(CALL);
  assert.equal(failing.finisher.pending(), 1);
  assert.deepEqual(await finishing, FINISHED);
  assert.deepEqual([failing.tries(), failing.finisher.pending()], [3, 0]);
});

test("the close gives up in time", async () => {
  await using world = await open(Number.POSITIVE_INFINITY);
  const finishing = world.finisher.finish(CALL);
  await world.finisher.drain(50);
  assert.equal(await finishing, null);
  assert.equal(world.finisher.pending(), 0);
});

test("a reservation that may exist is released if it does", async () => {
  await using world = await open(0);
  const { budget, spend } = await world.openBudget(10n);
  const id = world.ids.next("transfer");
  await world.ledger.reserve({ id, budget, within: [], spend, amountNanos: 10n, timeoutMs: 1_000 });
  world.finisher.forget(id);
  world.finisher.forget(world.ids.next("transfer"));
  await world.finisher.drain(10_000);
  assert.equal((await world.ledger.balance(budget))?.reservedNanos, 0n);
});

test("a reservation that is made after it was looked for is released all the same", async () => {
  await using world = await open(0);
  const { budget, spend } = await world.openBudget(10n);
  const id = world.ids.next("transfer");
  const looks: string[] = [];
  const release: typeof world.ledger.release = async (given) => {
    const result = await world.ledger.release(given);
    looks.push(result.outcome);
    if (looks.length === 1) {
      const path = { budget, within: [], spend };
      await world.ledger.reserve({ id, ...path, amountNanos: 10n, timeoutMs: 60_000 });
    }
    return result;
  };
  const { ids } = world;
  const calls = {} as Calls;
  const log = createLog("silent");
  const finisher = createFinisher({ calls, ledger: { release }, ids, log });
  finisher.forget(id);
  await eventually(
    () => looks.length,
    (count) => count === 2,
  );
  assert.deepEqual(looks, ["reservation_not_found", "released"]);
  assert.equal((await world.ledger.balance(budget))?.reservedNanos, 0n);
  await finisher.drain(1_000);
});

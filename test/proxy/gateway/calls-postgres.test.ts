/** Goal: a call's row and its money are one: both or neither, once. */
import assert from "node:assert/strict";
import test from "node:test";
import type { FinishedCall } from "../../../proxy/gateway/calls.ts";
import { createPostgresCalls } from "../../../proxy/gateway/calls-postgres.ts";
import { NO_USAGE } from "../../../proxy/gateway/usage.ts";
import { openTestGateway } from "../../support/gateway.ts";

async function open() {
  const world = await openTestGateway();
  const { ids, ledger, budget, spend, grant, keyId, database } = world;
  const calls = createPostgresCalls(database, ledger);
  const pendingId = ids.next("transfer");
  const resolutionId = ids.next("transfer");
  const amountNanos = 100n;
  await ledger.reserve({
    id: pendingId,
    budget,
    spend,
    within: [],
    amountNanos,
    timeoutMs: 60_000,
  });
  const call: FinishedCall = {
    id: ids.next("call"),
    trialId: grant.trialId,
    keyId,
    transferId: pendingId,
    tokenTransferId: null,
    reservations: [{ pendingId, unit: "money", resolutionId, settledAmount: 40n }],
    resolution: "settle",
    wire: "openai.chat",
    side: "normal",
    model: "m",
    modelRequested: "normal",
    provider: "test",
    priceVersion: "m@1",
    reservedNanos: amountNanos,
    costNanos: 40n,
    usage: { ...NO_USAGE, outputTokens: 20 },
    isEstimated: false,
    gpuMs: 7,
    attempts: [{ provider: "other", status: 503, error: "cut \u0000" }],
    status: 200,
    error: "x".repeat(5_000),
    startedAtMs: 0,
    firstByteAtMs: null,
    endedAtMs: 1,
  };
  const books = async () => {
    const balance = await ledger.balance(budget);
    const rows = await world.calls();
    return {
      reserved: balance?.reservedNanos,
      spent: balance?.spentNanos,
      costs: rows.map((row) => row.cost_nanos),
    };
  };
  return { world, calls, call, books, [Symbol.asyncDispose]: () => world[Symbol.asyncDispose]() };
}

test("settled once, however often it is said, also at once", async () => {
  await using fixture = await open();
  const { calls, call, books } = fixture;
  const results = await Promise.all(Array.from({ length: 8 }, () => calls.finish(call)));
  const outcomes = results.map(({ outcome }) => outcome).sort();
  assert.deepEqual(outcomes, [...Array(7).fill("already_finished"), "finished"]);
  assert.deepEqual(await books(), { reserved: 0n, spent: 40n, costs: ["40"] });
});

test("released", async () => {
  await using fixture = await open();
  const { calls, call, books } = fixture;
  const reservations = call.reservations.map((one) => ({ ...one, settledAmount: null }));
  await calls.finish({ ...call, resolution: "release", reservations, costNanos: 0n });
  assert.deepEqual(await books(), { reserved: 0n, spent: 0n, costs: ["0"] });
});

test("a row that cannot be written leaves the money held", async () => {
  await using fixture = await open();
  const { calls, call, books } = fixture;
  await assert.rejects(calls.finish({ ...call, provider: "" }));
  const reservations = call.reservations.map((one) => ({ ...one, settledAmount: 101n }));
  await assert.rejects(calls.finish({ ...call, reservations }));
  assert.deepEqual(await books(), { reserved: 100n, spent: 0n, costs: [] });
});

test("a reservation that had expired is corrected to what the call cost", async () => {
  await using fixture = await open();
  const { world, calls, call, books } = fixture;
  await world.expire();
  assert.equal((await calls.finish(call)).outcome, "corrected");
  assert.deepEqual(await books(), { reserved: 0n, spent: 40n, costs: ["40"] });
});

test("a server's error that the database cannot keep does not keep the call from ending", async () => {
  await using opened = await open();
  const { calls, call, books, world } = opened;
  const finished = await calls.finish({ ...call, error: "cut \u0000 here" });
  assert.equal(finished.outcome, "finished");
  assert.deepEqual(await books(), { reserved: 0n, spent: 40n, costs: ["40"] });
  const [row] = await world.calls();
  assert.equal(row?.error, "cut \ufffd here");
});

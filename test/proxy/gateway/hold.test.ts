/** Goal: a hold takes what is wished for, else what is affordable, else says why it is not. */
import assert from "node:assert/strict";
import test from "node:test";
import type { TransferId } from "../../../orchestrator/runtime/ids.ts";
import { type HoldRequest, holdCall } from "../../../proxy/gateway/hold.ts";
import { openTestLedger } from "../../support/ledger.ts";

const RATES = {
  inputNanos: 1_000_000n,
  cacheReadNanos: 0n,
  cacheWriteNanos: 0n,
  longCacheWriteNanos: 0n,
  outputNanos: 2_000_000n,
};
const WISH = {
  wire: "openai.chat",
  rates: RATES,
  inputTokens: 97,
  outputTokens: 200,
  outputTokensMin: 10,
  choices: 1,
  echoedTokens: 0,
  tokens: null,
  timeoutMs: 60_000,
} as const;

async function open(fundedNanos: bigint) {
  const fixture = await openTestLedger();
  const account = await fixture.openBudget(fundedNanos);
  const uncertain: TransferId[] = [];
  const hold = (more: Partial<HoldRequest> = {}, ledger = fixture.ledger) =>
    holdCall(
      { ledger, ids: fixture.ids, onUncertain: (id) => void uncertain.push(id) },
      { ...WISH, ...account, ...more },
    );
  return {
    ...fixture,
    ...account,
    uncertain,
    hold,
    [Symbol.asyncDispose]: () => fixture[Symbol.asyncDispose](),
  };
}

test("what is wished for", async () => {
  await using world = await open(500n);
  const held = await world.hold();
  assert.deepEqual(
    [held.outcome, "reservations" in held && held.reservations[0]?.amount],
    ["held", 500n],
  );
});

test("what is affordable, of each answer", async () => {
  await using world = await open(499n);
  const held = await world.hold();
  assert.equal(held.outcome === "held" && held.outputTokens, 199);
  await using two = await open(499n);
  const both = await two.hold({ choices: 2 });
  assert.equal(both.outcome === "held" && both.outputTokens, 99);
});

test("not under the floor: gone when nobody holds it, busy when somebody does", async () => {
  await using world = await open(119n);
  assert.deepEqual(await world.hold(), {
    outcome: "budget_gone",
    unit: "money",
    budget: world.budget,
    requiredNanos: 120n,
    availableNanos: 119n,
  });
  await using busy = await open(500n);
  assert.equal((await busy.hold()).outcome, "held");
  assert.equal((await busy.hold()).outcome, "busy");
});

test("the enclosing budget that is short is the one that is named", async () => {
  await using world = await open(1_000n);
  const project = await world.openBudget(300n);
  const held = await world.hold({ within: [project.budget] });
  assert.equal(held.outcome === "held" && held.reservations[0]?.amount, 300n);
  const refused = await world.hold({ within: [project.budget], inputTokens: 400 });
  assert.equal(refused.outcome === "budget_gone" && refused.budget, project.budget);
});

test("a statement that failed may have been made all the same: its id is told", async () => {
  await using world = await open(500n);
  const failing = { ...world.ledger, reserve: () => Promise.reject(new Error("cut")) };
  await assert.rejects(world.hold({}, failing), /cut/);
  assert.equal(world.uncertain.length, 1);
});

/**
 * Goal: settled + held stays within the limit whatever is asked at once, a budget that is gone
 * stops its key at once, and the agent is told in its own words.
 */
import assert from "node:assert/strict";
import test from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import type { GatewayHooks } from "../../../proxy/gateway/gateway.ts";
import { eventually } from "../../support/eventually.ts";
import { openTestGateway, sendJson } from "../../support/gateway.ts";

test("a budget that is gone refuses in each dialect, once told, and nothing is forwarded", async () => {
  const told: string[] = [];
  const hooks: GatewayHooks = {
    onBudgetExhausted: (grant, { requiredNanos, availableNanos }) => {
      told.push(`${grant.trialId} ${requiredNanos} ${availableNanos}`);
    },
    onRefusal: (refusal) => void told.push(refusal.code),
  };
  await using world = await openTestGateway({ fundedNanos: 500n, hooks });
  const chat = await world.chat();
  assert.equal(chat.status, 403);
  assert.equal(chat.headers.get("x-should-retry"), "false");
  const { error } = await chat.json();
  assert.equal(error.code, "budget_exceeded");
  assert.equal(error.available_nanos, "500");
  assert.ok(BigInt(error.required_nanos) > 500n);
  assert.match(error.message, /available/);

  const messages = await world.post("/v1/messages", { model: "normal", max_tokens: 10 });
  assert.equal(messages.status, 403);
  const envelope = await messages.json();
  assert.equal(envelope.type, "error");
  assert.equal(envelope.error.type, "permission_error");
  assert.equal(envelope.error.code, "budget_exceeded");
  assert.deepEqual(world.models.requests, []);
  await world.gateway.close(1_000);
  assert.deepEqual(
    told.sort(),
    [
      `${world.grant.trialId} ${error.required_nanos} 500`,
      "budget_exceeded",
      "budget_exceeded",
    ].sort(),
  );
});

test("after the first refusal not even a call that fits is forwarded, until it is topped up", async () => {
  await using world = await openTestGateway({ fundedNanos: 4_000n });
  const large = { messages: [{ role: "user", content: "x".repeat(5_000) }] };
  assert.equal((await world.chat(large)).status, 403);
  assert.equal((await world.chat({ max_tokens: 10 })).status, 403);
  // By any process, of which this one hears nothing.
  const account = { id: world.ids.next("account"), owner: "test/more", currency: "CAD" };
  const from = await world.ledger.open({ ...account, kind: "funding", mustNotExceed: false });
  const more = { from, to: world.budget, amountNanos: 10_000n, reason: "top-up" };
  await world.ledger.fund({ id: world.ids.next("transfer"), ...more });
  await eventually(
    async () => (await world.chat(large)).status,
    (status) => status === 200,
    3_000,
  );
});

test("the refusal has the status that the key's agent stops at", async () => {
  await using world = await openTestGateway();
  for (const status of [400, 401, 402]) {
    const { grant } = await world.openTrial(10n);
    const { secret } = await world.keys.issue(
      { ...grant, budgetStopStatus: status },
      Date.now() + 60_000,
    );
    assert.equal((await world.chat({}, secret)).status, status);
  }
});

test("a ceiling that is not affordable is lowered to what is", async () => {
  await using world = await openTestGateway({ fundedNanos: 3_000n });
  const response = await world.chat({ max_tokens: 4_000 });
  assert.equal(response.status, 200);
  const [call] = await world.calls();
  const { max_tokens: ceiling } = JSON.parse(world.models.requests[0]?.text ?? "{}");
  assert.ok(ceiling >= 256 && ceiling < 1_000, `${ceiling}`);
  assert.ok(BigInt(call?.reserved_nanos ?? 0) <= 3_000n);
  assert.ok(BigInt(call?.reserved_nanos ?? 0) >= 2_998n, "some of the budget was left unused");
});

test("enclosing budgets and the day's bind as well", async () => {
  const state: { day: string | null } = { day: null };
  await using world = await openTestGateway({
    deps: { dayAccount: async () => state.day as never },
  });
  const project = await world.openBudget(700n);
  const day = await world.openBudget(700n);
  const inProject = await world.openTrial(1_000_000n, [project.budget]);
  assert.equal((await world.chat({}, inProject.secret)).status, 403);

  const { grant } = await world.openTrial(1_000_000n);
  const daily = await world.keys.issue(grant, Date.now() + 60_000);
  state.day = day.budget;
  assert.equal((await world.chat({}, daily.secret)).status, 403);
});

test("calls that others hold the budget for are told to come again", async () => {
  const gate = Promise.withResolvers<void>();
  await using world = await openTestGateway({
    fundedNanos: 5_000n,
    behave: async (_, response) => {
      await gate.promise;
      sendJson(response, { usage: { prompt_tokens: 1, completion_tokens: 1 } });
    },
  });
  const first = world.chat({ max_tokens: 4_096 });
  while (world.models.requests.length === 0) await sleep(5);
  const second = await world.chat();
  assert.equal(second.status, 429);
  assert.equal(second.headers.get("retry-after"), "1");
  assert.equal((await second.json()).error.code, "budget_busy");
  gate.resolve();
  assert.equal((await first).status, 200);
  assert.equal((await world.chat()).status, 200);
});

test("N callers at once on a small budget: never more than it, and all of it accounted", async () => {
  await using world = await openTestGateway({
    fundedNanos: 20_000n,
    behave: async ({ text }, response) => {
      const { max_tokens: completion_tokens } = JSON.parse(text);
      await sleep(Math.random() * 10);
      sendJson(response, { usage: { prompt_tokens: 300, completion_tokens } });
    },
  });
  let isDone = false;
  const watch = (async () => {
    while (!isDone) {
      const balance = await world.ledger.balance(world.budget);
      assert.ok(balance !== null && balance.availableNanos >= 0n);
      await sleep(5);
    }
  })();
  const statuses = await Promise.all(
    Array.from({ length: 24 }, async () => {
      const seen: number[] = [];
      for (let tries = 0; tries < 20; tries++) {
        const { status } = await world.chat({ max_tokens: 300 });
        seen.push(status);
        if (status === 403) break;
        if (status === 429) await sleep(5);
      }
      return seen;
    }),
  );
  isDone = true;
  await watch;
  const all = statuses.flat();
  assert.ok(all.includes(200) && all.includes(403), all.join());
  const balance = await world.quiet(world.budget);
  const calls = await world.calls();
  const sum = calls.reduce((total, call) => total + BigInt(call.cost_nanos), 0n);
  assert.equal(balance.spentNanos, sum);
  assert.equal(calls.length, all.filter((status) => status === 200).length);
  assert.equal(calls.length, world.models.requests.length);
  // What is left is less than the least call needs: nothing starved.
  assert.ok(balance.availableNanos < 3_000n, String(balance.availableNanos));
});

test("thresholds are told once each", async () => {
  const percents: number[] = [];
  await using world = await openTestGateway({
    fundedNanos: 10_000n,
    hooks: { onThreshold: (_, percent) => void percents.push(percent) },
    behave: (_, response) =>
      sendJson(response, { usage: { prompt_tokens: 1_100, completion_tokens: 1 } }),
  });
  for (let calls = 0; calls < 20; calls++) {
    if ((await world.chat({ max_tokens: 10 })).status !== 200) break;
  }
  await world.gateway.close(1_000);
  assert.deepEqual(percents, [50, 80]);
});

test("a model without a price in the budget's currency is refused", async () => {
  await using world = await openTestGateway();
  for (const price of [{ currency: "USD" }, { version: "" }, { outputNanosPerMillion: "free" }]) {
    const { grant } = await world.openTrial(1_000_000n);
    const models = grant.models.map((model) => ({ ...model, price: { ...model.price, ...price } }));
    const { secret } = await world.keys.issue({ ...grant, models }, Date.now() + 60_000);
    const response = await world.chat({}, secret);
    assert.equal(response.status, 400);
    assert.equal((await response.json()).error.code, "unpriced_model");
  }
  assert.deepEqual(world.models.requests, []);
});

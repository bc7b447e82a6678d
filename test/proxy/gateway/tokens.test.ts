/**
 * Goal: where a trial's tokens are rationed, a call is held on its money and on its tokens, both or
 * neither, and whichever is used up ends it, in its own words.
 */
import assert from "node:assert/strict";
import test from "node:test";
import type { Grant } from "../../../orchestrator/keys/keys.ts";
import type { Exhaustion } from "../../../proxy/gateway/key-state.ts";
import { openTestGateway, type TestGatewayOptions } from "../../support/gateway.ts";

/** A trial with so many tokens, inside budgets of the same. */
async function open(tokens: bigint, more: TestGatewayOptions = {}) {
  const world = await openTestGateway(more);
  const token = await world.openBudget(tokens, [], "TOK");
  const ration = { budget: token.budget, within: [], spend: token.spend, isDaily: false };
  const grant: Grant = { ...world.grant, tokens: ration };
  const { secret } = await world.keys.issue(grant, Date.now() + 60_000);
  return {
    world,
    grant,
    token,
    chat: (body: object = {}) => world.chat(body as Record<string, unknown>, secret),
    [Symbol.asyncDispose]: () => world[Symbol.asyncDispose](),
  };
}

test("a call spends its money and its tokens", async () => {
  await using fixture = await open(100_000n);
  const { world, token, chat } = fixture;
  assert.equal((await chat({ max_tokens: 50 })).status, 200);
  assert.equal((await world.quiet(world.budget, (spent) => spent > 0n)).spentNanos, 120n);
  assert.equal((await world.quiet(token.budget)).spentNanos, 110n);
  const [call] = await world.calls();
  assert.notEqual(call?.["token_transfer_id"], null);
});

test("tokens that are used up refuse it, and its money stays where it is", async () => {
  const told: Exhaustion[] = [];
  const hooks = { onBudgetExhausted: (_: Grant, facts: Exhaustion) => void told.push(facts) };
  await using fixture = await open(100n, { hooks });
  const { world, token, chat } = fixture;
  const response = await chat({ max_tokens: 50 });
  assert.equal(response.status, 403);
  const { error } = await response.json();
  assert.deepEqual(
    [error.code, error.unit, error.available_tokens],
    ["budget_exceeded", "tokens", "100"],
  );
  assert.match(error.message, /needs \d+ tokens and 100 are available/);
  assert.deepEqual([told[0]?.unit, told[0]?.budget], ["tokens", token.budget]);
  const money = await world.ledger.balance(world.budget);
  assert.deepEqual([money?.reservedNanos, money?.spentNanos], [0n, 0n]);
  assert.deepEqual(world.models.requests, []);
});

test("a ceiling is lowered to what the tokens cover", async () => {
  await using fixture = await open(2_400n);
  assert.equal((await fixture.chat({ max_tokens: 4_000 })).status, 200);
  const { max_tokens: ceiling } = JSON.parse(fixture.world.models.requests[0]?.text ?? "");
  assert.ok(ceiling >= 256 && ceiling < 1_000, `${ceiling}`);
});

test("money that is short leaves no tokens reserved", async () => {
  await using fixture = await open(100_000n, { fundedNanos: 100n });
  assert.equal((await fixture.chat()).status, 403);
  const tokens = await fixture.world.ledger.balance(fixture.token.budget);
  assert.deepEqual([tokens?.reservedNanos, tokens?.spentNanos], [0n, 0n]);
});

test("the slices of a stream are slices of its tokens too", async () => {
  await using fixture = await open(4_000n, {
    provider: { hasContinuousUsage: true },
    behave: async (_, response) => {
      response.writeHead(200, { "content-type": "text/event-stream" });
      for (let at = 1; !response.destroyed; at++) {
        const usage = { prompt_tokens: 50, completion_tokens: 10 * at };
        const choices = [{ index: 0, delta: { content: "x" }, finish_reason: null }];
        response.write(`data: ${JSON.stringify({ choices, usage })}\n\n`);
        if (at % 10 === 0) await new Promise((resolve) => setTimeout(resolve, 1));
      }
    },
  });
  const { world, token, chat } = fixture;
  const text = await (await chat({ max_tokens: 4_000, stream: true })).text();
  assert.match(text, /"finish_reason":"length"/);
  const { spentNanos } = await world.quiet(token.budget, (spent) => spent > 0n);
  const [call] = await world.calls();
  assert.equal(spentNanos, 50n + BigInt(call?.output_tokens ?? 0));
  assert.ok(Number(call?.output_tokens) > 2_000, call?.output_tokens);
});

/**
 * Goal: a call through the gateway is charged at the tier its input reached, an hour in a cache at
 * its own price, own GPUs by their time; and the hold covers the dearest it could have been.
 */
import assert from "node:assert/strict";
import test from "node:test";
import type { PriceSnapshot } from "../../../orchestrator/keys/keys.ts";
import { openTestGateway, PRICE, sendJson } from "../../support/gateway.ts";

/** Above 200 tokens of input, everything costs tenfold. */
const TIERED: PriceSnapshot = {
  ...PRICE,
  version: "tiered@2026-01-01",
  longCacheWriteNanosPerMillion: "7000000",
  tiers: [
    {
      aboveInputTokens: 200,
      inputNanosPerMillion: "10000000",
      cacheReadNanosPerMillion: "5000000",
      cacheWriteNanosPerMillion: "10000000",
      longCacheWriteNanosPerMillion: "70000000",
      outputNanosPerMillion: "20000000",
    },
  ],
};

/** A gateway whose key pays by `price`, and whose model server says that this was used. */
async function open(price: PriceSnapshot, usage: () => object) {
  const world = await openTestGateway({
    fundedNanos: 10_000_000n,
    behave: (_, response) => sendJson(response, usage()),
  });
  const models = world.grant.models.map((model) => ({ ...model, price }));
  const { secret } = await world.keys.issue({ ...world.grant, models }, Date.now() + 60_000);
  return { world, secret };
}

test("the whole call is charged at the tier that its input reached", async () => {
  const counts = { prompt_tokens: 200, completion_tokens: 10 };
  const { world, secret } = await open(TIERED, () => ({ id: "c", choices: [], usage: counts }));
  await using _ = world;
  const spent = async (promptTokens: number, before: bigint) => {
    counts.prompt_tokens = promptTokens;
    await (await world.chat({ max_tokens: 10 }, secret)).text();
    return (await world.quiet(world.budget, (now) => now > before)).spentNanos - before;
  };
  assert.equal(await spent(200, 0n), 220n);
  assert.equal(await spent(201, 220n), 2_210n);
  for (const call of await world.calls()) {
    // Its bytes allow for more than 200 tokens, so the hold was of the dearer tier.
    assert.ok(BigInt(call.reserved_nanos) >= 10_000n + 10n * 20n, call.reserved_nanos);
    assert.equal(call["price_version"], TIERED.version);
  }
});

test("an hour in a cache has its own price, within what was held", async () => {
  const usage = {
    input_tokens: 10,
    cache_creation_input_tokens: 50,
    cache_creation: { ephemeral_5m_input_tokens: 20, ephemeral_1h_input_tokens: 30 },
    output_tokens: 5,
  };
  const { world, secret } = await open(TIERED, () => ({ type: "message", content: [], usage }));
  await using _ = world;
  const body = { model: "normal", max_tokens: 10, messages: [{ role: "user", content: "hi" }] };
  const authorization = `Bearer ${secret}`;
  await (await world.post("/v1/messages", body, { authorization })).text();
  const { spentNanos } = await world.quiet(world.budget, (spent) => spent > 0n);
  assert.equal(spentNanos, 10n + 20n + 30n * 7n + 5n * 2n);
  const [call] = await world.calls();
  assert.equal(call?.["long_cache_write_tokens"], "30");
  assert.equal(call?.error, null);
});

test("GPU time is kept of models that are priced by it, and of no others", async () => {
  const gpu = { inputMsPerMillion: "1000000", cacheReadMsPerMillion: "0", outputMsPerMillion: "0" };
  const usage = { prompt_tokens: 100, completion_tokens: 10 };
  for (const [price, expected] of [
    [{ ...PRICE, gpu }, "100"],
    [PRICE, null],
  ] as const) {
    const { world, secret } = await open(price, () => ({ id: "c", choices: [], usage }));
    await using _ = world;
    await (await world.chat({ max_tokens: 10 }, secret)).text();
    await world.quiet(world.budget, (spent) => spent > 0n);
    const [call] = await world.calls();
    assert.equal(call?.["gpu_ms"], expected);
  }
});

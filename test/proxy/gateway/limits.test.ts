/** Goal: no minute holds more than its limit and a burst of it; who waits as told may go on. */
import assert from "node:assert/strict";
import test from "node:test";
import fc from "fast-check";
import { createRateLimits } from "../../../proxy/gateway/limits.ts";
import { openTestGateway } from "../../support/gateway.ts";

test("requests a minute: a burst of them, then one each share of it", () => {
  const limits = createRateLimits();
  const enter = (nowMs: number, key: `key_${string}` = "key_a") =>
    limits.enter(key, { requestsPerMinute: 60 }, nowMs);
  for (let request = 0; request < 60; request++) assert.equal(enter(0), 0);
  assert.equal(enter(0), 1_000);
  assert.equal(enter(500), 500);
  assert.equal(enter(1_000), 0);
  assert.equal(enter(0), 1_000, "a clock that goes back gives nothing");
  assert.equal(enter(0, "key_b"), 0, "another key's");
});

test("tokens a minute: what was used is paid back before the next request", () => {
  const limits = createRateLimits();
  const given = { tokensPerMinute: 600 };
  assert.equal(limits.enter("key_a", given, 0), 0);
  limits.used("key_a", given, 1_200, 0);
  assert.equal(limits.enter("key_a", given, 0), 60_000);
  assert.equal(limits.enter("key_a", given, 60_100), 0);
});

test("without limits nothing is counted", () => {
  const limits = createRateLimits();
  limits.used("key_a", {}, 1e9, 0);
  for (let request = 0; request < 1_000; request++) assert.equal(limits.enter("key_a", {}, 0), 0);
});

test("whoever comes when, no window of a minute has more than twice the limit", () => {
  const waits = fc.array(fc.nat(5_000), { minLength: 1, maxLength: 200 });
  fc.assert(
    fc.property(fc.integer({ min: 1, max: 50 }), waits, (requestsPerMinute, steps) => {
      const limits = createRateLimits();
      const passed: number[] = [];
      let nowMs = 0;
      for (const step of steps) {
        nowMs += step;
        const waitMs = limits.enter("key_a", { requestsPerMinute }, nowMs);
        if (waitMs === 0) passed.push(nowMs);
        else assert.equal(limits.enter("key_a", { requestsPerMinute }, nowMs), waitMs);
      }
      for (const from of passed) {
        const within = passed.filter((at) => at >= from && at < from + 60_000);
        assert.ok(within.length <= 2 * requestsPerMinute, `${within.length}`);
      }
    }),
  );
});

test("over its limit a key is told when to come again, and nothing is reserved", async () => {
  await using world = await openTestGateway();
  const limits = { requestsPerMinute: 2, callsAtOnce: 9 };
  const { secret } = await world.keys.issue({ ...world.grant, limits }, Date.now() + 60_000);
  assert.equal((await world.chat({}, secret)).status, 200);
  assert.equal((await world.chat({}, secret)).status, 200);
  const refused = await world.chat({}, secret);
  assert.equal(refused.status, 429);
  assert.ok(Number(refused.headers.get("retry-after")) >= 25);
  assert.equal((await refused.json()).error.code, "rate_limited");
  assert.equal(world.models.requests.length, 2);

  const tokens = { tokensPerMinute: 100 };
  const second = await world.openTrial(1_000_000n);
  const issued = await world.keys.issue({ ...second.grant, limits: tokens }, Date.now() + 60_000);
  assert.equal((await world.chat({}, issued.secret)).status, 200);
  const later = await world.chat({}, issued.secret);
  assert.equal(later.status, 429);
  assert.ok(Number(later.headers.get("retry-after")) >= 5);
});

test("a grant may allow fewer calls at once", async () => {
  const gate = Promise.withResolvers<void>();
  await using world = await openTestGateway({
    behave: async (_, response) => {
      await gate.promise;
      response.end('{"usage":{"prompt_tokens":1,"completion_tokens":1}}');
    },
  });
  const limits = { callsAtOnce: 1 };
  const { secret } = await world.keys.issue({ ...world.grant, limits }, Date.now() + 60_000);
  const first = world.chat({}, secret);
  while (world.models.requests.length === 0) await new Promise(setImmediate);
  const second = await world.chat({}, secret);
  assert.equal(second.status, 429);
  assert.match((await second.json()).error.message, /has 1 calls running/);
  gate.resolve();
  assert.equal((await first).status, 200);
});

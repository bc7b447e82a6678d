/**
 * Goal: a call goes to the provider that can answer it, is paid at that one's price, and nobody is
 * asked in vain: not while it fails, and not while its quota is used up.
 */
import assert from "node:assert/strict";
import test from "node:test";
import type { FallbackProvider } from "../../../orchestrator/keys/keys.ts";
import type { GatewayHooks } from "../../../proxy/gateway/gateway.ts";
import type { Provider } from "../../../proxy/gateway/upstream.ts";
import {
  answerChat,
  type Behaviour,
  openModelServer,
  openTestGateway,
  PRICE,
  sendJson,
} from "../../support/gateway.ts";

const DEARER = { ...PRICE, version: "dear@1", outputNanosPerMillion: "5000000" };
const fails =
  (status: number, headers: Record<string, string> = {}, message = "no"): Behaviour =>
  (_, response) => {
    for (const [name, value] of Object.entries(headers)) response.setHeader(name, value);
    sendJson(response, { error: { message } }, status);
  };

/** A gateway with a model of `first`, with `second` behind it when `hasFallback`. */
async function open(first: Behaviour, second: Behaviour = answerChat, hasFallback = true) {
  const servers = { a: await openModelServer(first), b: await openModelServer(second) };
  const provider = (name: "a" | "b"): Provider => ({
    ...{ name, baseUrl: servers[name].url, apiKey: null, authStyle: "bearer" },
    ...{ isHosted: false, hasContinuousUsage: false, hasTokenCount: false },
  });
  const clock = { ms: Date.now(), now: () => clock.ms };
  const told: string[] = [];
  const hooks: GatewayHooks = {
    onQuotaExhausted: (_, quota) => {
      told.push(`${quota.provider} ${Math.round((quota.untilMs - clock.ms) / 1_000)}`);
    },
  };
  const world = await openTestGateway({
    hooks,
    options: { backoffMs: 1 },
    deps: {
      clock,
      providers: (name) => (name === "a" || name === "b" ? provider(name) : null),
    },
  });
  const fallbacks: FallbackProvider[] = [{ provider: "b", upstreamName: "other", price: DEARER }];
  const [base] = world.grant.models;
  assert.ok(base !== undefined);
  const model = { ...base, provider: "a", ...(hasFallback ? { fallbacks } : {}) };
  const issued = await world.keys.issue({ ...world.grant, models: [model] }, Date.now() + 1e7);
  return {
    world,
    clock,
    told,
    servers,
    chat: (more: object = {}) => world.chat({ max_tokens: 50, ...more }, issued.secret),
    calls: async () => {
      await world.quiet(world.budget);
      return (await world.calls()).map((call) => ({
        provider: call["provider"],
        version: call["price_version"],
        cost: call.cost_nanos,
        attempts: call["attempts"],
        status: call.status,
      }));
    },
    [Symbol.asyncDispose]: async () => {
      await world[Symbol.asyncDispose]();
      await servers.a[Symbol.asyncDispose]();
      await servers.b[Symbol.asyncDispose]();
    },
  };
}

const FAULTS: Record<string, { first: Behaviour; status: number | null }> = {
  "429": { first: fails(429), status: 429 },
  "500": { first: fails(500), status: 500 },
  "529": { first: fails(529), status: 529 },
  "a reset before the head": { first: (_, response) => void response.destroy(), status: null },
};

for (const [what, { first, status }] of Object.entries(FAULTS)) {
  test(`R12: ${what}: another provider answers, at its own price, and the record says so`, async () => {
    await using fixture = await open(first);
    for (const stream of [false, true]) {
      const response = await fixture.chat({ stream });
      assert.equal(response.status, 200);
      await response.text();
    }
    assert.equal(JSON.parse(fixture.servers.b.requests[0]?.text ?? "").model, "other");
    for (const call of await fixture.calls()) {
      const [attempt] = call.attempts as { provider: string; status: number | null }[];
      assert.deepEqual([attempt?.provider, attempt?.status], ["a", status]);
      assert.deepEqual([call.provider, call.version, call.cost], ["b", "dear@1", "150"]);
    }
  });
}

test("the reservation covers the dearest of them", async () => {
  await using fixture = await open(answerChat);
  await (await fixture.chat({ max_tokens: 100 })).text();
  await using alone = await open(answerChat, answerChat, false);
  await (await alone.chat({ max_tokens: 100 })).text();
  await fixture.calls();
  await alone.calls();
  const [both] = await fixture.world.calls();
  const [one] = await alone.world.calls();
  assert.equal(Number(both?.reserved_nanos) - Number(one?.reserved_nanos), 100 * (5 - 2));
  assert.equal(both?.cost_nanos, "120", "answered by the first, at its price");
});

test("what is no failure of the provider is passed on, and nobody else is asked", async () => {
  await using fixture = await open(fails(400));
  assert.equal((await fixture.chat()).status, 400);
  assert.deepEqual(fixture.servers.b.requests, []);
});

test("when all fail they are asked twice, and the client is told", async () => {
  await using fixture = await open(fails(503), fails(500));
  assert.equal((await fixture.chat()).status, 500);
  assert.deepEqual([fixture.servers.a.requests.length, fixture.servers.b.requests.length], [2, 2]);
  const [call] = await fixture.calls();
  const attempts = call?.attempts as { provider: string }[];
  assert.deepEqual(
    attempts.map(({ provider }) => provider),
    ["a", "b", "a"],
  );
  assert.equal(call?.cost, "0");
});

test("one provider is asked once: its client tries again by itself", async () => {
  await using fixture = await open(fails(503), answerChat, false);
  assert.equal((await fixture.chat()).status, 503);
  assert.equal(fixture.servers.a.requests.length, 1);
});

test("a provider that fails is left alone, tried after a while, and goes first again", async () => {
  await using fixture = await open(fails(503));
  for (let calls = 0; calls < 7; calls++) await (await fixture.chat()).text();
  assert.equal(fixture.servers.a.requests.length, 5);
  assert.equal(fixture.servers.b.requests.length, 7);
  fixture.servers.a.state.behave = answerChat;
  fixture.clock.ms += 5_001;
  for (let calls = 0; calls < 2; calls++) await (await fixture.chat()).text();
  assert.equal(fixture.servers.a.requests.length, 7);
  assert.equal(fixture.servers.b.requests.length, 7);
});

test("a provider that is tried by a long stream serves others before its end", async () => {
  await using fixture = await open(fails(503), answerChat, false);
  for (let calls = 0; calls < 5; calls++) await (await fixture.chat()).text();
  const ended = Promise.withResolvers<void>();
  fixture.servers.a.state.behave = async (received, response) => {
    if (!received.text.includes('"stream":true')) return answerChat(received, response);
    response.writeHead(200, { "content-type": "text/event-stream" }).flushHeaders();
    await ended.promise;
    response.end("data: [DONE]\n\n");
  };
  fixture.clock.ms += 5_001;
  const stream = await fixture.chat({ stream: true });
  assert.equal((await fixture.chat()).status, 200);
  ended.resolve();
  await stream.text();
});

test("the only provider: after five failures nothing is reserved or forwarded for a while", async () => {
  await using fixture = await open(fails(503), answerChat, false);
  for (let calls = 0; calls < 5; calls++) assert.equal((await fixture.chat()).status, 503);
  const refused = await fixture.chat();
  assert.equal(refused.status, 503);
  assert.equal(refused.headers.get("retry-after"), "5");
  assert.equal((await refused.json()).error.code, "upstream_failed");
  assert.equal(fixture.servers.a.requests.length, 5);
  assert.equal((await fixture.calls()).length, 5);
  fixture.servers.a.state.behave = answerChat;
  fixture.clock.ms += 5_001;
  assert.equal((await fixture.chat()).status, 200);
});

test("what a request itself may be the cause of shuts nobody else out", async () => {
  await using fixture = await open(fails(500), answerChat, false);
  for (let calls = 0; calls < 9; calls++) assert.equal((await fixture.chat()).status, 500);
  fixture.servers.a.state.behave = (_, response) => void response.end("x".repeat(17_000_000));
  for (let calls = 0; calls < 6; calls++) assert.equal((await fixture.chat()).status, 502);
  fixture.servers.a.state.behave = answerChat;
  assert.equal((await fixture.chat()).status, 200);
});

test("a quota that is used up for hours: refused for good until then, and the trial is told", async () => {
  const first = fails(429, { "retry-after": "7200" });
  await using fixture = await open(first, answerChat, false);
  for (let calls = 0; calls < 2; calls++) {
    const response = await fixture.chat();
    assert.equal(response.status, 429);
    assert.equal(response.headers.get("retry-after"), "7200");
    assert.equal(response.headers.get("x-should-retry"), "false");
    const { error } = await response.json();
    assert.equal(error.code, "quota_exceeded");
    assert.equal(error.provider, "a");
  }
  assert.equal(fixture.servers.a.requests.length, 1, "asked though it had said no");
  assert.deepEqual(fixture.told, ["a 7200", "a 7200"]);
  fixture.servers.a.state.behave = answerChat;
  fixture.clock.ms += 7_200_000;
  assert.equal((await fixture.chat()).status, 200);
});

test("a short wait is the client's, as the provider says it", async () => {
  await using fixture = await open(fails(429, { "retry-after": "7" }), answerChat, false);
  for (let calls = 0; calls < 2; calls++) {
    const response = await fixture.chat();
    assert.equal(response.headers.get("retry-after"), "7");
    assert.equal(response.headers.get("x-should-retry"), null);
  }
  assert.equal(fixture.servers.a.requests.length, 2);
  assert.deepEqual(fixture.told, []);
});

test("with another provider even a short wait is spent there", async () => {
  await using fixture = await open(fails(429, {}, "Please try again in 20s"));
  for (let calls = 0; calls < 3; calls++) assert.equal((await fixture.chat()).status, 200);
  assert.equal(fixture.servers.a.requests.length, 1);
  fixture.servers.a.state.behave = answerChat;
  fixture.clock.ms += 20_000;
  assert.equal((await fixture.chat()).status, 200);
  assert.equal(fixture.servers.a.requests.length, 2);
});

test("both quotas used up: the one that is back first says until when", async () => {
  await using fixture = await open(
    fails(429, { "retry-after": "7200" }),
    fails(429, { "x-ratelimit-reset-requests": "1h0m0s" }),
  );
  await fixture.chat();
  const response = await fixture.chat();
  assert.equal(response.headers.get("retry-after"), "3600");
  assert.equal(fixture.told.at(-1), "b 3600");
});

test("the trial waits for the provider that is back first, not for the one that said no last", async () => {
  const used = (seconds: string) => fails(429, { "retry-after": seconds });
  await using both = await open(used("7200"), used("86400"));
  assert.equal((await both.chat()).headers.get("retry-after"), "7200");
  assert.deepEqual(both.told, ["a 7200"]);

  // Left alone for seconds: no reason to stop a trial for a day.
  await using failing = await open(fails(503), answerChat);
  for (let calls = 0; calls < 5; calls++) await (await failing.chat()).text();
  failing.servers.b.state.behave = used("86400");
  const response = await failing.chat();
  assert.equal(response.status, 503);
  assert.equal(response.headers.get("retry-after"), "5");
  assert.deepEqual(failing.told, []);
});

test("when all want a few seconds the client waits, and the trial is not stopped", async () => {
  await using fixture = await open(
    fails(429, { "retry-after": "20" }),
    fails(429, { "retry-after": "30" }),
  );
  await fixture.chat();
  const response = await fixture.chat();
  assert.deepEqual([response.status, response.headers.get("retry-after")], [429, "20"]);
  assert.equal(response.headers.get("x-should-retry"), null);
  assert.equal((await response.json()).error.code, "rate_limited");
  assert.deepEqual(fixture.told, []);
});

test("a stream that broke after its first byte is not begun anew", async () => {
  await using fixture = await open((_, response) => {
    response.writeHead(200, { "content-type": "text/event-stream" });
    response.write('data: {"choices":[{"delta":{"content":"x"}}]}\n\n');
    setTimeout(() => response.destroy(), 20);
  });
  await assert.rejects((await fixture.chat({ stream: true })).text());
  assert.deepEqual(fixture.servers.b.requests, []);
});

/**
 * Goal: an engine of ours that comes by itself is waited for before anybody else is paid, and the
 * wait ends with its client, with its key and with the gateway.
 */
import assert from "node:assert/strict";
import test from "node:test";
import type { Provider } from "../../../proxy/gateway/upstream.ts";
import { eventually } from "../../support/eventually.ts";
import { openModelServer, openTestGateway, PRICE, sendJson } from "../../support/gateway.ts";

const COMING = { detail: "is asleep", retryAfterMs: 5_000, isComing: true };
const FAILED = { detail: "has failed", retryAfterMs: 5_000, isComing: false };
const USAGE = { prompt_tokens: 100, completion_tokens: 10 };
const FALLBACK = { provider: "paid", upstreamName: "vendor/paid", price: PRICE };

/** A gateway on one engine of ours with a paid fallback, and what waits for the engine. */
async function openAway(away: Provider["away"] = COMING) {
  const server = await openModelServer((_, response) => sendJson(response, { usage: USAGE }));
  const base = {
    ...{ baseUrl: server.url, apiKey: null, authStyle: "bearer" as const, isHosted: false },
    ...{ hasContinuousUsage: false, hasTokenCount: false },
  };
  const state = { away: away ?? null, looks: 0 };
  /** Each is a wait; called, the wait is over. */
  const waits: (() => void)[] = [];
  const aborted: string[] = [];
  const providers = (name: string): Provider | null => {
    if (name === "paid") return { ...base, name, baseUrl: `${server.url}/paid` };
    state.looks++;
    return { ...base, name, away: state.away };
  };
  const untilPresent = (name: string, _: unknown, signal: AbortSignal) =>
    new Promise<void>((resolve) => {
      waits.push(resolve);
      signal.addEventListener("abort", () => {
        aborted.push(name);
        resolve();
      });
    });
  const deps = { providers, untilPresent };
  const world = await openTestGateway({ deps, model: { fallbacks: [FALLBACK] } });
  return {
    ...{ ...world, state, waits, aborted, server },
    untilWaits: () =>
      eventually(
        async () => waits.length,
        (length) => length > 0,
      ),
    [Symbol.asyncDispose]: async () => {
      await world[Symbol.asyncDispose]();
      await server[Symbol.asyncDispose]();
    },
  };
}

test("an engine that is coming is waited for, and then serves in place of its fallback", async () => {
  await using world = await openAway();
  const answer = world.chat();
  await world.untilWaits();
  assert.deepEqual(world.server.requests, []);
  world.state.away = null as never;
  world.waits[0]?.();
  assert.equal((await answer).status, 200);
  assert.deepEqual(
    world.server.requests.map(({ url }) => url),
    ["/v1/chat/completions"],
  );
});

test("one that did not come is passed over for the fallback, and so is at once one that failed", async () => {
  await using world = await openAway();
  const answer = world.chat();
  await world.untilWaits();
  world.waits[0]?.();
  assert.equal((await answer).status, 200);
  world.state.away = FAILED;
  assert.equal((await world.chat()).status, 200);
  assert.equal(world.waits.length, 1);
  assert.deepEqual(
    world.server.requests.map(({ url }) => url?.startsWith("/paid/")),
    [true, true],
  );
});

test("the wait of a client that left ends, and leaves its place to another", async () => {
  await using world = await openAway();
  const leaving = new AbortController();
  const headers = { authorization: `Bearer ${world.secret}`, "content-type": "application/json" };
  const body = JSON.stringify({ model: "normal", messages: [] });
  const { signal } = leaving;
  const call = fetch(`${world.url}/v1/chat/completions`, { method: "POST", headers, body, signal });
  const ended = call.catch(() => null);
  await world.untilWaits();
  leaving.abort();
  await eventually(
    async () => world.aborted,
    (names) => names.length === 1,
  );
  await ended;
  assert.deepEqual(world.server.requests, []);
});

test("a gateway that closes ends the waits", async () => {
  await using world = await openAway();
  const answer = world.chat();
  await world.untilWaits();
  await Promise.all([world.gateway.close(10_000), answer.then((response) => response.text())]);
  assert.deepEqual(world.aborted, ["test"]);
});

test("a key that was revoked during the wait pays for nothing", async () => {
  await using world = await openAway();
  const answer = world.chat();
  await world.untilWaits();
  await world.keys.revokeAll(world.grant.trialId);
  world.state.away = null as never;
  world.waits[0]?.();
  assert.equal((await answer).status, 401);
  assert.deepEqual(world.server.requests, []);
});

/** Goal: a question has an answer in JSON or none, in time, and leaves nothing running. */
import assert from "node:assert/strict";
import test from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { askUpstream } from "../../../proxy/gateway/ask.ts";
import { createUndiciUpstream } from "../../../proxy/gateway/undici.ts";
import type { Provider } from "../../../proxy/gateway/upstream.ts";
import { type Behaviour, openModelServer, sendJson } from "../../support/gateway.ts";

async function ask(behave: Behaviour, timeoutMs = 2_000): Promise<unknown> {
  await using server = await openModelServer(behave);
  const upstream = createUndiciUpstream({
    connectTimeoutMs: 1_000,
    headTimeoutMs: 5_000,
    chunkTimeoutMs: 5_000,
  });
  const provider: Provider = {
    ...{ name: "a", baseUrl: `${server.url}/v1`, apiKey: "k", authStyle: "bearer" },
    ...{ isHosted: false, hasContinuousUsage: false, hasTokenCount: true },
  };
  const body = Buffer.from("{}");
  const answer = await askUpstream(
    upstream,
    { provider, path: "/tokenize", body, headers: {} },
    timeoutMs,
  );
  assert.equal(server.requests[0]?.url, "/tokenize");
  while (server.requests[0]?.isAborted === false && answer === null && timeoutMs < 100) {
    await sleep(5);
  }
  await upstream.close();
  return answer;
}

test("an answer", async () => {
  assert.deepEqual(await ask((_, response) => sendJson(response, { count: 3 })), { count: 3 });
});

test("no answer", async () => {
  const faults: Behaviour[] = [
    (_, response) => sendJson(response, { count: 3 }, 404),
    (_, response) => void response.end("nonsense"),
    (_, response) => void response.destroy(),
    (_, response) => void response.end("x".repeat(9 * 1024 * 1024)),
  ];
  for (const behave of faults) assert.equal(await ask(behave), null);
  assert.equal(await ask(() => undefined, 50), null, "waited for too long");
});

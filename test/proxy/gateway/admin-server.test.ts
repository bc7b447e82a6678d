/** Goal: on loopback alone, it says whether the gateway is alive and ready, and what it counted. */
import assert from "node:assert/strict";
import test from "node:test";
import { openAdminServer } from "../../../proxy/gateway/admin-server.ts";

test("alive, ready or not, metrics, and nothing else", async () => {
  const state = { isReady: true };
  const sources = { metrics: async () => "a_total 1\n", isReady: async () => state.isReady };
  await using admin = await openAdminServer(sources, 0);
  const get = async (path: string) => {
    const response = await fetch(`http://127.0.0.1:${admin.port}${path}`);
    return [response.status, await response.text()];
  };
  assert.deepEqual(await get("/healthz"), [200, "alive\n"]);
  assert.deepEqual(await get("/readyz"), [200, "ready\n"]);
  assert.deepEqual(await get("/metrics?x=1"), [200, "a_total 1\n"]);
  assert.deepEqual(await get("/v1/models"), [404, "not found\n"]);
  state.isReady = false;
  assert.deepEqual(await get("/readyz"), [503, "the database does not answer\n"]);
});

test("a port that is taken is an error, not silence", async () => {
  const sources = { metrics: async () => "", isReady: async () => true };
  await using first = await openAdminServer(sources, 0);
  await assert.rejects(openAdminServer(sources, first.port), { code: "EADDRINUSE" });
});

/** Which orchestrator a worker asks: the one that answers, the next when it does not. */
import assert from "node:assert/strict";
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { test } from "node:test";
import { ORCHESTRATORS_HEADER } from "../../orchestrator/contract/orchestrators.ts";
import { createAddresses } from "../../worker-agent/addresses.ts";
import { createClient } from "../../worker-agent/client.ts";

test("addresses are tried in turn, and what an answer says replaces them", () => {
  const addresses = createAddresses("http://a/,http://b");
  assert.equal(addresses.current(), "http://a");
  addresses.turn();
  assert.equal(addresses.current(), "http://b");
  // It answers under a name of its own, which is not how we reach it.
  addresses.learn("http://b-inside,http://c");
  assert.equal(addresses.current(), "http://b");
  addresses.turn();
  addresses.turn();
  assert.equal(addresses.current(), "http://c");
  addresses.turn();
  assert.equal(addresses.current(), "http://b");
  for (const nothing of [null, "", "file:///etc/passwd"]) addresses.learn(nothing);
  assert.equal(addresses.current(), "http://b");
});

test("a worker whose orchestrator is gone goes on with the one it was told of", async () => {
  const told: string[] = [];
  const open = async (name: string, others: () => string) => {
    const server = createServer((request, response) => {
      told.push(`${name} ${request.url}`);
      response.setHeader(ORCHESTRATORS_HEADER, others());
      response.setHeader("content-type", "application/json");
      request.resume().on("end", () => response.end('{"acked":1}'));
    });
    await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
    const { port } = server.address() as AddressInfo;
    return { server, url: `http://127.0.0.1:${port}` };
  };
  const two = await open("two", () => two.url);
  const one = await open("one", () => `${one.url},${two.url}`);
  const client = createClient(
    { now: () => performance.now() },
    { apiUrl: one.url, orphanMs: 10_000 },
  );
  await client.events([]);
  await new Promise<void>((resolve) => {
    one.server.close(() => resolve());
    one.server.closeAllConnections();
  });
  await client.events([]);
  await client.events([]);
  assert.deepEqual(told, [
    "one /api/v1/worker/events",
    "two /api/v1/worker/events",
    "two /api/v1/worker/events",
  ]);
  two.server.close();
  two.server.closeAllConnections();
});

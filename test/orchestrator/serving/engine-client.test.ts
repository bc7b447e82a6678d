/** Goal: an engine listens where its address says, and what we ask of it ends when we do. */
import assert from "node:assert/strict";
import { createServer } from "node:http";
import { test } from "node:test";
import { createEngineClient, listenAddress } from "../../../orchestrator/serving/engine-client.ts";

test("an engine listens where its address says, IPv6 without brackets", () => {
  assert.deepEqual(listenAddress("http://127.0.0.1:8000"), { host: "127.0.0.1", port: 8_000 });
  assert.deepEqual(listenAddress("http://[::1]:8000/v1"), { host: "::1", port: 8_000 });
});

test("an engine that never answers holds nobody who closes", async () => {
  const closing = new AbortController();
  const asked: string[] = [];
  const silent = createServer(({ method, url }) => {
    asked.push(`${method} ${url}`);
    closing.abort(new Error("closed"));
  });
  await new Promise<void>((resolve) => silent.listen(0, "127.0.0.1", resolve));
  const address = silent.address();
  assert.ok(typeof address === "object" && address !== null);
  const { sleep, wake } = createEngineClient();
  const baseUrl = `http://127.0.0.1:${address.port}/v1`;
  await assert.rejects(sleep(baseUrl, closing.signal), /closed/);
  await assert.rejects(wake(baseUrl, closing.signal), /closed/);
  assert.deepEqual(asked, ["POST /sleep?level=1"]);
  silent.closeAllConnections();
  await new Promise((resolve) => silent.close(resolve));
});

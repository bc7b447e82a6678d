/**
 * Goal: Prometheus gets metrics by the relay, and nobody gets anything else by it.
 * Method: a relay before servers of ours that say what they were asked.
 */
import assert from "node:assert/strict";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import test from "node:test";
import { openRelay } from "../../tools/metrics-relay/relay.ts";

async function openSource(text: string) {
  const asked: { url: string | undefined; authorization: string | undefined }[] = [];
  const server = createServer(({ url, headers }, response) => {
    asked.push({ url, authorization: headers.authorization });
    response.end(text);
  });
  await new Promise<void>((listening) => server.listen(0, "127.0.0.1", listening));
  const url = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
  return {
    asked,
    url,
    [Symbol.asyncDispose]: () => new Promise<void>((closed) => server.close(() => closed())),
  };
}

test("Each path is one source's metrics, and the token is the orchestrator's alone", async (t) => {
  const folder = await mkdtemp(join(tmpdir(), "autocode-relay-"));
  t.after(() => rm(folder, { recursive: true }));
  const endpointFile = join(folder, "endpoint.json");
  await writeFile(endpointFile, JSON.stringify({ url: "http://x", token: "first" }));
  await using orchestrator = await openSource("autocode_trials 1\n");
  await using engine = await openSource("vllm:num_requests_running 2\n");
  const sources = new Map([
    ["orchestrator", `${orchestrator.url}/metrics`],
    ["vllm-normal", `${engine.url}/metrics`],
    ["vllm-thinking", "http://127.0.0.1:1/metrics"],
  ]);
  await using relay = await openRelay({ host: "127.0.0.1", port: 0, sources, endpointFile });
  const ask = async (path: string, method = "GET") => {
    const answer = await fetch(`http://127.0.0.1:${relay.port}${path}`, { method });
    return { status: answer.status, text: await answer.text() };
  };

  assert.deepEqual(await ask("/orchestrator"), { status: 200, text: "autocode_trials 1\n" });
  assert.equal((await ask("/vllm-normal")).text, "vllm:num_requests_running 2\n");
  await writeFile(endpointFile, JSON.stringify({ url: "http://x", token: "second" }));
  await ask("/orchestrator");
  assert.deepEqual(
    orchestrator.asked.map(({ authorization }) => authorization),
    ["Bearer first", "Bearer second"],
  );
  assert.deepEqual(engine.asked, [{ url: "/metrics", authorization: undefined }]);

  for (const path of ["/", "/vllm-normal/v1/completions", "/vllm-normal?x", "/invocations"]) {
    assert.equal((await ask(path)).status, 404, path);
  }
  assert.equal((await ask("/vllm-normal", "POST")).status, 404);
  assert.equal((await ask("/vllm-thinking")).status, 502);
  assert.equal(engine.asked.length, 1);
});

/**
 * Goal: Prometheus gets metrics by the relay, and nobody gets anything else by it.
 * Method: a relay before servers of ours that say what they were asked.
 */
import assert from "node:assert/strict";
import { spawn, spawnSync } from "node:child_process";
import { once } from "node:events";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import test from "node:test";
import { openRelay } from "../../tools/metrics-relay/relay.ts";

const MAIN = join(import.meta.dirname, "../../tools/metrics-relay/main.ts");

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

test("The program listens on the address that it is given, and on no other", async (t) => {
  await using gateway = await openSource("up 1\n");
  const args = [MAIN, "127.0.0.1:0", `gateway=${gateway.url}/metrics`];
  const relay = spawn(process.execPath, args, { stdio: ["ignore", "pipe", "inherit"] });
  t.after(async () => {
    relay.kill();
    if (relay.exitCode === null && relay.signalCode === null) await once(relay, "exit");
  });
  const [said] = await once(relay.stdout, "data");
  const port = /^metrics relay on 127\.0\.0\.1:(\d+): gateway\n$/.exec(String(said))?.[1];
  assert.equal(await (await fetch(`http://127.0.0.1:${port}/gateway`)).text(), "up 1\n");
  // Another address of the same machine.
  await assert.rejects(fetch(`http://127.0.0.2:${port}/gateway`), (error: Error) => {
    return (error.cause as NodeJS.ErrnoException).code === "ECONNREFUSED";
  });
  for (const wrong of [["9465", "a=http://a"], [":9465", "a=http://a"], ["host:1"]]) {
    const { status, stderr } = spawnSync(process.execPath, [MAIN, ...wrong], { encoding: "utf8" });
    assert.deepEqual([status, stderr.startsWith("usage: ")], [2, true], wrong.join(" "));
  }
});

/** Goal: transient faults are ridden out, and what is final is known as such at once. */
import assert from "node:assert/strict";
import { once } from "node:events";
import { createServer, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";
import { test } from "node:test";
import { createClient } from "../../worker-agent/client.ts";

type Answer = (response: ServerResponse) => void;

/** A server that gives these answers in order, the last one for ever. */
async function openServer(answers: readonly Answer[]) {
  let requests = 0;
  const server = createServer((request, response) => {
    request.resume();
    const answer = answers[Math.min(requests, answers.length - 1)];
    requests += 1;
    answer?.(response);
  });
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  const { port } = server.address() as AddressInfo;
  const client = createClient(
    { now: () => Date.now() },
    { apiUrl: `http://127.0.0.1:${port}`, orphanMs: 2_000 },
  );
  return {
    client,
    requests: () => requests,
    [Symbol.asyncDispose]: async () => {
      server.closeAllConnections();
      server.close();
      await once(server, "close");
    },
  };
}

const status =
  (code: number, body = "{}") =>
  (response: ServerResponse) =>
    void response.writeHead(code).end(body);
const cut: Answer = (response) => void response.destroy();
const cutBody: Answer = (response) => {
  response.writeHead(200, { "content-length": "100" });
  response.write("{");
  setImmediate(() => response.destroy());
};

test("cut connections, cut bodies and 5xx are tried again", async () => {
  await using server = await openServer([cut, status(503), cutBody, status(200, '{"acked":7}')]);
  assert.equal(await server.client.events([]), 7);
  assert.equal(server.requests(), 4);
});

test("an orchestrator that stays away is given up", async () => {
  await using server = await openServer([cut]);
  await assert.rejects(server.client.events([]), { name: "OrchestratorAway" });
  assert.ok(server.requests() >= 2);
});

test("fenced, refused and malformed answers are final", async () => {
  const fenced = status(409, '{"type":"/problems/fenced","detail":"gone"}');
  const rows = [
    [fenced, { name: "Fenced", message: "gone" }],
    [status(409, '{"type":"/problems/conflict"}'), { name: "RequestRefused", status: 409 }],
    [status(401), { name: "RequestRefused", status: 401 }],
    [status(200, '{"acked":-1}'), { name: "Error", message: /the contract/ }],
  ] as const;
  for (const [answer, error] of rows) {
    await using server = await openServer([answer]);
    await assert.rejects(server.client.events([]), error);
    assert.equal(server.requests(), 1);
  }
});

test("a held heartbeat ends when its signal does", async () => {
  const { promise, resolve } = Promise.withResolvers<void>();
  await using server = await openServer([() => resolve()]);
  const done = new AbortController();
  const beat = server.client.heartbeat(30_000, done.signal);
  await promise;
  done.abort(new Error("done"));
  await assert.rejects(beat, /done/);
});

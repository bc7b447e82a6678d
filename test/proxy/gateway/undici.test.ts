/** Goal: each exchange ends once, whatever the network does and whenever it is aborted. */
import assert from "node:assert/strict";
import test from "node:test";
import { createUndiciUpstream } from "../../../proxy/gateway/undici.ts";
import type { Provider } from "../../../proxy/gateway/upstream.ts";
import { type Behaviour, openModelServer } from "../../support/gateway.ts";

const OPTIONS = { connectTimeoutMs: 500, headTimeoutMs: 1_000, chunkTimeoutMs: 1_000 };

function provider(baseUrl: string, more: Partial<Provider> = {}): Provider {
  const flags = { isHosted: false, hasContinuousUsage: false, hasTokenCount: false };
  return { name: "p", baseUrl, apiKey: "k", authStyle: "bearer", ...flags, ...more };
}

async function run(to: Provider, abortOn: "send" | "head" | "data" | null = null) {
  const upstream = createUndiciUpstream(OPTIONS);
  const told: string[] = [];
  await new Promise<void>((resolve) => {
    const exchange = upstream.send(
      { provider: to, path: "/chat/completions", body: Buffer.from("{}"), headers: {} },
      {
        onHead: (status) => {
          told.push(`head ${status}`);
          if (abortOn === "head") exchange.abort();
        },
        onData: (chunk) => {
          told.push(`data ${chunk}`);
          if (abortOn === "data") exchange.abort();
        },
        onEnd: () => {
          told.push("end");
          resolve();
        },
        onError: () => {
          told.push("error");
          resolve();
        },
      },
    );
    if (abortOn === "send") exchange.abort();
    exchange.pause();
    exchange.resume();
  });
  await upstream.close();
  return told;
}

test("an answer, a reset, a refusal to connect", async () => {
  const behaviours: [Behaviour, string[]][] = [
    [(_, response) => void response.end("x"), ["head 200", "data x", "end"]],
    [(_, response) => void response.destroy(), ["error"]],
    [
      (_, response) => {
        response.writeProcessing();
        response.writeHead(204).end();
      },
      ["head 204", "end"],
    ],
  ];
  for (const [behave, wanted] of behaviours) {
    await using server = await openModelServer(behave);
    assert.deepEqual(await run(provider(server.url)), wanted);
  }
  assert.deepEqual(await run(provider("http://127.0.0.1:1")), ["error"]);
});

test("what cannot be sent is told of once the caller has its exchange", async () => {
  for (const abortOn of [null, "send"] as const) {
    const told = await run(provider("http://127.0.0.1:9", { apiKey: "sk-\u2026" }), abortOn);
    assert.deepEqual(told, ["error"], String(abortOn));
  }
});

test("an abort at any moment is an error, once", async () => {
  await using server = await openModelServer((_, response) => void response.write("x"));
  const to = provider(server.url);
  assert.deepEqual(await run(to, "send"), ["error"]);
  assert.deepEqual(await run(to, "head"), ["head 200", "error"]);
  assert.deepEqual(await run(to, "data"), ["head 200", "data x", "error"]);
});

test("silence ends an exchange", async () => {
  await using server = await openModelServer(() => undefined);
  assert.deepEqual(await run(provider(server.url)), ["error"]);
});

test("the credential goes in its provider's own header", async () => {
  await using server = await openModelServer((_, response) => void response.end());
  await run(provider(server.url));
  await run(provider(server.url, { authStyle: "x-api-key" }));
  await run(provider(server.url, { apiKey: null }));
  assert.deepEqual(
    server.requests.map(({ headers }) => [headers.authorization, headers["x-api-key"]]),
    [
      ["Bearer k", undefined],
      [undefined, "k"],
      [undefined, undefined],
    ],
  );
});

/**
 * Goal (S5, S7–S10): no key, name, field, header or body gets a worker more than its own pair on
 * its own budget, and none of them costs the gateway its memory.
 */
import assert from "node:assert/strict";
import { request as httpRequest } from "node:http";
import { connect } from "node:net";
import test from "node:test";
import { gzipSync } from "node:zlib";
import { openTestGateway, type TestGateway } from "../../support/gateway.ts";

const ROUTES: [string, string][] = [
  ["POST", "/v1/chat/completions"],
  ["POST", "/v1/responses"],
  ["POST", "/v1/messages"],
  ["POST", "/v1/messages?beta=true"],
  ["POST", "/v1/messages/count_tokens"],
  ["GET", "/v1/models"],
  ["GET", "/v1/models/normal"],
];

test("S7: every route refuses every key but its own trial's", async () => {
  await using world = await openTestGateway();
  const expired = await world.keys.issue((await world.openTrial(1n)).grant, 1);
  const revoked = await world.openTrial(1n);
  await world.keys.revokeAll(revoked.grant.trialId);
  const replaced = await world.openTrial(1n);
  await world.keys.issue(replaced.grant, Date.now() + 60_000);
  const bad: Record<string, Record<string, string>> = {
    none: {},
    empty: { authorization: "Bearer " },
    random: { authorization: `Bearer ak-${"x".repeat(43)}` },
    "a prefix": { authorization: `Bearer ${world.secret.slice(0, -1)}` },
    "and more": { authorization: `Bearer ${world.secret}x` },
    "with a space": { authorization: `Bearer ${world.secret} x` },
    basic: { authorization: `Basic ${Buffer.from(world.secret).toString("base64")}` },
    sql: { "x-api-key": "' or 1=1 --" },
    long: { "x-api-key": "a".repeat(8_000) },
    expired: { "x-api-key": expired.secret },
    revoked: { "x-api-key": revoked.secret },
    replaced: { "x-api-key": replaced.secret },
    "the provider's own": { authorization: "Bearer provider-secret" },
    "a key's id": { authorization: `Bearer ${world.keyId}` },
  };
  for (const [what, headers] of Object.entries(bad)) {
    for (const [method, path] of ROUTES) {
      const body = method === "POST" ? { body: '{"model":"normal"}' } : {};
      const response = await fetch(world.url + path, { method, headers, ...body });
      assert.equal(response.status, 401, `${what} ${path}`);
      const { type, error } = await response.json();
      assert.equal(error.code, "unauthenticated");
      assert.equal(type === "error", path.startsWith("/v1/messages"));
    }
  }
  assert.deepEqual(world.models.requests, []);
});

test("there is nothing else", async () => {
  await using world = await openTestGateway();
  const paths = [
    "/metrics",
    "/v1",
    "/v1/chat/completions/",
    "/v1/chat/completions/batch",
    "/invocations",
    "/v1/files",
    "/v1/audio/speech",
    "/v1/responses/x",
    "//v1/chat/completions",
    "/v1/chat%2fcompletions",
    "/V1/messages",
    "/api/v1/trials",
    "/v1/models/a/b",
  ];
  for (const path of paths) assert.equal((await world.post(path, {})).status, 404, path);
  assert.equal((await fetch(`${world.url}/v1/chat/completions`)).status, 404);
  assert.deepEqual(world.models.requests, []);
});

test("S8: names that are not of the pair are not found, however they are written", async () => {
  await using world = await openTestGateway();
  const wrong = [
    "Normal",
    "normal ",
    " normal",
    "NORMAL",
    "normal\u0000",
    "n\u043ermal",
    "openai/openai/normal",
    "vendor/other",
    "../normal",
    "claude",
    "gpt-",
    "o",
    "gpt-4\nnormal",
    "__proto__",
    "",
    "x".repeat(5_000),
  ];
  for (const model of wrong) {
    const { status } = await world.chat({ model });
    assert.equal(status, model === "" || model.length > 4_000 ? 400 : 404, model);
  }
  for (const model of [["normal"], { name: "normal" }, 1, null, true]) {
    assert.equal((await world.chat({ model })).status, 400);
  }
  assert.equal(world.models.requests.length, 0);

  const right: Record<string, string> = {
    normal: "vendor/normal",
    thinking: "vendor/thinking",
    "test-thinking": "vendor/thinking",
    "vendor/thinking": "vendor/thinking",
    "openai/test-thinking": "vendor/thinking",
    "claude-3-5-haiku-20241022": "vendor/normal",
    "gpt-5-codex": "vendor/normal",
    "o4-mini": "vendor/normal",
  };
  for (const [model, upstream] of Object.entries(right)) {
    assert.equal((await world.chat({ model })).status, 200, model);
    assert.equal(JSON.parse(world.models.requests.at(-1)?.text ?? "").model, upstream);
  }
});

const AMBIGUOUS = {
  "a key twice": '{"model":"normal","model":"other"}',
  "an escaped key": '{"mod\\u0065l":"other","model":"normal"}',
  "another case": '{"model":"normal","Max_Tokens":9}',
  "the ceiling twice": '{"model":"normal","max_tokens":9,"max_tokens":99999}',
  "an array": '[{"model":"normal"}]',
  "a comment": '{"model":"normal"/**/}',
  "two objects": '{"model":"normal"}{"model":"normal"}',
  "a ceiling as text": '{"model":"normal","max_tokens":"9"}',
  "a ceiling in a list": '{"model":"normal","max_tokens":[9]}',
  "a negative ceiling": '{"model":"normal","max_tokens":-1}',
  "no ceiling": '{"model":"normal","max_tokens":0}',
  "a fraction": '{"model":"normal","max_tokens":1.5}',
  "a huge ceiling": '{"model":"normal","max_tokens":1e400}',
  "many answers": '{"model":"normal","n":1000}',
  "more answers": '{"model":"normal","best_of":8}',
  "an answer later": '{"model":"normal","background":true}',
  "an address": '{"model":"normal","api_base":"http://127.0.0.1:1"}',
  "another address": '{"model":"normal","base_url":"http://127.0.0.1:1"}',
  "a key": '{"model":"normal","api_key":"x"}',
  "stream as text": '{"model":"normal","stream":"true"}',
  "options twice":
    '{"model":"normal","stream":true,"stream_options":{"include_usage":true,"include_usage":false}}',
  "bad UTF-8": Buffer.from([0x7b, 0x22, 0xc3, 0x28, 0x22, 0x3a, 0x31, 0x7d]),
  deep: `{"model":"normal","x":${"[".repeat(100_000)}${"]".repeat(100_000)}}`,
  "half a million keys": `{"model":"normal"${keys(500_000)}}`,
  "no JSON": "model=normal",
  nothing: "",
};

test("S8, S10: bodies that two readers could read differently are refused", async () => {
  await using world = await openTestGateway();
  for (const [what, body] of Object.entries(AMBIGUOUS)) {
    const response = await fetch(`${world.url}/v1/chat/completions`, {
      method: "POST",
      headers: { authorization: `Bearer ${world.secret}` },
      body,
    });
    assert.equal(response.status, 400, what);
    assert.equal((await response.json()).error.code, "invalid_request", what);
  }
  assert.deepEqual(world.models.requests, []);
  assert.equal((await world.quiet(world.budget)).spentNanos, 0n);
});

test("S10: harmless oddities pass as they are", async () => {
  await using world = await openTestGateway();
  const odd = '{"__proto__":{"model":"x"},"constructor":1,"m":"\\ud800","model":"norma\\u006c" }';
  const response = await world.post("/v1/chat/completions", odd);
  assert.equal(response.status, 200);
  assert.equal(
    world.models.requests[0]?.text,
    odd.replace('"norma\\u006c"', '"vendor/normal"').replace("{", '{"max_tokens":4096,'),
  );
});

test("what hosted providers bill beside the tokens is refused", async () => {
  await using world = await openTestGateway({ provider: { isHosted: true } });
  const refused: Record<string, unknown>[] = [
    { service_tier: "priority" },
    { speed: "fast" },
    { tools: [{ type: "function" }, { type: "web_search_preview" }] },
    { tools: [{ type: "code_interpreter", container: { type: "auto" } }] },
    { mcp_servers: [{ url: "http://x" }] },
    { modalities: ["text", "audio"] },
    { prompt: { id: "p" } },
  ];
  for (const more of refused) {
    assert.equal((await world.chat(more)).status, 400, JSON.stringify(more));
  }
  const passed = { service_tier: "auto", tools: [{ type: "function" }], modalities: ["text"] };
  assert.equal((await world.chat({ ...passed, speed: null })).status, 200);
  assert.equal(JSON.parse(world.models.requests[0]?.text ?? "").max_completion_tokens, 4_096);
});

test("input that the bytes do not show is bounded by the context", async () => {
  await using world = await openTestGateway();
  const image = { type: "image_url", image_url: { url: "http://x/y.png" } };
  await world.chat({ messages: [{ role: "user", content: [image] }], max_tokens: 1 });
  await world.chat({ messages: [{ role: "user", content: '{"image_url": 1}' }], max_tokens: 1 });
  const [seen, quoted] = await world.calls();
  assert.equal(seen?.reserved_nanos, "100005");
  assert.ok(Number(quoted?.reserved_nanos) < 5_000);
});

test("S5: only listed headers go up and come back", async () => {
  await using world = await openTestGateway({
    behave: (_, response) => {
      response.writeHead(200, {
        "content-type": "application/json",
        "set-cookie": "a=b",
        "x-internal": "host-7",
        "x-scripted-model": "true",
      });
      response.end('{"usage":{"prompt_tokens":1,"completion_tokens":1}}');
    },
  });
  const response = await world.post(
    "/v1/chat/completions",
    { model: "normal" },
    {
      cookie: "c=d",
      "x-forwarded-host": "evil",
      "x-portkey-custom-host": "http://127.0.0.1:1",
      "openai-organization": "org",
      "anthropic-beta": "tools-1,context-1m-2025-08-07, fast-mode-1",
      "user-agent": "cli/1",
    },
  );
  assert.equal(response.headers.get("set-cookie"), null);
  assert.equal(response.headers.get("x-internal"), null);
  assert.equal(response.headers.get("x-scripted-model"), "true");
  const { connection, host, ...sent } = world.models.requests[0]?.headers ?? {};
  assert.deepEqual(Object.keys(sent).sort(), [
    "accept",
    "accept-encoding",
    "anthropic-beta",
    "authorization",
    "content-length",
    "content-type",
    "user-agent",
    "x-request-id",
  ]);
  assert.equal(sent["anthropic-beta"], "tools-1");
  assert.equal(sent.authorization, "Bearer provider-secret");
});

test("S10: compressed bodies are refused", async () => {
  await using world = await openTestGateway();
  for (const encoding of ["gzip", "br", "zstd", "gzip, gzip"]) {
    const response = await fetch(`${world.url}/v1/chat/completions`, {
      method: "POST",
      headers: { authorization: `Bearer ${world.secret}`, "content-encoding": encoding },
      body: gzipSync("a".repeat(1_000_000)),
    });
    assert.equal(response.status, 415);
  }
});

/** Members of an object, each with a comma before it. */
function keys(count: number): string {
  return Array.from({ length: count }, (_, index) => `,"k${index}":1`).join("");
}

/** Uploads `megabytes` as a client that reads its answer only afterwards. */
function upload(world: TestGateway, megabytes: number, isChunked: boolean): Promise<number> {
  const { hostname, port } = new URL(world.url);
  const chunk = Buffer.alloc(1024 * 1024, 0x20);
  const length = isChunked ? {} : { "content-length": megabytes * chunk.length };
  return new Promise((resolve, reject) => {
    const outgoing = httpRequest({
      hostname,
      port,
      agent: false,
      path: "/v1/chat/completions",
      method: "POST",
      headers: { authorization: `Bearer ${world.secret}`, ...length },
    });
    outgoing.on("response", (response) => {
      response.resume();
      resolve(response.statusCode ?? 0);
    });
    outgoing.on("error", reject);
    let sent = 0;
    const pump = (): void => {
      while (sent < megabytes) {
        sent++;
        if (!outgoing.write(chunk)) {
          outgoing.once("drain", pump);
          return;
        }
      }
      outgoing.end();
    };
    pump();
  });
}

test("S10: four bodies of 100 MB are refused, without being kept", async () => {
  await using world = await openTestGateway({ options: { bodyBytesMax: 8 * 1024 * 1024 } });
  const before = process.memoryUsage();
  let peak = 0;
  const watch = setInterval(() => {
    const { rss } = process.memoryUsage();
    peak = Math.max(peak, rss - before.rss);
  }, 5);
  watch.unref();
  const statuses = await Promise.all([0, 1, 2, 3].map((n) => upload(world, 100, n % 2 === 0)));
  clearInterval(watch);
  assert.deepEqual(statuses, [413, 413, 413, 413]);
  // Client and server share this process here, so the bar of 50 MB is for both.
  assert.ok(peak < 150 * 1024 * 1024, `${peak} bytes`);
});

test("S9: requests with two lengths, or none that is clear, do not get through", async () => {
  await using world = await openTestGateway();
  const { hostname, port } = new URL(world.url);
  const body = '{"model":"normal"}';
  const head = (lines: string) =>
    `POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\nauthorization: Bearer ${world.secret}\r\n${lines}\r\n`;
  const smuggled = [
    head("content-length: 18\r\ncontent-length: 5\r\n") + body,
    head("content-length: 18\r\ntransfer-encoding: chunked\r\n") + body,
    head("transfer-encoding: xchunked\r\n") + body,
    `${head("transfer-encoding: chunked\r\n")}zz\r\n${body}\r\n0\r\n\r\n`,
    head("content-length: +18\r\n") + body,
    head("content-length : 18\r\n") + body,
  ];
  for (const bytes of smuggled) {
    const socket = connect({ host: hostname, port: Number(port) });
    let answer = "";
    socket.on("data", (chunk) => {
      answer += chunk;
    });
    socket.on("error", () => undefined);
    socket.write(bytes);
    await new Promise((resolve) => socket.once("close", resolve));
    assert.match(answer, /^HTTP\/1\.1 400 /, bytes);
  }
  assert.deepEqual(world.models.requests, []);
});

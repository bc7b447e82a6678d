/** Goal (R16, S10): a server that compresses though it was asked not to is metered all the same. */
import assert from "node:assert/strict";
import test from "node:test";
import { promisify } from "node:util";
import * as zlib from "node:zlib";
import { type Behaviour, chatEvents, openTestGateway } from "../../support/gateway.ts";

const USAGE = { prompt_tokens: 100, completion_tokens: 10, total_tokens: 110 };
const PACKERS: Record<string, (bytes: Buffer) => Promise<Buffer>> = {
  gzip: promisify(zlib.gzip),
  deflate: promisify(zlib.deflate),
  br: promisify(zlib.brotliCompress),
  zstd: promisify(zlib.zstdCompress),
};

function packed(encoding: string, status = 200): Behaviour {
  return async ({ text }, response) => {
    const isStream = JSON.parse(text).stream === true;
    const body = isStream
      ? chatEvents("hello there", USAGE).join("")
      : JSON.stringify({ choices: [], usage: USAGE });
    const bytes = (await PACKERS[encoding]?.(Buffer.from(body))) ?? Buffer.alloc(0);
    const type = isStream ? "text/event-stream" : "application/json";
    response.writeHead(status, { "content-type": type, "content-encoding": encoding });
    // In pieces, as the network has it.
    for (let at = 0; at < bytes.length; at += 11) response.write(bytes.subarray(at, at + 11));
    response.end();
  };
}

for (const encoding of Object.keys(PACKERS)) {
  test(`R16: an answer in ${encoding} is passed on decoded, and paid by its usage`, async () => {
    await using world = await openTestGateway({ behave: packed(encoding) });
    const whole = await world.chat();
    assert.equal(whole.headers.get("content-encoding"), null);
    assert.deepEqual((await whole.json()).usage, USAGE);
    const streamed = await (await world.chat({ stream: true })).text();
    assert.ok(streamed.startsWith(chatEvents("hello there").join("")));
    assert.equal((await world.quiet(world.budget, (spent) => spent === 240n)).spentNanos, 240n);
    const calls = await world.calls();
    assert.ok(calls.every((call) => !call.is_estimated && call.error === null));
  });
}

test("S10: a bomb is the server's failure, and costs the gateway no memory", async () => {
  const bomb = zlib.gzipSync(Buffer.alloc(128 * 1024 * 1024, " "));
  await using world = await openTestGateway({
    behave: (_, response) => {
      response.writeHead(200, { "content-type": "application/json", "content-encoding": "gzip" });
      response.end(bomb);
    },
  });
  const before = process.memoryUsage().rss;
  assert.equal((await world.chat()).status, 502);
  assert.ok(process.memoryUsage().rss - before < 100 * 1024 * 1024);
  await world.quiet(world.budget);
});

test("an encoding that is not known is a failure of the server", async () => {
  await using world = await openTestGateway({
    behave: (_, response) => {
      response.writeHead(200, { "content-encoding": "gzip, br" });
      response.end("?");
    },
  });
  assert.equal((await world.chat()).status, 502);
  await world.quiet(world.budget);
  assert.match((await world.calls())[0]?.error ?? "", /content-encoding: "gzip, br" is not read/);
});

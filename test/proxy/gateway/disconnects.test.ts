/**
 * Goal (R13, S10): clients that leave, stop sending, read slowly or send by the byte cost the
 * gateway nothing that lasts: no reservation, no socket, no memory, and no other client its answer.
 */
import assert from "node:assert/strict";
import { connect, type Socket } from "node:net";
import test from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { seededRandom } from "../../../orchestrator/runtime/random.ts";
import { chatEvents, openTestGateway, type TestGateway } from "../../support/gateway.ts";

/** DISCONNECTS=10000 is the nightly form. */
const DISCONNECTS = Number(process.env["DISCONNECTS"] ?? 300);
const SEED = Number(process.env["SEED"] ?? 1);
const USAGE = { prompt_tokens: 100, completion_tokens: 10, total_tokens: 110 };
const BODY = JSON.stringify({ model: "normal", messages: [], stream: true, max_tokens: 50 });

function open(world: TestGateway): Socket {
  const { hostname, port } = new URL(world.url);
  const socket = connect({ host: hostname, port: Number(port) });
  socket.on("error", () => undefined);
  return socket;
}

function requestOf(world: TestGateway, more = `content-length: ${BODY.length}`): string {
  const key = `authorization: Bearer ${world.secret}`;
  return `POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\n${key}\r\n${more}\r\n\r\n`;
}

/** Until the gateway has no call, no reservation and, once it is closed, no socket. */
async function checkNothingLeft(world: TestGateway) {
  while (!/calls_in_flight 0/.test(await world.gateway.metrics())) await sleep(5);
  const balance = await world.quiet(world.budget);
  const calls = await world.calls();
  const sum = calls.reduce((total, call) => total + BigInt(call.cost_nanos), 0n);
  assert.equal(sum, balance.spentNanos);
  await world.gateway.close(1_000);
  while (world.models.state.sockets > 0) await sleep(5);
  return calls;
}

async function openStreaming() {
  return openTestGateway({
    fundedNanos: 1_000_000_000n,
    options: { callsPerKeyMax: 1_000 },
    behave: async (_, response) => {
      response.writeHead(200, { "content-type": "text/event-stream" });
      for (const event of chatEvents("hello there", USAGE)) {
        response.write(event);
        await sleep(3);
      }
      response.end();
    },
  });
}

test(`R13: ${DISCONNECTS} clients that leave, each at its own moment, SEED=${SEED}`, async () => {
  await using world = await openStreaming();
  const random = seededRandom(SEED);
  const whole = requestOf(world) + BODY;
  for (let left = DISCONNECTS; left > 0; left -= 50) {
    await Promise.all(
      Array.from({ length: Math.min(50, left) }, async () => {
        const socket = open(world);
        // Some leave in the middle of their request, the others while it is served.
        const bytes = random.below(3) === 0 ? random.below(whole.length) : whole.length;
        const isAbrupt = random.below(2) === 0;
        socket.write(whole.slice(0, bytes));
        await sleep(random.below(600));
        if (isAbrupt) socket.resetAndDestroy();
        else socket.destroy();
      }),
    );
  }
  const calls = await checkNothingLeft(world);
  assert.ok(calls.length > DISCONNECTS / 100, `${calls.length} calls were forwarded`);
});

test("R13: a client that closes its half of the connection gets its whole answer, or none", async () => {
  await using world = await openStreaming();
  const socket = open(world);
  let answer = "";
  socket.on("data", (chunk) => {
    answer += chunk;
  });
  socket.end(requestOf(world, `connection: close\r\ncontent-length: ${BODY.length}`) + BODY);
  await new Promise((resolve) => socket.once("close", resolve));
  assert.ok(answer === "" || answer.includes("data: [DONE]"), answer);
  await checkNothingLeft(world);
});

test("R13: a reader of a byte at a time holds up nobody else", async () => {
  await using world = await openStreaming();
  const slow = open(world);
  slow.pause();
  slow.write(requestOf(world) + BODY);
  const reading = setInterval(() => void slow.read(1), 5);
  const started = performance.now();
  for (let calls = 0; calls < 5; calls++) {
    const response = await world.chat({ max_tokens: 50, stream: true });
    assert.match(await response.text(), /\[DONE\]/);
  }
  assert.ok(performance.now() - started < 30_000);
  clearInterval(reading);
  slow.destroy();
  await checkNothingLeft(world);
});

test("S10: 200 that send a byte at a time, and 1,000 headers, cost honest clients nothing", async () => {
  await using world = await openStreaming();
  const before = process.memoryUsage().rss;
  const sockets = Array.from({ length: 200 }, () => open(world));
  let at = 0;
  const head = requestOf(world);
  const drip = setInterval(() => {
    for (const socket of sockets) socket.write(head[at % 20] ?? "");
    at++;
  }, 10);
  const many = open(world);
  let refusal = "";
  many.on("data", (chunk) => {
    refusal += chunk;
  });
  many.write(requestOf(world, `${"x-a: 1\r\n".repeat(3_000)}content-length: 2`));
  const waits: number[] = [];
  for (let calls = 0; calls < 20; calls++) {
    const started = performance.now();
    const response = await world.chat({ max_tokens: 50, stream: true });
    assert.match(await response.text(), /\[DONE\]/);
    waits.push(performance.now() - started);
  }
  clearInterval(drip);
  assert.ok(Math.max(...waits) < 15_000, `${Math.max(...waits)} ms`);
  assert.match(refusal, /^(HTTP\/1\.1 431 |$)/);
  assert.ok(process.memoryUsage().rss - before < 100 * 1024 * 1024);
  for (const socket of [...sockets, many]) socket.destroy();
  await checkNothingLeft(world);
});

test("S10: a body in chunks of one byte is one body", async () => {
  await using world = await openStreaming();
  const socket = open(world);
  let answer = "";
  socket.on("data", (chunk) => {
    answer += chunk;
  });
  socket.write(requestOf(world, "connection: close\r\ntransfer-encoding: chunked"));
  for (const char of BODY) socket.write(`1\r\n${char}\r\n`);
  socket.write("0\r\n\r\n");
  await new Promise((resolve) => socket.once("close", resolve));
  assert.match(answer, /\[DONE\]/);
  const calls = await checkNothingLeft(world);
  assert.deepEqual([calls.length, calls[0]?.cost_nanos], [1, "120"]);
});

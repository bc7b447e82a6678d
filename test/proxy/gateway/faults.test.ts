/**
 * Goal (R12, R13): whatever a model server or a client does, the call ends, nothing stays held, no
 * more is settled than was held, and what is settled is what the records say.
 *
 * Method: one model server per test, which does the fault; then the books are read.
 */
import assert from "node:assert/strict";
import { request as httpRequest, type ServerResponse } from "node:http";
import { connect } from "node:net";
import test from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import {
  answerChat,
  type Behaviour,
  chatEvents,
  openTestGateway,
  sendJson,
  type TestGateway,
} from "../../support/gateway.ts";

const USAGE = { prompt_tokens: 100, completion_tokens: 10, total_tokens: 110 };

function stream(response: ServerResponse, events: readonly string[]): void {
  response.writeHead(200, { "content-type": "text/event-stream" });
  for (const event of events) response.write(event);
}

/** The sum of what the records say must be what was spent. */
async function audited(world: TestGateway) {
  await world.quiet(world.budget);
  const calls = await world.calls();
  const balance = await world.quiet(world.budget);
  const sum = calls.reduce((total, call) => total + BigInt(call.cost_nanos), 0n);
  assert.equal(sum, balance.spentNanos);
  for (const call of calls) assert.ok(BigInt(call.cost_nanos) <= BigInt(call.reserved_nanos));
  return { spentNanos: balance.spentNanos, calls };
}

/** What a request of `chat({ max_tokens: 50 })` is bounded by: its input's share of the hold. */
async function inputBound(world: TestGateway): Promise<bigint> {
  const [call] = await world.calls();
  return BigInt(call?.reserved_nanos ?? 0) - 3n - 100n;
}

const RELEASED: Record<string, { behave: Behaviour; status: number }> = {
  "429 before any output": {
    behave: (_, response) => {
      response.setHeader("retry-after", "7");
      sendJson(response, { error: { message: "slow down" } }, 429);
    },
    status: 429,
  },
  "500 with a page": {
    behave: (_, response) => {
      response.writeHead(500, { "content-type": "text/html" }).end("<h1>no</h1>");
    },
    status: 500,
  },
  "401 for the gateway's own key": {
    behave: (_, response) => sendJson(response, { error: { message: "bad key sk-abc" } }, 401),
    status: 502,
  },
  "a redirect": {
    behave: (_, response) => {
      response.writeHead(307, { location: "http://169.254.169.254/" }).end();
    },
    status: 502,
  },
  "a reset before the head": {
    behave: (_, response) => void response.destroy(),
    status: 502,
  },
  "200 with an error and nothing else": {
    behave: (_, response) => sendJson(response, { error: { message: "overloaded" } }),
    status: 200,
  },
};

for (const [what, { behave, status }] of Object.entries(RELEASED)) {
  test(`R12: ${what}: the reservation is released`, async () => {
    await using world = await openTestGateway({ behave });
    for (const isStream of [false, true]) {
      const response = await world.chat({ stream: isStream });
      assert.equal(response.status, status);
      const text = await response.text();
      assert.doesNotMatch(text, /sk-abc/);
      if (status === 429) assert.equal(response.headers.get("retry-after"), "7");
    }
    const { spentNanos, calls } = await audited(world);
    assert.equal(spentNanos, 0n);
    assert.equal(calls.length, 2);
    for (const call of calls) assert.equal(call.status, status);
  });
}

const BAD_USAGE: Record<string, unknown> = {
  missing: null,
  negative: { ...USAGE, completion_tokens: -5 },
  "1e18": { ...USAGE, completion_tokens: 1e18 },
  fraction: { ...USAGE, prompt_tokens: 1.5 },
  text: { ...USAGE, prompt_tokens: "100" },
  "no number": { ...USAGE, prompt_tokens: Number.NaN },
  "more cached than there is": { ...USAGE, prompt_tokens_details: { cached_tokens: 101 } },
  list: [],
};

for (const [what, usage] of Object.entries(BAD_USAGE)) {
  test(`R12: usage ${what}: counted from what passed, within what is reserved`, async () => {
    await using world = await openTestGateway({
      behave: ({ text }, response) => {
        if (JSON.parse(text).stream === true) {
          stream(response, chatEvents("hello", usage));
          response.end();
        } else {
          sendJson(response, { choices: [{ message: { content: "hello" } }], usage });
        }
      },
    });
    await (await world.chat({ max_tokens: 50 })).text();
    await (await world.chat({ max_tokens: 50, stream: true })).text();
    const { calls } = await audited(world);
    assert.equal(calls.length, 2);
    for (const call of calls) {
      assert.equal(call.is_estimated, true);
      assert.equal(call.output_tokens, "5");
    }
    assert.equal(BigInt(calls[0]?.cost_nanos ?? 0), (await inputBound(world)) + 10n);
  });
}

test("R12: usage twice is the last total, never the sum; a falling one is an estimate", async () => {
  const usage = (tokens: number) => ({ ...USAGE, completion_tokens: tokens });
  await using world = await openTestGateway({
    behave: ({ text }, response) => {
      const [first, second] = JSON.parse(text).temperature === 0 ? [4, 9] : [9, 4];
      const twice = [
        ...chatEvents("hi", usage(first)).slice(0, -1),
        ...chatEvents("", usage(second)),
      ];
      stream(response, twice);
      response.end();
    },
  });
  await (await world.chat({ temperature: 0, stream: true })).text();
  await (await world.chat({ temperature: 1, stream: true })).text();
  const { calls } = await audited(world);
  assert.deepEqual(
    calls.map((call) => [call.output_tokens, call.is_estimated]),
    [
      ["9", false],
      ["9", true],
    ],
  );
});

test("R12: more than its ceiling is settled at what is reserved, and noted", async () => {
  await using world = await openTestGateway({
    behave: (_, response) => sendJson(response, { usage: { ...USAGE, completion_tokens: 9_999 } }),
  });
  await (await world.chat({ max_tokens: 50 })).text();
  const { calls } = await audited(world);
  assert.equal(calls[0]?.cost_nanos, calls[0]?.reserved_nanos);
  assert.match(calls[0]?.error ?? "", /^overrun: /);
});

test("R12: a stream cut in the middle is cut for the client, and what passed is paid", async () => {
  await using world = await openTestGateway({
    behave: (_, response) => {
      stream(response, chatEvents("hello there").slice(0, 2));
      setTimeout(() => response.destroy(), 20);
    },
  });
  const response = await world.chat({ stream: true, max_tokens: 50 });
  await assert.rejects(response.text());
  const { spentNanos, calls } = await audited(world);
  assert.equal(calls[0]?.is_estimated, true);
  assert.equal(calls[0]?.output_tokens, "8");
  assert.equal(spentNanos, (await inputBound(world)) + 16n);
});

test("R12: a stream cut after its usage is paid by its usage", async () => {
  await using world = await openTestGateway({
    behave: (_, response) => {
      stream(response, chatEvents("hello there", USAGE).slice(0, -1));
      setTimeout(() => response.destroy(), 20);
    },
  });
  await assert.rejects((await world.chat({ stream: true })).text());
  const { calls } = await audited(world);
  assert.deepEqual([calls[0]?.cost_nanos, calls[0]?.is_estimated], ["120", false]);
});

test("R12: a server that stalls is given up at the deadline", async () => {
  await using world = await openTestGateway({
    behave: ({ text }, response) => {
      if (JSON.parse(text).stream === true) stream(response, chatEvents("hello").slice(0, 1));
    },
    options: { callTimeoutMs: 300 },
  });
  const silent = await world.chat();
  assert.equal(silent.status, 502);
  await assert.rejects((await world.chat({ stream: true, max_tokens: 50 })).text());
  const { calls } = await audited(world);
  assert.deepEqual(
    calls.map((call) => [call.output_tokens, call.is_estimated]),
    [
      // Its prompt is charged: a provider may bill what nobody waited for.
      ["0", true],
      ["2", true],
    ],
  );
  assert.ok(world.models.requests.every((received) => received.isAborted));
});

test("R12: an answer without end is cut at its bound", async () => {
  await using world = await openTestGateway({
    behave: (_, response) => {
      response.writeHead(200, { "content-type": "application/json" });
      const chunk = "x".repeat(64 * 1024);
      const pump = (): void => {
        while (!response.destroyed && response.write(chunk));
        if (!response.destroyed) response.once("drain", pump);
      };
      pump();
    },
    options: { answerBytesMax: 1024 * 1024 },
  });
  assert.equal((await world.chat()).status, 502);
  const { calls } = await audited(world);
  assert.match(calls[0]?.error ?? "", /over 1048576 bytes/);
});

/** Sends a chat request by hand, and closes the connection at the moment the test says. */
function openClient(world: TestGateway, body: object) {
  const text = JSON.stringify(body);
  const { hostname, port } = new URL(world.url);
  const outgoing = httpRequest({
    hostname,
    port,
    path: "/v1/chat/completions",
    method: "POST",
    agent: false,
    headers: { authorization: `Bearer ${world.secret}`, "content-length": Buffer.byteLength(text) },
  });
  outgoing.on("error", () => undefined);
  return { outgoing, text };
}

const REQUEST = { model: "normal", messages: [], stream: true, max_tokens: 50 };

test("R13: a client that leaves at any phase leaves nothing held and no socket behind", async () => {
  const seen = { reserves: 0 };
  let onReserve = (): void => undefined;
  await using world = await openTestGateway({
    behave: async (_, response) => {
      await sleep(30);
      stream(response, chatEvents("hello there").slice(0, 1));
      await sleep(30);
      for (const event of chatEvents("hello there", USAGE).slice(1)) response.write(event);
      await sleep(30);
      response.end();
    },
    over: (ledger) => ({
      ...ledger,
      reserve: async (reservation) => {
        const result = await ledger.reserve(reservation);
        seen.reserves++;
        onReserve();
        await sleep(5);
        return result;
      },
    }),
  });

  const between = openClient(world, REQUEST);
  onReserve = () => void between.outgoing.destroy();
  between.outgoing.end(between.text);
  while (seen.reserves === 0) await sleep(5);
  await world.quiet(world.budget);
  assert.deepEqual(world.models.requests, [], "forwarded for a client that had left");
  onReserve = () => undefined;

  const phasesMs = [0, 1, 2, 5, 10, 20, 30, 40, 50, 60, 70, 80, 90, 100];
  await Promise.all(
    phasesMs.map(async (afterMs) => {
      const { outgoing, text } = openClient(world, REQUEST);
      if (afterMs === 0) outgoing.write(text.slice(0, 10));
      else outgoing.end(text);
      await sleep(afterMs + 5);
      outgoing.destroy();
    }),
  );
  while (!/calls_in_flight 0/.test(await world.gateway.metrics())) await sleep(5);
  await audited(world);
  await world.gateway.close(1_000);
  while (world.models.state.sockets > 0) await sleep(5);
});

test("R13: a client that leaves mid-stream stops its model server", async () => {
  await using world = await openTestGateway({
    behave: (_, response) => stream(response, chatEvents("hello there").slice(0, 2)),
  });
  const aborting = new AbortController();
  const response = await fetch(`${world.url}/v1/chat/completions`, {
    method: "POST",
    headers: { authorization: `Bearer ${world.secret}` },
    body: JSON.stringify(REQUEST),
    signal: aborting.signal,
  });
  await response.body?.getReader().read();
  const leftAt = performance.now();
  aborting.abort();
  while (world.models.requests[0]?.isAborted !== true) {
    assert.ok(performance.now() - leftAt < 10_000, "the model server still works");
    await sleep(5);
  }
  const { calls } = await audited(world);
  assert.equal(calls[0]?.is_estimated, true);
});

test("R12: continuous usage makes a cut stream exact", async () => {
  const parts = [3, 7].map(
    (tokens) =>
      `data: ${JSON.stringify({
        choices: [{ delta: { content: "some text" } }],
        usage: { ...USAGE, completion_tokens: tokens },
      })}\n\n`,
  );
  await using world = await openTestGateway({
    provider: { hasContinuousUsage: true },
    behave: (_, response) => {
      stream(response, parts);
      setTimeout(() => response.destroy(), 20);
    },
  });
  await assert.rejects((await world.chat({ stream: true })).text());
  const { calls } = await audited(world);
  assert.deepEqual([calls[0]?.output_tokens, calls[0]?.is_estimated], ["7", false]);
  assert.deepEqual(JSON.parse(world.models.requests[0]?.text ?? "").stream_options, {
    include_usage: true,
    continuous_usage_stats: true,
  });
});

test("R13: a slow reader holds its server back, and loses nothing", async () => {
  const events = chatEvents("x".repeat(600_000), USAGE);
  await using world = await openTestGateway({
    behave: (_, response) => {
      stream(response, events);
      response.end();
    },
  });
  const { hostname, port } = new URL(world.url);
  const text = JSON.stringify({ ...REQUEST, stream_options: { include_usage: true } });
  const socket = connect({ host: hostname, port: Number(port) });
  socket.write(
    `POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\nauthorization: Bearer ${world.secret}\r\n` +
      `content-length: ${Buffer.byteLength(text)}\r\nconnection: close\r\n\r\n${text}`,
  );
  let received = 0;
  socket.on("data", (chunk) => {
    received += chunk.length;
    socket.pause();
    setTimeout(() => socket.resume(), 2);
  });
  await new Promise((resolve) => socket.once("close", resolve));
  assert.ok(received > events.join("").length);
  assert.equal((await audited(world)).spentNanos, 120n);
});

test("R6: a ledger that is away refuses, and settles when it is back", async () => {
  const state = { isAway: false, finishes: 0 };
  await using world = await openTestGateway({
    over: (ledger) => ({
      ...ledger,
      reserve: (reservation) =>
        state.isAway ? Promise.reject(new Error("down")) : ledger.reserve(reservation),
    }),
    overCalls: (calls) => ({
      ...calls,
      finish: (call) => {
        state.finishes++;
        return state.isAway ? Promise.reject(new Error("down")) : calls.finish(call);
      },
    }),
    behave: (received, response) => {
      state.isAway = true;
      answerChat(received, response);
    },
  });
  const answered = await world.chat({ stream: true });
  assert.ok((await answered.text()).startsWith(chatEvents("hello there").join("")));

  const refused = await world.chat();
  assert.equal(refused.status, 503);
  assert.equal(refused.headers.get("retry-after"), "2");
  assert.equal((await refused.json()).error.code, "unavailable");
  assert.equal(world.models.requests.length, 1);

  while (state.finishes < 3) await sleep(5);
  assert.ok(((await world.ledger.balance(world.budget))?.reservedNanos ?? 0n) > 0n);
  state.isAway = false;
  const { spentNanos, calls } = await audited(world);
  assert.deepEqual([spentNanos, calls.length], [120n, 1]);
});

test("a call that outlives its reservation is corrected to what it cost", async () => {
  await using world = await openTestGateway({
    behave: async (received, response) => {
      await world.expire();
      answerChat(received, response);
    },
  });
  assert.equal((await world.chat({ max_tokens: 50 })).status, 200);
  const { calls } = await audited(world);
  assert.deepEqual([calls[0]?.cost_nanos, calls[0]?.is_estimated], ["120", false]);
});

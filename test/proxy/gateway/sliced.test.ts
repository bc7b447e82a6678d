/**
 * Goal: a stream of an own model holds a small multiple of what it uses, however large its ceiling;
 * where the budget does not cover more of it, it ends as at a limit, in its dialect, and is paid.
 *
 * Method: a model server that writes ten tokens an event as fast as it may, and never ends.
 */
import assert from "node:assert/strict";
import type { ServerResponse } from "node:http";
import test from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { type Behaviour, openTestGateway, type TestGateway } from "../../support/gateway.ts";

const TOKENS_A_PIECE = 10;
const PIECE = "0123456789";

const OWN = { provider: { hasContinuousUsage: true } };

/** Writes events until `count` of them or the gateway's end of it, a few at a time. */
async function pump(response: ServerResponse, count: number, event: (at: number) => string) {
  for (let at = 0; at < count && !response.destroyed; at++) {
    if (!response.write(event(at))) await sleep(1);
    if (at % 20 === 0) await sleep(1);
  }
}

const named = (event: { type: string }) =>
  `event: ${event.type}\ndata: ${JSON.stringify(event)}\n\n`;

function chatPiece(at: number): string {
  const usage = { prompt_tokens: 50, completion_tokens: (at + 1) * TOKENS_A_PIECE };
  const choices = [{ index: 0, delta: { content: PIECE }, finish_reason: null }];
  return `data: ${JSON.stringify({ id: "c", model: "m", choices, usage })}\n\n`;
}

const ENDLESS: Record<string, Behaviour> = {
  "/v1/chat/completions": (_, response) => pump(response, 1e6, chatPiece),
  "/v1/messages": async (_, response) => {
    const message = { id: "m", usage: { input_tokens: 50, output_tokens: 1 } };
    response.write(named({ type: "message_start", message } as never));
    const block = { type: "content_block_start", index: 0, content_block: { type: "text" } };
    response.write(named(block));
    const delta = { type: "text_delta", text: PIECE };
    await pump(response, 1e6, () =>
      named({ type: "content_block_delta", index: 0, delta } as never),
    );
  },
  "/v1/responses": async (_, response) => {
    const created = { type: "response.created", response: { id: "r", output: [] } };
    response.write(named(created));
    const item = { id: "i", type: "message", content: [] };
    const added = { type: "response.output_item.added", output_index: 0, item };
    response.write(named(added));
    const where = { output_index: 0, content_index: 0, item_id: "i" };
    await pump(response, 1e6, () =>
      named({ type: "response.output_text.delta", ...where, delta: PIECE } as never),
    );
  },
};

const endless: Behaviour = (received, response) => {
  response.writeHead(200, { "content-type": "text/event-stream" });
  return ENDLESS[received.url]?.(received, response);
};

async function books(world: TestGateway) {
  const balance = await world.quiet(world.budget, (spent) => spent > 0n);
  const calls = await world.calls();
  const sum = calls.reduce((total, call) => total + BigInt(call.cost_nanos), 0n);
  assert.equal(sum, balance.spentNanos);
  return { balance, calls };
}

const LARGE = { model: "normal", stream: true, max_tokens: 4_000 };

test("chat: an answer beyond the budget ends with length, its usage and [DONE], and is paid", async () => {
  await using world = await openTestGateway({ ...OWN, fundedNanos: 6_000n, behave: endless });
  const response = await world.chat({ ...LARGE, stream_options: { include_usage: true } });
  assert.equal(response.status, 200);
  const text = await response.text();
  const { balance, calls } = await books(world);
  const [call] = calls;
  assert.equal(JSON.parse(world.models.requests[0]?.text ?? "").max_tokens, 4_000);
  assert.equal(world.models.requests[0]?.isAborted, true);

  const events = text.split("\n\n").slice(0, -1);
  const [finish, usage, done, comment] = events.slice(-4);
  assert.equal(done, "data: [DONE]");
  assert.deepEqual(JSON.parse(finish?.slice(6) ?? "").choices, [
    { index: 0, delta: {}, logprobs: null, finish_reason: "length" },
  ]);
  const counted = JSON.parse(usage?.slice(6) ?? "").usage;
  assert.equal(counted.completion_tokens, 10 * (events.length - 4));
  assert.equal(counted.completion_tokens, Number(call?.output_tokens));
  assert.equal(call?.cost_nanos, String(50 + 2 * counted.completion_tokens));
  assert.equal(call?.is_estimated, false);
  assert.match(call?.error ?? "", /budget does not cover more/);
  const costs = `cost_nanos=${call?.cost_nanos} remaining_nanos=${balance.availableNanos}`;
  assert.equal(comment, `: autocode ${costs}`);
  // All but less than an event, and what the input was held for, was put to use.
  assert.ok(balance.availableNanos < 1_700n, String(balance.availableNanos));
});

test("messages and responses end as at their limit", async () => {
  const endings: Record<string, RegExp> = {
    "/v1/messages":
      /"type":"content_block_stop","index":0\}\n\nevent: message_delta\ndata: .*"stop_reason":"max_tokens".*\n\nevent: message_stop\n.*\n\n: autocode cost_nanos=\d+ remaining_nanos=\d+\n\n$/,
    "/v1/responses":
      /event: response\.output_item\.done\n.*"status":"incomplete".*\n\nevent: response\.incomplete\n.*"reason":"max_output_tokens".*\n\n: autocode cost_nanos=.*\n\n$/,
  };
  for (const [path, ending] of Object.entries(endings)) {
    await using world = await openTestGateway({ ...OWN, fundedNanos: 6_000n, behave: endless });
    const asked = { ...LARGE, max_output_tokens: 4_000, max_tokens: 4_000 };
    const response = await world.post(path, asked);
    assert.equal(response.status, 200, path);
    assert.match(await response.text(), ending);
    const { calls } = await books(world);
    // Neither says what it generated so far: counted by its bytes, and said so.
    assert.equal(calls[0]?.is_estimated, true);
    assert.ok(Number(calls[0]?.output_tokens) > 1_500, calls[0]?.output_tokens);
  }
});

test("messages: an answer within its ceiling passes whole, though it has more bytes", async () => {
  const text = "four".repeat(1_400);
  const behave: Behaviour = (_, response) => {
    response.writeHead(200, { "content-type": "text/event-stream" });
    const message = { id: "m", usage: { input_tokens: 50, output_tokens: 1 } };
    response.write(named({ type: "message_start", message } as never));
    for (let at = 0; at < text.length; at += 40) {
      const delta = { type: "text_delta", text: text.slice(at, at + 40) };
      response.write(named({ type: "content_block_delta", index: 0, delta } as never));
    }
    const usage = { output_tokens: 1_400 };
    const delta = { stop_reason: "end_turn" };
    response.write(named({ type: "message_delta", delta, usage } as never));
    response.end(named({ type: "message_stop" }));
  };
  await using world = await openTestGateway({ ...OWN, behave });
  const response = await world.post("/v1/messages", { ...LARGE, max_tokens: 1_500 });
  const passed = await response.text();
  assert.match(passed, /"stop_reason":"end_turn"/);
  assert.equal(passed.match(/four/g)?.length, 1_400);
  const { calls } = await books(world);
  assert.equal(calls[0]?.is_estimated, false);
  assert.equal(Number(calls[0]?.output_tokens), 1_400);
});

test("a large ceiling does not starve another key of the same budget", async () => {
  const gate = Promise.withResolvers<void>();
  const behave: Behaviour = async ({ text }, response) => {
    response.writeHead(200, { "content-type": "text/event-stream" });
    for (let at = 0; at < 10; at++) response.write(chatPiece(at));
    if (text.includes("hold on")) await gate.promise;
    response.end("data: [DONE]\n\n");
  };
  await using world = await openTestGateway({ ...OWN, behave });
  const project = await world.openBudget(12_000n);
  const first = await world.openTrial(1_000_000n, [project.budget]);
  const second = await world.openTrial(1_000_000n, [project.budget]);
  const said = [{ role: "user", content: "hold on" }];
  const long = await world.chat({ ...LARGE, messages: said }, first.secret);
  const reserved = (await world.ledger.balance(project.budget))?.reservedNanos ?? 0n;
  assert.ok(reserved < 4_500n, `${reserved} for a ceiling of 8,000 and its input`);

  const other = await world.chat({ ...LARGE, messages: [] }, second.secret);
  assert.equal(other.status, 200);
  await other.text();
  gate.resolve();
  await long.text();
  assert.equal((await world.quiet(project.budget)).spentNanos, 2n * 250n);
});

test("in one piece, from a hosted model, or with an echo the whole ceiling is reserved", async () => {
  await using world = await openTestGateway({
    ...OWN,
    behave: (_, response) => void response.end(),
  });
  await (await world.chat({ max_tokens: 4_000 })).text();
  const echo = { model: "normal", prompt: "x", echo: true, stream: true, max_tokens: 4_000 };
  await (await world.post("/v1/completions", echo)).text();
  await using hosted = await openTestGateway({ behave: (_, response) => void response.end() });
  await (await hosted.chat(LARGE)).text();
  for (const call of [...(await world.calls()), ...(await hosted.calls())]) {
    assert.ok(Number(call.reserved_nanos) > 8_000, call.reserved_nanos);
  }
});

test("a client that leaves in the middle of a slice leaves nothing reserved", async () => {
  await using world = await openTestGateway({ ...OWN, behave: endless });
  await Promise.all(
    [100, 500, 1_000, 2_000, 5_000].map(async (bytes) => {
      const aborting = new AbortController();
      const response = await fetch(`${world.url}/v1/chat/completions`, {
        method: "POST",
        headers: { authorization: `Bearer ${world.secret}` },
        body: JSON.stringify({ ...LARGE, messages: [] }),
        signal: aborting.signal,
      });
      const reader = response.body?.getReader();
      for (let read = 0; read < 20 * bytes; ) {
        const { value, done } = (await reader?.read()) ?? { done: true, value: undefined };
        if (done) break;
        read += value?.length ?? 0;
      }
      aborting.abort();
    }),
  );
  const { calls } = await books(world);
  assert.equal(calls.length, 5);
});

test("a ledger that fails while an answer grows ends it, and its reservations are given back", async () => {
  const state = { reserves: 0 };
  await using world = await openTestGateway({
    ...OWN,
    behave: endless,
    over: (ledger) => ({
      ...ledger,
      reserve: async (reservation) => {
        const made = await ledger.reserve(reservation);
        if (++state.reserves > 1) throw new Error("cut after it was made");
        return made;
      },
    }),
  });
  assert.match(await (await world.chat(LARGE)).text(), /"finish_reason":"length"/);
  const { calls } = await books(world);
  assert.equal(calls[0]?.output_tokens, "1020");
});

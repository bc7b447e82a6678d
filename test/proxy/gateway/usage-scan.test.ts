/**
 * Goal (R16): however a stream is cut on its way, the same usage is read and the same bytes go on.
 *
 * Method: streams of each dialect with each line end, cut at random places; the whole stream in one
 * piece is the reference.
 */
import assert from "node:assert/strict";
import test from "node:test";
import fc from "fast-check";
import type { Wire } from "../../../orchestrator/contract/agents.ts";
import { createUsageScan, usageOfBody } from "../../../proxy/gateway/usage-scan.ts";

/** Splits of each dialect's streams: SPLITS=400000 makes the nightly million and more. */
const RUNS = Number(process.env["SPLITS"] ?? 20_000);

const USAGE = { prompt_tokens: 100, completion_tokens: 10 };
const STREAMS: Record<string, { wire: Wire; events: unknown[]; output: number }> = {
  chat: {
    wire: "openai.chat",
    events: [
      { choices: [{ delta: { content: 'a "usage": 1 \n\r\n é 漢字 😀' } }], usage: null },
      { choices: [], prompt_filter_results: [] },
      { choices: [{ delta: {}, finish_reason: "stop" }] },
      { choices: [], usage: USAGE },
      "[DONE]",
    ],
    output: 10,
  },
  messages: {
    wire: "anthropic.messages",
    events: [
      { type: "message_start", message: { usage: { input_tokens: 5, output_tokens: 1 } } },
      { type: "ping" },
      { type: "content_block_delta", delta: { text: "\r\n\r\n" } },
      { type: "message_delta", usage: { output_tokens: 7 } },
      { type: "message_stop" },
    ],
    output: 7,
  },
  responses: {
    wire: "openai.responses",
    events: [
      { type: "response.created", response: { usage: null } },
      { type: "response.output_text.delta", delta: '{"usage":{"output_tokens":1}}' },
      { type: "response.incomplete", response: { usage: { input_tokens: 3, output_tokens: 4 } } },
    ],
    output: 4,
  },
};

function bytesOf(events: unknown[], lineEnd: string, hasComments: boolean): Buffer {
  const text = events.map((event) => {
    const data = typeof event === "string" ? event : JSON.stringify(event);
    const comment = hasComments ? `: keep-alive${lineEnd}id: 1${lineEnd}` : "";
    return `${comment}data: ${data}${lineEnd}${lineEnd}`;
  });
  return Buffer.from(text.join(""));
}

function pass(wire: Wire, withoutUsageChunk: boolean, chunks: readonly Buffer[]) {
  const scan = createUsageScan(wire, withoutUsageChunk);
  const out = chunks.flatMap((chunk) => scan.push(chunk));
  out.push(...scan.end());
  return { text: Buffer.concat(out).toString("latin1"), seen: scan.seen() };
}

for (const [name, { wire, events, output }] of Object.entries(STREAMS)) {
  test(`R16: ${name}: ${RUNS} cuts of a stream, one reading`, () => {
    for (const isStripped of [false, true]) {
      for (const lineEnd of ["\n", "\r\n", "\r"]) {
        for (const hasComments of [false, true]) {
          const whole = bytesOf(events, lineEnd, hasComments);
          const reference = pass(wire, isStripped, [whole]);
          assert.equal(reference.seen.usage?.outputTokens, output);
          assert.deepEqual([reference.seen.isComplete, reference.seen.isInvalid], [true, false]);
          const kept = isStripped && wire === "openai.chat" ? events.toSpliced(3, 1) : events;
          const wanted = bytesOf(kept, lineEnd, hasComments).toString("latin1");
          assert.equal(reference.text, wanted);
          fc.assert(
            fc.property(fc.array(fc.nat(whole.length), { maxLength: 40 }), (cuts) => {
              const at = [0, ...cuts.sort((a, b) => a - b), whole.length];
              const chunks = at.slice(1).map((end, index) => whole.subarray(at[index], end));
              assert.deepEqual(pass(wire, isStripped, chunks), reference);
            }),
            { numRuns: Math.ceil(RUNS / 12) },
          );
        }
      }
    }
  });
}

test("R16: byte by byte, and with an end that is no end", () => {
  for (const { wire, events } of Object.values(STREAMS)) {
    for (const lineEnd of ["\n", "\r\n", "\r"]) {
      const whole = bytesOf(events, lineEnd, true).subarray(0, -lineEnd.length);
      const reference = pass(wire, true, [whole]);
      const bytes = Array.from(whole, (_, index) => whole.subarray(index, index + 1));
      assert.deepEqual(pass(wire, true, bytes), reference);
    }
  }
});

test("an event too long to look into passes all the same", () => {
  const event = Buffer.from(`data: {"x":"${"y".repeat(9_000_000)}"}\n\n`);
  const last = Buffer.from(`data: ${JSON.stringify({ choices: [], usage: USAGE })}\n\n`);
  const chunks = Array.from({ length: 10 }, (_, index) =>
    event.subarray(index * 1_000_000, (index + 1) * 1_000_000),
  );
  const { text, seen } = pass("openai.chat", true, [...chunks, last]);
  assert.equal(text, Buffer.concat([event, last]).toString("latin1"));
  assert.deepEqual(seen, { usage: null, isComplete: false, isInvalid: false });
});

test("an answer in one piece", () => {
  const read = (text: string) => usageOfBody("openai.chat", Buffer.from(text));
  assert.equal(read(`{"choices":[],"usage":${JSON.stringify(USAGE)}}`).usage?.outputTokens, 10);
  assert.deepEqual(read('{"usage":null}'), { usage: null, isComplete: false, isInvalid: false });
  assert.deepEqual(read('{"id":1}'), { usage: null, isComplete: false, isInvalid: false });
  for (const text of ['{"usage":7}', "<html>", '{"usage":{}}', '{"usage":{},"usage":{}}']) {
    assert.equal(read(text).isInvalid, true, text);
    assert.equal(read(text).usage, null);
  }
});

/**
 * Goal: a stream that is paid for in slices passes whole events, unchanged and in order, as far as
 * its output is reserved, however the network cuts it.
 */
import assert from "node:assert/strict";
import test from "node:test";
import fc from "fast-check";
import type { Wire } from "../../../orchestrator/contract/agents.ts";
import { createFreePassage, createPaidPassage } from "../../../proxy/gateway/passage.ts";

const chunk = (content: string, completion_tokens: number | null) => ({
  choices: [{ index: 0, delta: { content } }],
  ...(completion_tokens === null ? {} : { usage: { prompt_tokens: 3, completion_tokens } }),
});
const bytesOf = (events: unknown[], end = "\n") =>
  Buffer.from(events.map((event) => `data: ${JSON.stringify(event)}${end}${end}`).join(""));

/** Pays for so many tokens; what is `later` comes once it is waited for. */
function pay(tokens: number, later = 0) {
  let paid = tokens;
  return {
    reach: (wanted: number) => wanted <= paid,
    paidTokens: () => paid,
    decided: async () => {
      paid += later;
    },
  };
}

async function run(
  wire: Wire,
  chunks: Buffer[],
  slices: ReturnType<typeof pay>,
  isStripped = false,
) {
  const passed: Buffer[] = [];
  const told: string[] = [];
  const passage = createPaidPassage(wire, isStripped, slices, {
    pass: (bytes) => void passed.push(bytes),
    pause: () => void told.push("pause"),
    resume: () => void told.push("resume"),
    stop: () => void told.push("stop"),
  });
  for (const bytes of chunks) passage.push(bytes);
  await passage.end();
  const seen = passage.seen().usage;
  return {
    text: Buffer.concat(passed).toString(),
    told,
    counted: passage.countedTokens(),
    seen: seen?.outputTokens ?? null,
  };
}

const STREAM = [chunk("one", 10), chunk("two", 20), chunk("three", 30)];
const LAST = { choices: [], usage: { prompt_tokens: 3, completion_tokens: 30 } };

test("as far as it is reserved, and not an event further", async () => {
  const all = [...STREAM, LAST];
  assert.deepEqual(await run("openai.chat", [bytesOf(all)], pay(29)), {
    text: bytesOf(STREAM.slice(0, 2)).toString(),
    told: ["pause", "stop"],
    counted: 20,
    seen: 20,
  });
  assert.deepEqual(await run("openai.chat", [bytesOf(all)], pay(30)), {
    text: bytesOf(all).toString(),
    told: [],
    counted: 30,
    seen: 30,
  });
});

test("what comes faster than an extension waits for it, to the end", async () => {
  assert.deepEqual(await run("openai.chat", [bytesOf([...STREAM, LAST])], pay(10, 10), true), {
    text: bytesOf(STREAM).toString(),
    told: ["pause", "resume", "pause", "resume"],
    counted: 30,
    seen: 30,
  });
});

test("without running counts a byte of text is a token", async () => {
  const plain = [chunk("12345", null), chunk("6789", null)];
  const cut = await run("openai.chat", [bytesOf(plain)], pay(8));
  assert.deepEqual([cut.text, cut.counted], [bytesOf(plain.slice(0, 1)).toString(), 5]);
  const messages = [
    { type: "message_start", message: { usage: { input_tokens: 9, output_tokens: 1 } } },
    { type: "content_block_delta", index: 0, delta: { type: "text_delta", text: "1234" } },
    { type: "message_delta", delta: {}, usage: { output_tokens: 2 } },
  ];
  const whole = await run("anthropic.messages", [bytesOf(messages)], pay(4));
  assert.deepEqual([whole.text, whole.counted, whole.seen], [bytesOf(messages).toString(), 4, 2]);
});

test("a usage that is none, or falls, is not what is counted by", async () => {
  const odd = [chunk("123", -1), chunk("45", 1e18), chunk("6", 2)];
  const { text, counted } = await run("openai.chat", [bytesOf(odd)], pay(6));
  assert.deepEqual([text, counted], [bytesOf(odd).toString(), 6]);
});

test("an event without end is not read for ever", async () => {
  const endless = Buffer.alloc(1024 * 1024, "x");
  const { told, text } = await run("openai.chat", Array(10).fill(endless), pay(9));
  assert.deepEqual([told, text], [["stop"], ""]);
});

test("R16: however it is cut, the same events pass, and what passes is a prefix", async () => {
  for (const end of ["\n", "\r\n", "\r"]) {
    const whole = bytesOf([...STREAM, LAST, chunk("é漢😀", 31)], end);
    for (const paid of [5, 25, 40]) {
      const reference = await run("openai.chat", [whole], pay(paid));
      assert.ok(whole.toString().startsWith(reference.text));
      await fc.assert(
        fc.asyncProperty(fc.array(fc.nat(whole.length), { maxLength: 30 }), async (cuts) => {
          const at = [0, ...cuts.sort((a, b) => a - b), whole.length];
          const chunks = at.slice(1).map((until, index) => whole.subarray(at[index], until));
          const { text, counted } = await run("openai.chat", chunks, pay(paid));
          assert.deepEqual([text, counted], [reference.text, reference.counted]);
        }),
        { numRuns: 200 },
      );
    }
  }
});

test("a free passage passes everything at once", async () => {
  const passed: Buffer[] = [];
  const passage = createFreePassage("openai.chat", false, { pass: (one) => void passed.push(one) });
  const bytes = bytesOf(STREAM);
  passage.push(bytes.subarray(0, 7));
  assert.equal(passed[0]?.length, 7);
  assert.equal(passage.isBetweenEvents(), false);
  passage.push(bytes.subarray(7));
  await passage.end();
  assert.equal(passage.isBetweenEvents(), true);
  assert.equal(Buffer.concat(passed).toString(), bytes.toString());
  assert.deepEqual([passage.seen().usage?.outputTokens, passage.ending], [30, null]);
});

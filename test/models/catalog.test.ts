/** Goal: every shipped pair is usable and priced; a wrong file is told by file, line and field. */
import assert from "node:assert/strict";
import { cp, mkdtempDisposable, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import test from "node:test";
import { parseCard } from "../../models/cards.ts";
import { loadCatalog, parsePair, withProjectPairs } from "../../models/catalog.ts";
import { priceAt } from "../../models/prices.ts";
import { CARD_TEXT } from "../support/card-text.ts";

const MODELS = join(import.meta.dirname, "../../models");
const NOW_MS = Date.parse("2026-01-15T00:00:00Z");

test("every shipped pair has prices in CAD and USD", async () => {
  const { pairs, book } = await loadCatalog(MODELS);
  assert.ok(pairs.size >= 9);
  for (const pair of pairs.values()) {
    for (const { name } of [pair.normal, pair.thinking]) {
      for (const currency of ["CAD", "USD"]) {
        const price = priceAt(book, name, currency, NOW_MS);
        assert.equal(price?.currency, currency, `${name} has no price in ${currency}`);
      }
    }
  }
  assert.equal(pairs.get("scripted")?.isScripted, true);
  assert.equal(pairs.get("coder-32b")?.isScripted, false);
});

const NO_CARDS = new Map();
const MODEL = `
  name: a
  provider: openai
  wires: [openai.chat]
  context_tokens: 4096
  max_output_tokens: 1024`;

test("a wrong pair file is told by file, line and field", () => {
  const good = `title: T\nnormal:${MODEL}\nthinking:${MODEL}\n`;
  assert.equal(parsePair(good, "pairs/mine.yaml", NO_CARDS).name, "mine");
  const faults: [string, RegExp][] = [
    [good.replace("title: T", "title: T\ncolour: red"), /^pairs\/x\.yaml:2: colour: unknown key$/],
    [good.replace("openai.chat", "gopher"), /^pairs\/x\.yaml:5: normal\.wires/],
    [good.replace("4096", "many"), /^pairs\/x\.yaml:6: normal\.context_tokens: /],
    [good.replace("1024", "9999"), /^pairs\/x\.yaml:7: normal\.max_output_tokens: must not be/],
    [good.replace("  name: a\n", ""), /^pairs\/x\.yaml:3: normal: missing name$/],
    [good.replace("  wires: [openai.chat]\n", ""), /^pairs\/x\.yaml:3: normal: missing wires$/],
    [good.replace("  context_tokens: 4096\n", ""), /x\.yaml:3: normal: missing context_tokens$/],
    [`title: [`, /^pairs\/x\.yaml:1: /],
  ];
  for (const [text, message] of faults) {
    assert.throws(() => parsePair(text, "pairs/x.yaml", NO_CARDS), {
      name: "CatalogError",
      message,
    });
  }
});

test("a pair's name is one that a trial and a provider may have, or refused by its file", () => {
  const good = `title: T\nnormal:${MODEL}\nthinking:${MODEL}\n`;
  const longest = `a${"b".repeat(62)}`;
  assert.equal(parsePair(good, `pairs/${longest}.yaml`, NO_CARDS).name, longest);
  for (const name of [`${longest}c`, "My pair", "a/../é", ""]) {
    assert.throws(() => parsePair(good, `pairs/${name}.yaml`, NO_CARDS), {
      name: "CatalogError",
      message: /^pairs\/.*\.yaml: name: a pair is named by its file: at most 63 .*; rename it$/,
    });
  }
});

test("a model of ours takes from its card what its pair does not say, and is never above it", () => {
  const card = parseCard(CARD_TEXT, "cards/coder-1b.yaml");
  const cards = new Map([[card.name, card]]);
  const side = "  name: coder-1b\n  provider: vllm\n";
  const file = (more: string) => `title: T\nnormal:\n${side}${more}thinking:\n${side}`;
  const pair = parsePair(file(""), "pairs/mine.yaml", cards);
  assert.deepEqual(pair.normal, {
    name: "coder-1b",
    upstreamName: "Org/Coder-1B",
    provider: "vllm",
    wires: ["openai.chat", "openai.completions", "openai.responses", "anthropic.messages"],
    contextTokens: 8192,
    maxOutputTokens: 2048,
    fallbacks: [],
  });
  const less = parsePair(file("  context_tokens: 4096\n"), "pairs/mine.yaml", cards);
  assert.deepEqual([less.normal.contextTokens, less.thinking.contextTokens], [4096, 8192]);

  const faults: [string, RegExp][] = [
    [
      file("  context_tokens: 9000\n"),
      /^pairs\/x\.yaml:5: normal\.context_tokens: must not be more than its card's, 8192$/,
    ],
    [file("  max_output_tokens: 4096\n"), /:5: normal\.max_output_tokens: .* its card's, 2048$/],
    [
      file("").replaceAll("coder-1b", "coder-2b"),
      /^pairs\/x\.yaml:3: normal\.name: "coder-2b" .* has no card; the nearest .* "coder-1b"$/,
    ],
  ];
  for (const [text, message] of faults) {
    assert.throws(() => parsePair(text, "pairs/x.yaml", cards), { name: "CatalogError", message });
  }
});

test("a pair whose model has no price is refused when the catalogue is read", async () => {
  await using folder = await mkdtempDisposable(join(tmpdir(), "autocode-catalogue-"));
  for (const name of ["cards", "pairs", "prices.yaml"]) {
    await cp(join(MODELS, name), join(folder.path, name), { recursive: true });
  }
  const text = `title: T\nnormal:${MODEL}\nthinking:${MODEL}\n`;
  await writeFile(join(folder.path, "pairs/mine.yaml"), text);
  await assert.rejects(loadCatalog(folder.path), {
    name: "CatalogError",
    message: "pairs/mine.yaml: a has no price: add one to prices.yaml",
  });
});

test("a project's pair brings its provider and its prices", async () => {
  const catalog = await loadCatalog(MODELS);
  const own = { model: "m-1", base_url: "http://127.0.0.1:9/v1", api_key_env: "M_KEY" };
  const price = { input: "1", output: "2.5" };
  const merged = withProjectPairs(
    catalog,
    { mine: { normal: { ...own, price }, thinking: { model: "o3", provider: "openai" } } },
    "CAD",
  );
  assert.deepEqual(merged.pairs.get("mine")?.normal, {
    name: "mine-normal",
    upstreamName: "m-1",
    provider: "mine-normal",
    wires: ["openai.chat"],
    contextTokens: 32_768,
    maxOutputTokens: 8_192,
    fallbacks: [],
  });
  assert.deepEqual(merged.providers.get("mine-normal"), {
    name: "mine-normal",
    baseUrl: "http://127.0.0.1:9/v1",
    apiKeyEnv: "M_KEY",
    authStyle: "bearer",
  });
  assert.deepEqual(priceAt(merged.book, "mine-normal", "CAD", NOW_MS), {
    version: "mine-normal@project-770a20b6",
    currency: "CAD",
    inputNanosPerMillion: "1000000000",
    cacheReadNanosPerMillion: "1000000000",
    cacheWriteNanosPerMillion: "1000000000",
    longCacheWriteNanosPerMillion: "1600000000",
    outputNanosPerMillion: "2500000000",
  });
  assert.equal(merged.pairs.get("mine")?.thinking.name, "o3");
  assert.equal(catalog.pairs.has("mine"), false);
});

test("fallbacks are named by pair files and by projects, each with a price of its own", async () => {
  const fallback = "\n  fallbacks: [{ provider: openai, name: gpt-4.1-mini }, { provider: vllm }]";
  const file = `title: T\nnormal:${MODEL}${fallback}\nthinking:${MODEL}\n`;
  const hosted = { provider: "openai", wires: ["openai.chat", "openai.responses"] };
  assert.deepEqual(parsePair(file, "pairs/mine.yaml", NO_CARDS).normal.fallbacks, [
    { name: "gpt-4.1-mini", upstreamName: "gpt-4.1-mini", ...hosted },
    { name: "a", upstreamName: "a", provider: "vllm", wires: ["openai.chat"] },
  ]);

  const catalog = await loadCatalog(MODELS);
  const price = { input: "1", output: "2.5" };
  const own = { model: "m-1", base_url: "http://127.0.0.1:9/v1", price };
  const fallbacks = [
    { ...own, model: "m-2" },
    { model: "o3", provider: "openai" as const },
  ];
  const pair = { normal: { ...own, fallbacks }, thinking: own };
  const merged = withProjectPairs(catalog, { mine: pair }, "CAD");
  assert.deepEqual(
    merged.pairs.get("mine")?.normal.fallbacks.map((each) => [each.name, each.upstreamName]),
    [
      ["mine-normal-1", "m-2"],
      ["o3", "o3"],
    ],
  );
  assert.ok(priceAt(merged.book, "mine-normal-1", "CAD", NOW_MS) !== null);
  assert.equal(merged.providers.get("mine-normal-1")?.baseUrl, "http://127.0.0.1:9/v1");
});

test("a project's pair that cannot work is refused by field", async () => {
  const catalog = await loadCatalog(MODELS);
  const thinking = { model: "o3", provider: "openai" as const };
  const refuse = (normal: object, message: RegExp) =>
    assert.throws(
      () =>
        withProjectPairs(catalog, { p: { normal: { model: "m", ...normal }, thinking } }, "CAD"),
      { name: "CatalogError", message },
    );
  refuse({}, /^models\.p\.normal: name a provider, or give base_url$/);
  refuse({ base_url: "http://" }, /^models\.p\.normal\.base_url: /);
  refuse({ base_url: "http://u:secret@h/v1" }, /api_key_env, not in the URL$/);
  refuse({ provider: "openai", api_key_env: "K" }, /only goes with base_url$/);
  refuse(
    { provider: "openai", context_tokens: 2048, max_output_tokens: 4096 },
    /max_output_tokens/,
  );
  const model = { provider: "openai" };
  refuse({ ...model, price: { input: "1" } }, /^models\.p\.normal\.price: give input and output/);
  const fallbacks = [{ model: "m" }];
  refuse({ ...model, fallbacks }, /^models\.p\.normal\.fallbacks\.0: name a provider/);
});

/**
 * Goal: what the cards say is what their models are, and a wrong card is told by file, line and
 * field. The counts of parameters and bytes are not taken from anywhere: they follow from the
 * architecture, so that a wrong digit in either is seen.
 */
import assert from "node:assert/strict";
import { access } from "node:fs/promises";
import { join } from "node:path";
import test from "node:test";
import type { ModelCard } from "../../models/card.ts";
import { loadCards, parseCard } from "../../models/cards.ts";
import { loadCatalog } from "../../models/catalog.ts";
import { CARD_TEXT } from "../support/card-text.ts";

const MODELS = join(import.meta.dirname, "../../models");

/** What makes two models of one shape differ: biases (Qwen2), norms of heads (Qwen3), neither. */
type Family = "qwen2" | "qwen3-moe" | "llama";

function familyOf({ name }: ModelCard): Family {
  if (name.startsWith("qwen3")) return "qwen3-moe";
  return name.includes("qwen") ? "qwen2" : "llama";
}

/** Of a decoder with grouped-query attention, a gated feed-forward and two norms a layer. */
function parametersOf(card: ModelCard) {
  const { architecture: model } = card;
  const { layers, hidden, heads, kvHeads, headDim, vocabulary } = model;
  const family = familyOf(card);
  const embeddings = vocabulary * hidden * (model.hasTiedEmbeddings ? 1 : 2);
  const attention = 2 * hidden * heads * headDim + 2 * hidden * kvHeads * headDim;
  const used = 3 * hidden * model.intermediate;
  const { total, perToken } = model.experts ?? { total: 1, perToken: 1 };
  const stored = (used / perToken) * total;
  const biases = family === "qwen2" ? (heads + 2 * kvHeads) * headDim : 0;
  const headNorms = family === "qwen3-moe" ? 2 * headDim : 0;
  const router = model.experts === null ? 0 : hidden * total;
  const small = layers * (2 * hidden + biases + headNorms + router) + hidden;
  return {
    total: embeddings + layers * (attention + stored) + small,
    active: embeddings + layers * (attention + used) + small,
    linear: layers * (attention + stored),
  };
}

test("the parameters and the bytes of every card follow from its architecture", async () => {
  const cards = await loadCards(MODELS);
  assert.equal(cards.size, 12);
  for (const card of cards.values()) {
    const { total, active, linear } = parametersOf(card);
    assert.deepEqual(card.parameters, { total, active }, card.name);
    for (const { name, weightBytes, isAtLoad, block } of card.quantisations) {
      // The rest stays as it is; int4 has a scale of 16 and a zero point of 4 bits for each 128;
      // published fp8 a scale of 32 bits for each 128 x 128.
      const bytesEach = { bf16: 2, fp8: isAtLoad ? 1 : 1 + 4 / 128 ** 2, "awq-int4": 66.5 / 128 };
      const each = bytesEach[name as keyof typeof bytesEach];
      const bytes = linear * each + (total - linear) * 2;
      assert.equal(Math.abs(weightBytes - bytes) < 1, true, `${card.name} ${name}: ${bytes}`);
      assert.equal(block, name === "bf16" || isAtLoad ? undefined : 128, `${card.name} ${name}`);
    }
  }
});

test("a card's files are here, and its best quantisation is the first", async () => {
  for (const card of (await loadCards(MODELS)).values()) {
    for (const file of [card.toolParser?.plugin, card.chatTemplate]) {
      if (file !== null && file !== undefined) await access(join(MODELS, "serving", file));
    }
    const bytes = card.quantisations.map(({ weightBytes }) => weightBytes);
    assert.deepEqual(
      bytes,
      bytes.toSorted((a, b) => b - a),
      card.name,
    );
    // vLLM refuses calls with tools where it has no parser, and agents' calls have them.
    assert.notEqual(card.toolParser, null, card.name);
  }
});

test("every card is of a pair, and what a person must accept is said", async () => {
  const { pairs, cards } = await loadCatalog(MODELS);
  const used = new Set(
    [...pairs.values()].flatMap((pair) => [pair.normal.name, pair.thinking.name]),
  );
  assert.deepEqual(
    [...cards.keys()].filter((name) => !used.has(name)),
    [],
  );
  const bound = [...cards.values()].filter(({ licence }) => licence.needsAcceptance);
  assert.deepEqual(
    bound.map(({ name, licence }) => [name, licence.id]),
    [
      ["deepseek-r1-distill-llama-8b", "llama3.1"],
      ["qwen2.5-coder-3b-instruct", "qwen-research"],
    ],
  );
});

test("a card is what its file says", () => {
  assert.deepEqual(parseCard(CARD_TEXT, "cards/coder-1b.yaml"), {
    name: "coder-1b",
    title: "Coder 1B",
    licence: { id: "apache-2.0", url: "https://hub.test/licence", needsAcceptance: false },
    parameters: { total: 1_200_000_000, active: 1_200_000_000 },
    architecture: {
      layers: 2,
      hidden: 64,
      intermediate: 128,
      experts: null,
      heads: 4,
      kvHeads: 2,
      headDim: 16,
      vocabulary: 1024,
      contextTokens: 16_384,
      dtype: "bf16",
      hasTiedEmbeddings: true,
    },
    quantisations: [
      {
        name: "bf16",
        repository: "Org/Coder-1B",
        revision: "0123456789abcdef0123456789abcdef01234567",
        isAtLoad: false,
        weightBytes: 2_400_000_000,
      },
      {
        name: "fp8",
        repository: "Org/Coder-1B",
        revision: "0123456789abcdef0123456789abcdef01234567",
        isAtLoad: true,
        weightBytes: 1_300_000_000,
      },
    ],
    callsTools: true,
    toolParser: { name: "hermes", plugin: null },
    reasoningParser: null,
    chatTemplate: null,
    sampling: { temperature: 0.7, topP: 0.8, topK: null, repetitionPenalty: null },
    contextTokens: 8192,
    maxOutputTokens: 2048,
    source: "a test",
  });
});

test("a wrong card is told by file, line and field", () => {
  const faults: [from: string, to: string, RegExp][] = [
    ["title: Coder 1B", "titel: Coder 1B", /^cards\/x\.yaml:1: titel: unknown key$/],
    ["context_tokens: 8192", "context_tokens: 20000", /:36: context_tokens: .* 16384$/],
    ["max_output_tokens: 2048", "max_output_tokens: 8192", /:37: max_output_tokens: must be less/],
    ["total: 1200000000", "total: 5\n  active: 6", /:9: parameters\.active: must not be more/],
    ["kv_heads: 2", "kv_heads: 3", /:14: architecture\.kv_heads: must divide heads, 4/],
    ["heads: 4", "heads: 4\n  experts: { total: 2, per_token: 3 }", /experts\.per_token: must/],
    ["0123456789abcdef0123456789abcdef01234567", "main", /:23: quantisations\.0\.revision: /],
    ["name: fp8", "name: bf16", /:25: quantisations\.1\.name: "bf16" is there twice$/],
    ["repository: Org/Coder-1B", "repository: ../x", /:22: quantisations\.0\.repository: /],
    ["repository: Org/Coder-1B", "repository: Org/Other", /quantisations\.1\.repository: is quant/],
    ["name: hermes", "name: hermes\n  plugin: ../parser.py", /:33: tool_parser\.plugin: /],
    [
      "is_at_load: true",
      "is_at_load: true\n    block: 128",
      /quantisations\.1\.block: weights that/,
    ],
    ["dtype: bf16", "dtype: int2", /:18: architecture\.dtype: /],
  ];
  for (const [from, to, message] of faults) {
    const text = CARD_TEXT.replace(from, to);
    assert.notEqual(text, CARD_TEXT, from);
    assert.throws(() => parseCard(text, "cards/x.yaml"), { name: "CatalogError", message });
  }
});

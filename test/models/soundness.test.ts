/**
 * Goal: which agent works with which pair is told from what both are, and docs/models.md shows it.
 *
 * Method: pairs and agents made up around each limit, then the shipped ones; the table in the page
 * is written anew by `npm run golden`.
 */
import assert from "node:assert/strict";
import { readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import test from "node:test";
import type { ModelCard } from "../../models/card.ts";
import { type CatalogModel, loadCatalog, type ModelPair } from "../../models/catalog.ts";
import { agentsOfPlan, soundnessOf, soundnessTable } from "../../models/soundness.ts";
import type { AgentFacts } from "../../orchestrator/contract/agents.ts";
import { AGENTS } from "../../worker-agent/agents/registry.ts";

const ROOT = join(import.meta.dirname, "../..");
const catalog = await loadCatalog(join(ROOT, "models"));
const agents = AGENTS.map(({ facts }) => facts);
const [someAgent] = agents;
const someCard = catalog.cards.get("qwen2.5-coder-14b-instruct");
assert.ok(someAgent !== undefined && someCard !== undefined);

function agentOf(facts: Partial<AgentFacts>): AgentFacts {
  const usual = { prompt_floor_tokens: 1_000, needs_tool_calls: true };
  return { ...(someAgent as AgentFacts), name: "it", ...usual, ...facts };
}

function pairOf(normal: Partial<CatalogModel>, thinking: Partial<CatalogModel> = {}): ModelPair {
  const model = {
    provider: "vllm",
    wires: ["openai.chat"] as const,
    contextTokens: 32_768,
    maxOutputTokens: 8_192,
    fallbacks: [],
  };
  return {
    ...{ name: "pair", title: "A pair", note: null, isScripted: false },
    normal: { name: "n", upstreamName: "n", ...model, ...normal },
    thinking: { name: "t", upstreamName: "t", ...model, ...thinking },
  };
}

function cardsOf(normal: Partial<ModelCard>, thinking: Partial<ModelCard> = {}) {
  const card = someCard as ModelCard;
  return new Map([
    ["n", { ...card, name: "n", ...normal }],
    ["t", { ...card, name: "t", ...thinking }],
  ]);
}

function verdict(...given: Parameters<typeof soundnessOf>): string {
  const { verdict, reasons } = soundnessOf(...given);
  return [verdict, ...reasons.map(({ kind }) => kind)].join(" ");
}

test("tool calls: what edits by them needs a model that makes them", () => {
  const blind = { callsTools: false };
  const needs = agentOf({});
  const byText = agentOf({ needs_tool_calls: false });
  assert.equal(verdict(needs, pairOf({}), cardsOf({})), "sound");
  assert.equal(verdict(needs, pairOf({}), cardsOf({}, blind)), "limited plans_blind");
  assert.equal(verdict(needs, pairOf({}), cardsOf(blind)), "unsound no_tools");
  assert.equal(verdict(needs, pairOf({}), cardsOf(blind, blind)), "unsound no_tools plans_blind");
  assert.equal(verdict(byText, pairOf({}), cardsOf(blind, blind)), "sound");
  // Then vllm refuses the plan phase's first call.
  assert.equal(verdict(needs, pairOf({}), cardsOf({}, { toolParser: null })), "unsound no_parser");
  assert.equal(verdict(byText, pairOf({}), cardsOf({}, { toolParser: null })), "sound");
  // Somebody else's model has no card.
  assert.equal(verdict(needs, pairOf({}), new Map()), "sound");
});

test("room: the agent's own prompt must leave enough of the context", () => {
  const cards = cardsOf({});
  const at = (floor: number) => verdict(agentOf({ prompt_floor_tokens: floor }), pairOf({}), cards);
  assert.equal(at(16_384), "sound");
  assert.equal(at(16_385), "limited little_room little_room");
  assert.equal(at(28_672), "limited little_room little_room");
  assert.equal(at(28_673), "unsound no_room no_room");
  const { reasons } = soundnessOf(
    agentOf({ prompt_floor_tokens: 30_000 }),
    pairOf({}, { contextTokens: 100_000 }),
    cards,
  );
  assert.deepEqual(reasons, [
    {
      kind: "no_room",
      detail: "the agent's own prompt takes 30000 of n's 32768 tokens; 4096 must be left",
    },
  ]);
});

test("room is of what is served, which is never more than the model's", () => {
  const agent = agentOf({ prompt_floor_tokens: 8_000 });
  const found = (normal: number) => verdict(agent, pairOf({}), cardsOf({}), { normal });
  assert.equal(found(100_000), "sound");
  assert.equal(found(24_384), "sound");
  assert.equal(found(16_384), "limited little_room");
  assert.equal(found(8_192), "unsound no_room");
});

test("more context is never worse, a longer prompt never better", () => {
  const rank = { unsound: 0, limited: 1, sound: 2 };
  for (let floor = 0; floor <= 40_000; floor += 1_000) {
    let before = 0;
    for (let contextTokens = 8_192; contextTokens <= 65_536; contextTokens += 1_024) {
      const pair = pairOf({ contextTokens }, { contextTokens });
      const of = (tokens: number) =>
        rank[soundnessOf(agentOf({ prompt_floor_tokens: tokens }), pair, cardsOf({})).verdict];
      assert.ok(of(floor) >= before && of(floor) >= of(floor + 1), `${floor} of ${contextTokens}`);
      before = of(floor);
    }
  }
});

test("a protocol that a model does not speak is told", () => {
  const agent = agentOf({ wire: "anthropic.messages" });
  assert.deepEqual(soundnessOf(agent, pairOf({ wires: ["anthropic.messages"] }), cardsOf({})), {
    agent: "it",
    verdict: "unsound",
    reasons: [{ kind: "other_protocol", detail: "it speaks anthropic.messages, t openai.chat" }],
  });
});

test("every agent has a pair of ours that it is sound with, and each pair an agent", () => {
  const own = [...catalog.pairs.values()].filter(({ normal }) => normal.provider === "vllm");
  const isSound = (agent: AgentFacts, pair: ModelPair) =>
    soundnessOf(agent, pair, catalog.cards).verdict === "sound";
  for (const agent of agents) {
    assert.ok(
      own.some((pair) => isSound(agent, pair)),
      agent.name,
    );
  }
  for (const pair of own) {
    assert.ok(
      agents.some((agent) => isSound(agent, pair)),
      pair.name,
    );
  }
});

test("a plan says which agents work with its contexts, and what its contexts keep from working", () => {
  const big = agentOf({ name: "big", prompt_floor_tokens: 7_000 });
  const blind = agentOf({ name: "small", prompt_floor_tokens: 100 });
  const mute = agentOf({ name: "mute", wire: "anthropic.messages" });
  const cards = cardsOf({}, { callsTools: false });
  const all = [big, blind, mute];
  assert.deepEqual(agentsOfPlan(all, pairOf({}), cards, { normal: 10_000, thinking: 32_768 }), {
    step: {
      what: "agents that work with it",
      calculation:
        "big: unsound: no room, plans blind; small: limited: little room, plans blind; " +
        "mute: unsound: little room, other protocol, plans blind",
      source: 'docs/models.md, "Which agent with which pair"',
    },
    advice: [
      "big does not work with these contexts: the agent's own prompt takes 7000 of n's 10000 " +
        "tokens; 4096 must be left",
    ],
  });
  assert.deepEqual(agentsOfPlan(all, pairOf({}), cards, {}).advice, []);
});

test("docs/models.md shows the table", async () => {
  const path = join(ROOT, "docs/models.md");
  const page = await readFile(path, "utf8");
  const [, before, shown, after] =
    /^(.*<!-- agents and pairs: begin -->\n)(.*)(<!-- agents and pairs: end -->.*)$/s.exec(page) ??
    assert.fail("docs/models.md has no place for the table");
  const table = soundnessTable(agents, [...catalog.pairs.values()], catalog.cards);
  if (process.execArgv.includes("--test-update-snapshots")) {
    await writeFile(path, `${before}${table}${after}`);
  } else {
    assert.equal(shown, table, "npm run golden writes it anew");
  }
});

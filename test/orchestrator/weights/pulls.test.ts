/** Goal: what people ask to pull is found, and all that speaks against it is said before a byte. */
import assert from "node:assert/strict";
import { mkdir, readdir, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { test } from "node:test";
import { loadCards } from "../../../models/cards.ts";
import { loadCatalog, type ModelPair } from "../../../models/catalog.ts";
import type { PullRequest, WeightProgress } from "../../../orchestrator/contract/weights.ts";
import { Problem } from "../../../orchestrator/problem.ts";
import { createPulls, type UsersHeld } from "../../../orchestrator/weights/pulls.ts";
import { COMMIT, madeUpCard, madeUpFiles } from "../../support/fake-hub.ts";
import { openWeightWorld, type WeightWorld } from "../../support/weights.ts";

const NOBODY: UsersHeld = (work) => work([]);

const MODELS = join(import.meta.dirname, "../../../models");
const LICENCE = { id: "qwen-research", url: "https://licence.test/q", needsAcceptance: true };

/** A pair of two models: the second's licence binds. */
async function openPair(): Promise<{ world: WeightWorld; cards: Map<string, typeof NORMAL> }> {
  const world = await openWeightWorld(NORMAL);
  world.hub.repositories.set("made/thinker", { commit: COMMIT, files: madeUpFiles(100) });
  return { world, cards: new Map([NORMAL, THINKING].map((card) => [card.name, card])) };
}

const NORMAL = madeUpCard();
const THINKING = madeUpCard({
  name: "made-up-thinker",
  licence: LICENCE,
  quantisations: [
    {
      ...{ name: "bf16", repository: "made/thinker", revision: COMMIT, isAtLoad: false },
      weightBytes: 200,
    },
  ],
});

function pairOf(normal: string, thinking: string, provider = "vllm"): ModelPair {
  const side = (name: string) => ({
    ...{ name, upstreamName: name, provider, wires: [], fallbacks: [] },
    ...{ contextTokens: 4_096, maxOutputTokens: 1_024 },
  });
  const sides = { normal: side(normal), thinking: side(thinking) };
  return { name: "made-up-1b-pair", title: "Made up", note: null, isScripted: false, ...sides };
}

async function ask(
  { world, cards }: Awaited<ReturnType<typeof openPair>>,
  request: PullRequest,
  pair: ModelPair = pairOf(NORMAL.name, THINKING.name),
): Promise<WeightProgress[]> {
  const store = world.store({ cards });
  const catalog = { pairs: new Map([[pair.name, pair]]) };
  const prepared = await createPulls(store, cards, catalog, world.dir, NOBODY).prepare(
    request,
    "admin",
  );
  const told: WeightProgress[] = [];
  await prepared.run((line) => void told.push(line), new AbortController().signal);
  return told;
}

function refused(code: string, word: RegExp) {
  return (error: unknown) =>
    error instanceof Problem && error.code === code && word.test(error.message);
}

test("a pair's models are pulled one after the other, once their licences are accepted", async () => {
  const pair = await openPair();
  await using world = pair.world;
  await assert.rejects(
    ask(pair, { model: "made-up-1b-pair" }),
    refused("conflict", /made-up-thinker .* --accept-licence qwen-research/),
  );
  assert.equal(world.hub.seen.length, 0, "not even the first one's");
  const accepted = { accepted_licences: ["qwen-research"], accepted_by: "ada" };
  const told = await ask(pair, { model: "1b", ...accepted });
  const ends = told.filter(({ step }) => step === "pulled").map(({ model }) => model);
  assert.deepEqual(ends, ["made-up-1b", "made-up-thinker"]);
  const stored = await world.store().list();
  assert.deepEqual(
    stored.map(({ model, state, accepted_by: by }) => [model, state, by]),
    [
      ["made-up-1b", "whole", null],
      ["made-up-thinker", "whole", "ada (admin)"],
    ],
  );
  const checked = await ask(pair, { model: "1b", is_verify: true });
  assert.equal(checked.filter(({ step }) => step === "checked").length, 2);
});

test("a model's own name is that model, and a pair of one model pulls it once", async () => {
  const pair = await openPair();
  await using world = pair.world;
  const told = await ask(pair, { model: "made-up-1b", quantisation: "fp8" });
  assert.equal(told.at(-1)?.step, "pulled");
  assert.equal((await world.store().list()).length, 1);
  const same = pairOf(NORMAL.name, NORMAL.name);
  const again = await ask(pair, { model: "made-up-1b-pair" }, same);
  assert.deepEqual(
    again.map(({ step }) => step),
    ["already_here"],
  );
});

test("what cannot be pulled is told with what can", async () => {
  const pair = await openPair();
  await using world = pair.world;
  const wrong: [PullRequest, string, RegExp][] = [
    [{ model: "99b" }, "not_found", /unknown pair "99b".*models: made-up-1b, made-up-thinker/],
    [{ model: "made-up-1b", quantisation: "gguf" }, "not_found", /has no "gguf"; it has bf16, fp8/],
    [{ model: "made-up-1b-pair", from: "/copied" }, "invalid_request", /holds one model/],
  ];
  for (const [request, code, word] of wrong) {
    await assert.rejects(ask(pair, request), refused(code, word));
  }
  const hosted = pairOf("gpt", "gpt", "openai");
  await assert.rejects(
    ask(pair, { model: "made-up-1b-pair" }, hosted),
    refused("conflict", /gpt .* is openai's and has no weights/),
  );
  assert.equal(world.hub.seen.length, 0);
});

test("a fault is the last line, with its words; a defect's are the log's", async () => {
  const pair = await openPair();
  await using world = pair.world;
  world.hub.repositories.clear();
  const store = world.store({ cards: pair.cards });
  const pulls = createPulls(store, pair.cards, { pairs: new Map() }, world.dir, NOBODY);
  const told: WeightProgress[] = [];
  const prepared = await pulls.prepare({ model: "made-up-1b" }, "admin");
  const run = prepared.run((line) => void told.push(line), new AbortController().signal);
  await assert.rejects(run, refused("not_found", /made\/up/));
  assert.equal(told.at(-1)?.step, "failed");
  assert.match(told.at(-1)?.detail ?? "", /Repository not found/);
});

test("each pair of ours that vLLM serves has cards whose weights can be asked for", async () => {
  await using world = await openWeightWorld();
  const [cards, catalog] = await Promise.all([loadCards(MODELS), loadCatalog(MODELS)]);
  const pulls = createPulls(world.store({ cards }), cards, catalog, world.dir, NOBODY);
  const own = [...catalog.pairs.values()].filter(({ normal }) => normal.provider === "vllm");
  assert.ok(own.length >= 5, "the catalogue has pairs of our own");
  const accepted_licences = [...new Set([...cards.values()].map(({ licence }) => licence.id))];
  for (const { name } of own) await pulls.prepare({ model: name, accepted_licences }, "admin");
  assert.equal(world.hub.seen.length, 0);
});

test("weights are removed and counted, not those that an engine uses; they come again as they were", async () => {
  await using world = await openWeightWorld();
  const store = world.store();
  const cards = new Map([[world.card.name, world.card]]);
  const user = { pair: "a-pair", model: "made-up-1b", quantisation: "bf16" };
  let users = [user];
  const held: UsersHeld = (work) => work(users);
  const pulls = createPulls(store, cards, { pairs: new Map() }, world.dir, held);
  const model = "made-up-1b";
  await assert.rejects(pulls.remove({ model: "99b" }), refused("not_found", /99b/));
  const { revision } = await world.pull();
  const [stored] = await store.list();
  const inUse = [{ model }, { model, quantisation: "bf16" }];
  for (const request of inUse) {
    await assert.rejects(pulls.remove(request), refused("conflict", /An engine .*made-up-1b/));
  }
  assert.equal((await store.find(model, "bf16"))?.revision, revision);
  users = [];
  const root = join(world.dir, model, "bf16");
  await mkdir(join(root, ".removed-crashed", COMMIT), { recursive: true });
  await writeFile(join(root, ".removed-crashed", COMMIT, "model.safetensors"), "what is left");
  assert.equal((await store.list()).length, 1, "what was removed before a crash is no model");
  const bytes = stored?.bytes ?? 0;
  assert.ok(bytes > 0);
  assert.deepEqual(await pulls.remove({ model }), {
    freed_bytes: bytes,
    removed: [{ model, quantisation: "bf16", bytes }],
  });
  assert.deepEqual(await store.list(), []);
  const left = await readdir(root);
  assert.deepEqual(
    left.filter((name) => name === revision || name.startsWith(".removed-")),
    [],
  );
  assert.equal(await store.find(model, "bf16"), null);
  await assert.rejects(pulls.remove({ model }), refused("not_found", /No weights of made-up-1b/));
  assert.equal((await world.pull()).revision, revision);
});

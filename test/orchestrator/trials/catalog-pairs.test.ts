/** Goal: a pair becomes models with prices and fallbacks that can be used here, or is refused. */
import assert from "node:assert/strict";
import { join } from "node:path";
import test from "node:test";
import { loadCatalog } from "../../../models/catalog.ts";
import type { ProjectFile } from "../../../orchestrator/contract/projects.ts";
import type { EngineAway, ServedEngine } from "../../../orchestrator/serving/serving.ts";
import {
  createCatalogPairs,
  type ProviderAddress,
} from "../../../orchestrator/trials/catalog-pairs.ts";
import { AGENTS } from "../../../worker-agent/agents/registry.ts";

const MODELS = join(import.meta.dirname, "../../../models");
const clock = { now: () => Date.parse("2026-11-21T12:00:00Z") };
const OPENAI = {
  name: "openai",
  baseUrl: "https://127.0.0.1:9/v1",
  apiKey: "k",
  authStyle: "bearer" as const,
  isHosted: true,
  hasContinuousUsage: false,
  hasTokenCount: false,
};
const price = { input: "1", output: "2" };
const own = { model: "m", base_url: "http://127.0.0.1:9/v1", price };

async function open() {
  const catalog = await loadCatalog(MODELS);
  return createCatalogPairs(
    catalog,
    () => [OPENAI],
    () => null,
    clock,
  );
}

function agent(name: string) {
  const found = AGENTS.find(({ facts }) => facts.name === name);
  assert.ok(found !== undefined);
  return found.facts;
}

function file(
  normal: Partial<NonNullable<ProjectFile["models"]>[string]["normal"]>,
  currency = "CAD",
): ProjectFile {
  const models = { mine: { normal: { ...own, ...normal }, thinking: own } };
  return { project: "demo", currency, budget: { total: "1", per_trial: "1" }, models };
}

test("fallbacks that are set up here and speak to the agent are granted, in their order", async () => {
  const pairs = await open();
  const fallbacks = [
    { model: "gpt-4.1-mini", provider: "openai" as const },
    { model: "claude-haiku-4-5", provider: "anthropic" as const },
    { ...own, model: "spare", base_url: "http://127.0.0.1:10/v1" },
    { ...own, model: "other-wire", wires: ["anthropic.messages" as const] },
  ];
  const given = file({ fallbacks });
  const [normal, thinking] = pairs.resolve(given, "mine", agent("qwen-code")).models;
  assert.deepEqual(
    normal.fallbacks?.map((each) => [each.provider, each.upstreamName, each.price.version]),
    [
      ["openai", "gpt-4.1-mini", "gpt-4.1-mini@2025-04-14,USD/CAD@2025-01-01"],
      ["demo/mine-normal-3", "spare", normal.fallbacks?.[1]?.price.version],
    ],
  );
  assert.match(normal.fallbacks?.[1]?.price.version ?? "", /^mine-normal-3@project-/);
  assert.equal(pairs.provider("demo/mine-normal-3")?.baseUrl, "http://127.0.0.1:10/v1");
  assert.deepEqual(thinking.fallbacks, []);
});

test("a model without a price is refused, and so is a fallback without one", async () => {
  const pairs = await open();
  const refuse = (given: ProjectFile, message: RegExp) =>
    assert.throws(() => pairs.resolve(given, "mine", agent("qwen-code")), {
      code: "unpriced_model",
      message,
    });
  const unpriced = { model: "gpt-9", provider: "openai" as const };
  refuse(file({ fallbacks: [unpriced] }), /^gpt-9 has no price in CAD; add models\./);
  const { price: _, ...bare } = own;
  const models = { mine: { normal: bare, thinking: own } };
  refuse({ ...file({}), models }, /^m has no price in CAD/);
  // A currency that no rate leads to.
  const known = { model: "o3", provider: "openai" as const };
  refuse(file({ fallbacks: [known] }, "JPY"), /^o3 has no price in JPY/);
});

test("a wrong price in a project's file is told by its field", async () => {
  const pairs = await open();
  const gpu = {
    rate_per_gpu_hour: "3.50",
    gpus: 1,
    input_tokens_per_second: "1000",
    output_tokens_per_second: "0",
    utilisation: "0.5",
    source: "ours",
  };
  const message =
    /^models\.mine\.normal\.price\.gpu\.output_tokens_per_second: must be more than 0$/;
  const given = file({ price: { gpu } });
  assert.throws(() => pairs.check(given), { code: "invalid_request", message });
});

test("a rotated key is in force without a restart, for the installation's and a project's", async () => {
  const keys = new Map([["OPENAI_API_KEY", "sk-1"]]);
  const read = (name: string) => keys.get(name) ?? null;
  const installed = () => {
    const apiKey = read("OPENAI_API_KEY");
    return apiKey === null ? [] : [{ ...OPENAI, apiKey }];
  };
  const pairs = createCatalogPairs(await loadCatalog(MODELS), installed, read, clock);
  const keyed = file({ api_key_env: "MY_SERVER_API_KEY" });
  pairs.learn(keyed);
  assert.equal(pairs.provider("openai")?.apiKey, "sk-1");
  assert.equal(pairs.provider("demo/mine-normal"), null, "it has no key yet");

  keys.set("OPENAI_API_KEY", "sk-2").set("MY_SERVER_API_KEY", "own");
  assert.equal(pairs.provider("openai")?.apiKey, "sk-1");
  pairs.refresh();
  assert.equal(pairs.provider("openai")?.apiKey, "sk-2");
  assert.equal(pairs.provider("demo/mine-normal")?.apiKey, "own");

  keys.clear();
  pairs.refresh();
  assert.equal(pairs.provider("openai"), null);
  assert.equal(pairs.provider("demo/mine-normal"), null);
});

test("an engine of ours limits the context, and one that failed is passed over", async () => {
  const pairs = await open();
  const demo = file({}, "CAD");
  const engine = (pair: string, away: EngineAway | null, contextTokens: number): ServedEngine => ({
    ...{ pair, side: "normal", model: "qwen2.5-coder-14b-instruct", away, contextTokens },
    ...{ provider: `served/${pair}/normal`, baseUrl: "http://127.0.0.1:9", wires: null },
  });
  const thinking: ServedEngine = {
    ...engine("coder-14b", null, 16_384),
    ...{ side: "thinking", model: "deepseek-r1-distill-qwen-14b" },
  };
  const granted = (...engines: ServedEngine[]) => {
    pairs.serve({ engines: [...engines, thinking], prices: [] });
    const [normal] = pairs.resolve(demo, "coder-14b", agent("qwen-code")).models;
    return [normal.provider, normal.contextTokens];
  };
  const asleep = { detail: "asleep", retryAfterMs: 1, isComing: true };
  const failed = { ...asleep, isComing: false };
  const [own, other] = ["served/coder-14b/normal", "served/other/normal"];
  const there = engine("other", null, 8_192);
  assert.deepEqual(granted(engine("coder-14b", null, 16_384), there), [own, 16_384]);
  assert.deepEqual(granted(engine("coder-14b", asleep, 16_384), there), [own, 16_384]);
  assert.deepEqual(granted(engine("coder-14b", failed, 16_384), there), [other, 8_192]);
  assert.deepEqual(granted(engine("coder-14b", failed, 16_384)), [own, 16_384]);
  const onRay = { ...engine("coder-14b", null, 16_384), wires: ["openai.chat"] } as const;
  assert.deepEqual(granted(onRay), [own, 16_384]);
  assert.equal(pairs.provider("served/coder-14b/normal")?.hasTokenCount, false);
  assert.throws(() => pairs.resolve(demo, "coder-14b", agent("claude-code")), {
    code: "invalid_request",
    message: /claude-code speaks anthropic.messages, and Ray's ingress openai.chat/,
  });
});

test("each side of a pair has its own address, where two are given", async () => {
  const at = (name: string): ProviderAddress => ({
    ...{ name, baseUrl: `http://${name}:8000/v1`, apiKey: null, authStyle: "bearer" },
    ...{ isHosted: false, hasContinuousUsage: true, hasTokenCount: true },
  });
  const providers = [at("vllm-normal"), at("vllm-thinking")];
  const catalog = await loadCatalog(MODELS);
  const pairs = createCatalogPairs(
    catalog,
    () => providers,
    () => null,
    clock,
  );
  const granted = () =>
    pairs
      .resolve(file({}, "CAD"), "coder-7b", agent("qwen-code"))
      .models.map(({ provider, upstreamName }) => [provider, upstreamName]);
  const [normal, thinking] = [
    "Qwen/Qwen2.5-Coder-7B-Instruct",
    "deepseek-ai/DeepSeek-R1-Distill-Qwen-7B",
  ];
  assert.deepEqual(granted(), [
    ["vllm-normal", normal],
    ["vllm-thinking", thinking],
  ]);
  const listed = () => pairs.list(null).find(({ name }) => name === "coder-7b")?.is_available;
  assert.equal(listed(), true);
  providers.pop();
  pairs.refresh();
  assert.equal(listed(), false);
  // One address for whatever has none of its own.
  providers.push(at("vllm"));
  pairs.refresh();
  assert.deepEqual(granted(), [
    ["vllm-normal", normal],
    ["vllm", thinking],
  ]);
});

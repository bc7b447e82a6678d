/**
 * Goal: the bars of a plan hold what the plan says, on the GPUs that it says, and nothing is added
 * up that is never in memory at once.
 *
 * Method: the fixture's plans, one of each residency.
 */
import assert from "node:assert/strict";
import { resolve } from "node:path";
import { before, test } from "node:test";
import { loadCatalog } from "../../../models/catalog.ts";
import { loadHardware } from "../../../models/hardware.ts";
import { planPair } from "../../../models/plan.ts";
import type { ModelPlan, PairPlan } from "../../../orchestrator/contract/models.ts";
import { type FixtureModels, openFixtureModels } from "../../support/ui-fixture-models.ts";

interface FitBar {
  label: string;
  engines: ModelPlan[];
  usedBytes: number;
  freeBytes: number;
  overBytes: number;
  lacksCache: boolean;
}
interface PlanFacts {
  adviceWish(text: string): Record<string, string> | null;
  barText(bar: FitBar): string;
  fitBars(plan: PairPlan): FitBar[];
  gib(bytes: number): string;
  gpusText(gpus: readonly number[], count: number): string;
  planRequest(wish: Record<string, string>, rateCurrency: string): object;
  residencyText(plan: PairPlan): string;
  speedText(perSecond: number): string;
}
const path = new URL("../../../dashboards/web/app/plan-facts.js", import.meta.url);
const facts: PlanFacts = await import(path.href);
const { adviceWish, barText, fitBars, gib, gpusText, planRequest, residencyText, speedText } =
  facts;

let models: FixtureModels;

before(async () => {
  models = await openFixtureModels(0);
});

test("models together share a bar, and its parts and what is free are the GPU's memory", () => {
  const plan = models.plan({ pair: "coder-7b", gpu: "h100", gpu_count: 1 });
  const [bar, ...others] = fitBars(plan);
  assert.ok(bar);
  assert.deepEqual(others, []);
  assert.equal(bar.usedBytes + bar.freeBytes, plan.gpu_memory_bytes);
  assert.equal(bar.overBytes, 0);
  const one =
    "weights 14.2 GiB, KV cache 18.6 GiB, activations 1.4 GiB, CUDA graphs 0.6 GiB, framework 0.9 GiB";
  assert.equal(barText(bar), `GPU 0: normal: ${one}; thinking: ${one}; 7.9 GiB free`);
  assert.equal(residencyText(plan), "Both models stay loaded, side by side on the GPU");
});

test("models apart have a bar each; GPUs that hold the same have one, those of nobody too", () => {
  const plan = models.plan({ pair: "coder-14b", gpu: "l40s", gpu_count: 8 });
  const [normal, thinking] = plan.models;
  assert.ok(normal && thinking);
  Object.assign(normal, { gpus: [0, 1] });
  Object.assign(thinking, { gpus: [2, 3] });
  assert.deepEqual(
    fitBars(plan).map(({ label, engines }) => [label, engines.map(({ side }) => side)]),
    [
      ["GPUs 0–1, each", ["normal"]],
      ["GPUs 2–3, each", ["thinking"]],
      ["GPUs 4–7, each", []],
    ],
  );
  assert.equal(
    residencyText(plan),
    "Both models stay loaded, on GPUs of their own: normal on GPUs 0–1, thinking on GPUs 2–3",
  );
});

test("models that take turns, or do not fit, are never added up", () => {
  const turns = fitBars(models.plan({ pair: "coder-32b", gpu: "h100", gpu_count: 1 }));
  assert.deepEqual(
    turns.map(({ label, overBytes }) => [label, overBytes]),
    [
      ["GPU 0, while normal works", 0],
      ["GPU 0, while thinking works", 0],
    ],
  );
  const [none] = fitBars(models.plan({ pair: "coder-32b", gpu: "rtx-4090", gpu_count: 1 }));
  assert.ok(none);
  assert.equal(none.label, "GPU 0, if normal is alone");
  assert.equal(gib(none.overBytes), "40.3 GiB");
  assert.match(barText(none), /; 40\.3 GiB too much$/);
});

test("a wish is asked for as it was typed; a rate is in the GPU's currency", () => {
  assert.deepEqual(planRequest({ pair: "a", gpu: "h100", count: "2", context: "" }, "USD"), {
    ...{ pair: "a", gpu: "h100", gpu_count: 2 },
  });
  assert.deepEqual(
    planRequest({ pair: "a", gpu: "h100", context: "much", rate: "2", utilisation: "0.3" }, "CAD"),
    {
      ...{ pair: "a", gpu: "h100", gpu_count: 1, context_tokens: "much" },
      ...{ rate_per_gpu_hour: "2", utilisation: "0.3", currency: "CAD" },
    },
  );
});

test("advice of the planner can be followed, whatever it changes", async () => {
  const folder = resolve(import.meta.dirname, "../../../models");
  const catalog = await loadCatalog(folder);
  const pair = catalog.pairs.get("coder-32b");
  assert.ok(pair);
  const { advice } = planPair(
    { pair: "coder-32b", gpu: "rtx-4090", gpu_count: 1 },
    {
      ...{ pair, cards: catalog.cards, book: catalog.book, pairs: catalog.pairs },
      gpus: await loadHardware(folder),
    },
  );
  assert.ok(advice.length > 1);
  for (const text of advice) assert.ok(adviceWish(text), text);
  assert.deepEqual(adviceWish("2 x rtx-4090 (--gpu 2xrtx-4090): alternate"), {
    ...{ count: "2", gpu: "rtx-4090" },
  });
  assert.deepEqual(adviceWish("a context of 8192 tokens (--context 8192): apart"), {
    context: "8192",
  });
  assert.deepEqual(adviceWish("the smaller pair coder-14b: together"), { pair: "coder-14b" });
  assert.equal(adviceWish("fp8 and bf16 weights (--quantisation fp8,bf16)"), null);
});

test("GPUs and speeds as people read them", () => {
  assert.equal(gpusText([0, 1, 2, 5], 8), "GPUs 0–2, 5, each");
  assert.equal(gpusText([], 4), "Each GPU");
  assert.deepEqual([51.34, 99.96, 4_210.4].map(speedText), ["51.3", "100", "4,210"]);
});

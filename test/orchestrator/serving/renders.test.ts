/**
 * Goal: a pair of the catalogue is rendered in every form, from the weights that are in the store.
 * Method: the installation's own catalogue and planner; a store that has one model.
 */
import assert from "node:assert/strict";
import { join } from "node:path";
import test from "node:test";
import { loadCards } from "../../../models/cards.ts";
import { loadCatalog } from "../../../models/catalog.ts";
import { loadHardware } from "../../../models/hardware.ts";
import type { RenderForm } from "../../../orchestrator/contract/model-render.ts";
import { Problem } from "../../../orchestrator/problem.ts";
import { createPlanner } from "../../../orchestrator/serving/planner.ts";
import { createRenders } from "../../../orchestrator/serving/renders.ts";

const MODELS = join(import.meta.dirname, "../../../models");
const ROOT = "/data/shared/model-weights";
const CODER = "qwen2.5-coder-14b-instruct";

const [catalog, cards, gpus] = await Promise.all([
  loadCatalog(MODELS),
  loadCards(MODELS),
  loadHardware(MODELS),
]);
const renders = createRenders({
  planner: createPlanner({ catalog, gpus, own: async () => null, agents: [] }),
  cards,
  weights: {
    find: async (model, quantisation) =>
      model === CODER ? { dir: `${ROOT}/${model}/${quantisation}/0123`, revision: "0123" } : null,
  },
  weightsRoot: ROOT,
  servingDir: join(MODELS, "serving"),
  python: "python3",
});
const PLAN = { pair: "14b", gpu: "h100", gpu_count: 2 };

for (const [as, weights] of [
  ["vllm", `${ROOT}/${CODER}/bf16/0123`],
  ["ray", `${ROOT}/${CODER}/bf16/0123`],
  ["nomad", `/weights/${CODER}/bf16/0123`],
  ["compose", `/weights/${CODER}/bf16/0123`],
] as const satisfies [RenderForm, string][]) {
  test(`As ${as}: the weights that are here, and word of those that are not`, async () => {
    const rendered = await renders.render({ plan: PLAN, as });
    assert.deepEqual([rendered.pair, rendered.as], ["coder-14b", as]);
    const text = rendered.files.map((file) => file.text).join("\n");
    assert.ok(text.includes(weights), text);
    assert.match(text, /deepseek-ai\/DeepSeek-R1-Distill-Qwen-14B/);
    assert.match(rendered.notes.join("\n"), /weights of deepseek-r1-distill-qwen-14b are not here/);
    assert.ok(rendered.commands.length > 0);
  });
}

test("A Nomad job brings its plugin, what that imports and its template, not Ray's application", async () => {
  const { files } = await renders.render({ plan: PLAN, as: "nomad" });
  const [normal, thinking] = files.map(({ text }) => text);
  const own = ["qwen25_coder_tool_parser.py", "tool_call_json.py", "qwen2.5-coder.jinja"];
  for (const name of own) {
    assert.ok(normal?.includes(`"${name}": "`), name);
  }
  for (const text of [normal, thinking]) assert.ok(!text?.includes("build_openai_app"));
});

for (const [name, plan, message] of [
  ["a pair that nobody knows", { ...PLAN, pair: "coder-15b" }, /coder-1/],
  ["a GPU that nobody knows", { ...PLAN, gpu: "h1000" }, /h100/],
  ["a pair that does not fit", { ...PLAN, pair: "32b", gpu: "l4", gpu_count: 1 }, /Instead/],
] as const) {
  test(`Refused: ${name}`, async () => {
    await assert.rejects(
      renders.render({ plan, as: "vllm" }),
      (error) =>
        error instanceof Problem && error.code === "invalid_request" && message.test(error.message),
    );
  });
}
